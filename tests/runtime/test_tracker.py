"""Ids: the assignment against scipy, and persons who walk, cross, vanish and come back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from autopose.boxes import contained
from autopose.poses import Poses
from autopose.runtime.assignment import assign
from autopose.runtime.followed import Track
from autopose.runtime.similarity import keep_best_poses, made_of, oks
from autopose.runtime.tracker import Tracker


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_against_scipy(rows: int, columns: int, seed: int) -> None:
    cost = np.random.default_rng(seed).integers(0, 20, (rows, columns)).astype(float)
    pairs = assign(cost)
    assert len(pairs) == min(rows, columns) == len({r for r, _ in pairs}) == len({c for _, c in pairs})
    best = cost[linear_sum_assignment(cost)].sum()
    assert sum(cost[pair] for pair in pairs) == pytest.approx(best)


def _poses(figures: Any, corners: Sequence[tuple[float, float]], score: float = 0.9) -> Poses:
    joints = np.array([figures.at(x, y) for x, y in corners], np.float32).reshape(-1, 17, 2)
    boxes = np.concatenate([joints.min(1), joints.max(1)], -1) if len(corners) else np.zeros((0, 4), np.float32)
    count = len(corners)
    return Poses(boxes, np.full(count, score), joints, np.full((count, 17), 0.8), image_size_wh=(640, 480))


def _corner(poses: Poses, track: int) -> float:
    assert poses.ids is not None
    return float(poses.boxes[poses.ids.tolist().index(track), 0])


def _ids(poses: Poses) -> list[int]:
    assert poses.ids is not None
    found: list[int] = poses.ids.tolist()
    return found


def test_ids_hold_while_two_walk_past_each_other(figures: Any) -> None:
    tracker = Tracker()
    for t in range(60):
        poses = tracker.update(_poses(figures, [(50 + 6 * t, 100), (410 - 6 * t, 130)][:: (-1) ** t]), t / 25)
        assert poses.ids is not None
        assert poses.ids.tolist() == [1, 2]
        # Each id stays with the one who walks on; their boxes begin at the leftmost joint, 0.02 of 60 px further right.
        assert [_corner(poses, 1), _corner(poses, 2)] == pytest.approx([51.2 + 6 * t, 411.2 - 6 * t], abs=0.01)


def test_a_person_hidden_for_a_while_keeps_the_id(figures: Any) -> None:
    tracker = Tracker(lost_s=1.5)
    for t in range(50):
        hidden = 20 <= t < 30
        poses = tracker.update(_poses(figures, [] if hidden else [(50 + 4 * t, 100)]), t / 25)
        assert len(poses) == (0 if hidden else 1)
        assert poses.ids is not None
        assert hidden or poses.ids.tolist() == [1]


def test_a_person_gone_for_long_is_someone_new(figures: Any) -> None:
    tracker = Tracker(lost_s=1.0)
    tracker.update(_poses(figures, [(50, 100)]), 0.0)
    tracker.update(_poses(figures, []), 1.5)
    ids = tracker.update(_poses(figures, [(50, 100)]), 3.0).ids
    assert ids is not None
    assert ids.tolist() == [2]


@pytest.mark.parametrize("score", [0.9, 0.5])
def test_ids_hold_in_a_time_lapse(figures: Any, score: float) -> None:
    """A frame every five seconds: who stands where somebody stood in the frame before is taken for the same person."""
    tracker = Tracker()
    found = [tracker.update(_poses(figures, [(50, 100), (300 + 4 * t, 100)], score), 5.0 * t).ids for t in range(8)]
    assert [[] if ids is None else ids.tolist() for ids in found[3:]] == [[1, 2]] * 5


def test_doubtful_poses_continue_tracks_but_start_none(figures: Any) -> None:
    tracker = Tracker(start_score=0.5)
    assert len(tracker.update(_poses(figures, [(50, 100)], 0.35), 0.0)) == 0
    tracker.update(_poses(figures, [(50, 100)], 0.9), 0.1)
    assert len(tracker.update(_poses(figures, [(52, 100)], 0.35), 0.2)) == 1


def test_empty_frames_have_ids_too(figures: Any) -> None:
    poses = Tracker().update(_poses(figures, []), 0.0)
    assert poses.ids is not None
    assert poses.ids.shape == (0,)


def test_expected_persons_are_moved_on(figures: Any) -> None:
    tracker = Tracker()
    for t in range(10):
        tracker.update(_poses(figures, [(50 + 5 * t, 100)]), t / 25)
    expected = tracker.expected(10 / 25)
    truth = figures.at(50 + 5 * 10, 100)
    assert np.abs(expected.keypoints[0] - truth).max() < 1.5
    np.testing.assert_allclose(expected.boxes[0], [*truth.min(0), *truth.max(0)], atol=1.5)
    tracker = Tracker()
    for t in range(2):  # two sightings tell most of the speed
        tracker.update(_poses(figures, [(50 + 20 * t, 100)]), t / 25)
    assert _corner(tracker.expected(2 / 25), 1) == pytest.approx(51.2 + 40, abs=8)


def test_a_guessed_box_goes_where_the_joints_go(figures: Any) -> None:
    track = Track.begin(1, _poses(figures, [(50, 100)]), 0.0)
    guess = _poses(figures, [(60, 100)])
    guess.keypoints[0, 9] += 200  # a wrist flies off
    track.follow(replace(guess, boxes=track.pose.boxes), 0.04, guessed=True, sure=False)
    np.testing.assert_allclose(track.pose.boxes, _poses(figures, [(60, 100)]).boxes, atol=1e-3)


def test_a_track_measures_a_person_by_the_largest_boxes(figures: Any) -> None:
    """A box often shows a part of somebody, seldom more than all."""
    track = Track.begin(1, _poses(figures, [(50, 100)]), 0.0)
    half = _poses(figures, [(50, 100)])
    half.boxes[0, 3] -= 50
    for t in range(10):
        track.follow(half, t / 25, guessed=False, sure=True)
    assert track.usual_px == pytest.approx(110 * 0.96, rel=0.2)


def test_guesses_keep_the_box_in_size_and_start_nobody(figures: Any) -> None:
    tracker = Tracker(bridge_s=0.1)
    tracker.update(_poses(figures, [(50, 100)]), 0.0)
    stray = _poses(figures, [(55, 100), (300, 100)])
    stray.keypoints[0, 9] += 200  # a wrist flies off
    found = tracker.update(stray, 0.04, guessed=np.array([True, True]))
    assert found.ids is not None
    assert found.ids.tolist() == [1]
    width = tracker.expected(0.08).boxes[0, 2] - tracker.expected(0.08).boxes[0, 0]
    assert width == pytest.approx(60 * 0.96, abs=0.1)
    tracker.update(_poses(figures, [(55, 100)]), 0.08, guessed=np.array([True]))
    assert len(tracker.expected(0.09)) == 1
    assert len(tracker.expected(0.12)) == 0  # the last detection is too long ago


def test_a_second_sighting_starts_no_track(figures: Any) -> None:
    tracker = Tracker()
    tracker.update(_poses(figures, [(50, 100)]), 0.0)
    both = _poses(figures, [(50, 100), (53, 104)])
    assert len(tracker.update(both, 0.04)) == 1
    both.keypoints[1] += 300  # whatever joints it has: the box is the same
    assert len(tracker.update(both, 0.08)) == 1


def test_half_a_person_is_no_second_one(figures: Any) -> None:
    tracker = Tracker()
    tracker.update(_poses(figures, [(50, 100)]), 0.0)
    both = _poses(figures, [(50, 100), (50, 100)])
    both.boxes[1, 3] -= 60  # cut below the hips; the legs are invented, and the network knows
    both.keypoints[1, 11:] -= (0, 40)
    both.keypoint_scores[1, 11:] = 0.2
    assert contained(both.boxes[:1], both.boxes[1:])[0, 0] == pytest.approx(1)
    assert len(tracker.update(both, 0.04)) == 1
    both.keypoints[1, :11] += (25, 20)  # now it is someone else, close in front
    assert len(tracker.update(both, 0.08)) == 2


def test_one_box_around_two_persons_is_no_third(figures: Any) -> None:
    tracker = Tracker()
    tracker.update(_poses(figures, [(50, 100), (105, 120)]), 0.0)
    three = _poses(figures, [(50, 100), (105, 120), (80, 110)])
    three.boxes[2] = (50, 100, 165, 230)
    assert len(tracker.update(three, 0.04)) == 3  # joints of its own: a third person in front
    tracker = Tracker()
    tracker.update(_poses(figures, [(50, 100), (105, 120)]), 0.0)
    three.keypoints[2, :11], three.keypoints[2, 11:] = three.keypoints[0, :11], three.keypoints[1, 11:]
    assert len(tracker.update(three, 0.04)) == 2


def test_joints_of_several_persons(figures: Any) -> None:
    known, mixed = _poses(figures, [(50, 100), (300, 120)]), _poses(figures, [(50, 100), (50, 100), (50, 100)])
    mixed.keypoints[0, 5:] = known.keypoints[1, 5:]
    mixed.keypoints[1, :4] += 500
    mixed.keypoint_scores[2, 2:] = 0.1
    np.testing.assert_allclose(made_of(mixed, known), [1, 13 / 17, 0], atol=1e-6)
    np.testing.assert_array_equal(made_of(mixed, known[:0]), [0, 0, 0])


def test_a_thing_that_stands_is_looked_at_now_and_then_only(figures: Any) -> None:
    tracker = Tracker()
    bush = _unsure(figures, [(50, 100)], 0.35, 0.15)
    for t in range(3):
        assert not tracker.dismissed(bush.boxes, t / 25).any()
        tracker.update(bush, t / 25)
    assert len(tracker.expected(3 / 25)) == 0
    beside = bush.boxes + np.array([20, 0, 20, 0], np.float32)
    assert tracker.dismissed(np.concatenate([bush.boxes, beside]), 3 / 25).tolist() == [True, False]
    assert not tracker.dismissed(bush.boxes, 2 / 25 + 0.52).any()
    for t in range(3):  # a person, not yet sure of an id, is looked at all the time
        found = tracker.update(_unsure(figures, [(300, 100)], 0.4, 0.6), 0.6 + t / 25)
        assert not tracker.dismissed(found.boxes, 0.6 + (t + 1) / 25).any()
        assert len(tracker.expected(0.6 + (t + 1) / 25)) == 1
    assert len(found) == 1


def _unsure(figures: Any, corners: Sequence[tuple[float, float]], box: float, joints: float) -> Poses:
    poses = _poses(figures, corners, box)
    poses.keypoint_scores[:] = joints
    return poses


def test_what_hardly_looks_like_a_person_gets_no_id(figures: Any) -> None:
    tracker = Tracker()
    for t in range(20):  # a bush: the detector insists, the pose network finds no joints
        assert len(tracker.update(_unsure(figures, [(50, 100)], 0.35, 0.15), t / 25)) == 0
    for t in range(20, 30):  # believable, but not at first sight
        found = tracker.update(_unsure(figures, [(300, 200)], 0.4, 0.6), t / 25)
        assert len(found) == (0 if t < 22 else 1)
    assert found.ids is not None
    assert found.ids.tolist() == [1]  # who was doubted has taken no number
    for t in range(30, 40):  # somebody steps into the place of the bush
        found = tracker.update(_unsure(figures, [(50, 100)], 0.5, 0.8), t / 25)
    assert _ids(found) == [2]


def test_who_goes_behind_a_thing_is_lost_and_not_the_thing_found(figures: Any) -> None:
    """Joints fade as the cone hides the person; the detector stays sure of the box, in the end the cone's."""
    tracker = Tracker()
    fading = [0.85] * 10 + [0.6, 0.48, 0.35, 0.28, 0.24, 0.2] + [0.13] * 6
    shown = [
        len(tracker.update(_unsure(figures, [(100, 100)], 0.5, joints), t / 25)) for t, joints in enumerate(fading)
    ]
    assert shown[:15] == [1] * 15  # half hidden, and still this person
    assert shown[-6:] == [0] * 6
    back = tracker.update(_unsure(figures, [(104, 100)], 0.6, 0.8), len(fading) / 25)
    assert back.ids is not None
    assert back.ids.tolist() == [1]


def test_a_track_does_not_slide_onto_something_else(figures: Any) -> None:
    tracker = Tracker()
    for t in range(5):
        tracker.update(_poses(figures, [(50, 100)]), t / 25)
    assert len(tracker.update(_unsure(figures, [(55, 110)], 0.2, 0.35), 0.2)) == 0  # less than half of the usual 0.8
    assert len(tracker.update(_unsure(figures, [(55, 110)], 0.2, 0.6), 0.24)) == 1


@pytest.mark.parametrize(
    ("lost_at", "back_at", "gap_s", "same"),
    [
        ((200, 150), (290, 150), 1.0, True),  # 0.8 heights off in a second
        ((200, 150), (420, 150), 1.0, False),  # 2 heights off: nobody walks so fast
        ((200, 150), (290, 150), 2.5, False),  # forgotten
        ((0, 150), (70, 150), 1.0, False),  # left through the side of the picture
        ((200, 150), (200, 368), 1.9, False),  # came in from below
    ],
)
def test_who_appears_where_a_lost_person_may_be(
    figures: Any, lost_at: tuple[float, float], back_at: tuple[float, float], gap_s: float, same: bool
) -> None:
    tracker = Tracker()
    for t in range(10):
        tracker.update(_poses(figures, [lost_at]), t / 25)
    ids = tracker.update(_poses(figures, [back_at]), 9 / 25 + gap_s).ids
    assert ids is not None
    assert ids.tolist() == [1 if same else 2]


@pytest.mark.parametrize("change", ["hardly a joint", "half as tall"])
def test_who_looks_otherwise_is_not_the_lost_one(figures: Any, change: str) -> None:
    tracker = Tracker()
    for t in range(10):
        tracker.update(_poses(figures, [(200, 150)]), t / 25)
    other = _poses(figures, [(240, 150)])
    if change == "half as tall":
        other.boxes[0, 2:] = other.boxes[0, :2] + (27, 50)
    else:
        other.keypoint_scores[:] = 0.4  # of the usual 0.8
    assert _ids(tracker.update(other, 1.36)) == [2]


def test_a_lost_id_is_given_back_once_and_only_to_who_was_seen_for_long(figures: Any) -> None:
    tracker = Tracker()
    for t in range(10):
        tracker.update(_poses(figures, [(200, 150)]), t / 25)
    assert _ids(tracker.update(_poses(figures, [(270, 150)]), 1.36)) == [1]
    # The second comes from where the first was lost, and is seen twice only before both are lost.
    for time_s in (1.4, 1.44):
        assert _ids(tracker.update(_poses(figures, [(270, 150), (130, 150)]), time_s)) == [1, 2]
    assert _ids(tracker.update(_poses(figures, [(340, 150)]), 2.4)) == [1]
    assert _ids(tracker.update(_poses(figures, [(340, 150), (60, 150)]), 2.44)) == [1, 3]


def test_who_was_just_seen_comes_before_who_was_lost(figures: Any) -> None:
    """A pose a little nearer to where somebody was lost a second ago is the neighbour's, who was there till now."""
    tracker = Tracker()
    tracker.update(_poses(figures, [(100, 100), (148, 100)]), 0.0)
    tracker.update(_poses(figures, [(148, 100)]), 0.5)
    tracker.update(_poses(figures, [(148, 100)]), 1.0)
    assert _ids(tracker.update(_poses(figures, [(123, 100)]), 1.04)) == [2]


def test_of_two_tracks_on_one_persons_joints_the_older_is_shown(figures: Any) -> None:
    tracker = Tracker()
    for t in range(3):
        assert _ids(tracker.update(_poses(figures, [(50, 100), (105, 120)]), t / 25)) == [1, 2]
    hidden = _poses(figures, [(50, 100), (105, 120)])
    hidden.keypoints[1] = hidden.keypoints[0]
    assert _ids(tracker.update(hidden, 3 / 25)) == [1]
    assert _ids(tracker.update(_poses(figures, [(50, 100), (105, 120)]), 4 / 25)) == [1, 2]


def test_a_box_that_is_still_doubted_and_slides_onto_a_known_person_is_no_second_one(figures: Any) -> None:
    tracker = Tracker()
    for t, x in enumerate([85, 72, 57]):
        both = _poses(figures, [(50, 100), (x, 100)])
        both.box_scores[1], both.keypoint_scores[1] = 0.4, 0.6  # believable, after three sightings
        assert _ids(tracker.update(both, t / 25)) == [1]


def test_who_comes_forth_half_hidden_is_still_the_same(figures: Any) -> None:
    tracker = Tracker()
    for t in range(10):
        tracker.update(_poses(figures, [(200, 150)]), t / 25)
    for t, joints in enumerate([0.3, 0.7, 0.7]):
        found = tracker.update(_unsure(figures, [(270, 150)], 0.4, joints), 1.4 + t / 25)
    assert found.ids is not None
    assert found.ids.tolist() == [1]


@pytest.mark.parametrize(
    ("box", "person"),
    [((225, 215, 255, 256), 1), ((120, 20, 360, 460), 2)],
    ids=["a leg beside the tree", "the tree"],
)
def test_what_is_seen_in_the_place_of_a_lost_person(
    figures: Any, box: tuple[float, float, float, float], person: int
) -> None:
    tracker = Tracker()
    for t in range(10):
        tracker.update(_poses(figures, [(200, 150)]), t / 25)
    seen = _unsure(figures, [(200, 150)], 0.9, 0.3)
    seen.boxes[0] = box
    seen.keypoints[:] = np.random.default_rng(0).uniform(box[:2], box[2:], (17, 2))
    ids = tracker.update(seen, 12 / 25).ids
    assert ids is not None
    assert ids.tolist() == [person]


def test_oks_against_pycocotools(figures: Any) -> None:
    coco_module = pytest.importorskip("pycocotools.cocoeval")
    a, b = _poses(figures, [(50, 100)]), _poses(figures, [(54, 103)])
    area = 0.53 * 60 * 110 * 0.96 * 0.96  # of the mean box: joints span 0.02-0.98 of the figure
    evaluator = coco_module.COCOeval.__new__(coco_module.COCOeval)
    evaluator.params = coco_module.Params(iouType="keypoints")
    evaluator.params.imgIds, evaluator.params.catIds, evaluator.params.maxDets = [1], [1], [20]
    truth = np.concatenate([b.keypoints[0], np.full((17, 1), 2)], -1).ravel().tolist()
    guess = np.concatenate([a.keypoints[0], np.ones((17, 1))], -1).ravel().tolist()
    evaluator._gts = {(1, 1): [{"keypoints": truth, "area": area, "bbox": [50, 100, 60, 110]}]}
    evaluator._dts = {(1, 1): [{"keypoints": guess, "score": 1.0}]}
    expected = evaluator.computeOks(1, 1)[0, 0]
    assert oks(a, b)[0, 0] == pytest.approx(expected, abs=1e-3)


def test_the_same_person_twice_becomes_one(figures: Any) -> None:
    assert len(keep_best_poses(_poses(figures, [(50, 100), (50.5, 100), (200, 100)]))) == 2


def test_frames_that_share_a_time(figures: Any) -> None:
    """A container's clock may be coarser than its frames; somebody doubtful is not looked for where nobody is."""
    tracker = Tracker()
    doubtful = _poses(figures, [(50, 100)], score=0.5)
    doubtful.keypoint_scores[:] = 0.1
    assert len(tracker.update(doubtful, 0.04)) == 0
    assert len(tracker.update(_poses(figures, []), 0.04)) == 0
    assert len(tracker.update(_poses(figures, [(50, 100)]), 0.04)) == 1
