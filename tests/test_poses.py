"""Poses: validation, selection and what is printed and written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.drawing import LEFT, MIDDLE, RIGHT, TRACK_COLOURS, side_colour
from autopose.poses import Poses, person_scores
from autopose.results import frame_record, load_results, results_header


def _f32(value: Any) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)


def _poses(count: int = 3) -> Poses:
    rng = np.random.default_rng(0)
    return Poses(
        _f32(rng.uniform(0, 50, (count, 4))),
        _f32(rng.uniform(0, 1, count)),
        _f32(rng.uniform(0, 99, (count, 17, 2))),
        _f32(rng.uniform(0, 1, (count, 17))),
        ids=np.arange(count) + 7,
        image_size_wh=(640, 480),
        source="a.jpg",
    )


def test_a_comparison_with_ids_that_are_none_selects_nobody_by_mistake() -> None:
    untracked = replace(_poses(), ids=None)
    with pytest.raises(IndexError, match=r"False selects no persons.*no ids"):
        untracked[untracked.ids == 7]


def test_selection_keeps_the_person_axis() -> None:
    poses = _poses()
    assert len(poses[1]) == len(poses[-1]) == 1
    assert poses[-1].ids is not None
    assert poses[-1].ids.tolist() == [9]
    np.testing.assert_array_equal(poses[[2, 0]].boxes, poses.boxes[[2, 0]])
    assert len(poses[poses.box_scores > 2]) == 0
    assert [len(one) for one in poses] == [1, 1, 1]
    with pytest.raises(IndexError):
        poses[3]


def test_scores_by_hand() -> None:
    joints = _f32([[0.8, 0.4, 0.15] + [0.1] * 14, [0.2] * 17, [0.1] * 17, [0.9] * 17])
    poses = Poses(_f32(np.zeros((4, 4))), _f32([0.25, 1, 1, -0.01]), _f32(np.zeros((4, 17, 2))), joints)
    assert poses.scores.tolist() == pytest.approx([0.5 * (0.8 + 0.4) / 2, 0.2, 0, 0])
    assert person_scores(poses.box_scores, joints, 0, 1)[0] == pytest.approx(0.25 * (0.8 + 0.4 + 0.15 + 14 * 0.1) / 17)
    assert Poses.empty().scores.shape == (0,)


def test_persons_are_cut_out_with_a_quarter_of_the_longer_side_and_within_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    boxes = _f32([[30, 20, 40, 40], [-9, 50, 5, 70], [100, 100, 110, 110]])
    poses = Poses(boxes, _f32(np.ones(3)), _f32(np.zeros((3, 17, 2))), _f32(np.ones((3, 17))))
    cuts, expected = poses.crop(image, margin=0.25), [image[15:45, 25:45], image[45:, :10], image[59:, 79:]]
    for cut, part in zip(cuts, expected, strict=True):
        np.testing.assert_array_equal(cut, part)
        assert not np.shares_memory(cut, image)


def test_refuses_arrays_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match=r"Poses.keypoints has shape \(1, 16, 2\); expected \(1, 17, 2\)"):
        Poses(_f32(np.zeros((1, 4))), _f32([1]), _f32(np.zeros((1, 16, 2))), _f32(np.zeros((1, 17))))
    with pytest.raises(ValueError, match=r"Poses.box_scores"):
        Poses(_f32(np.zeros((2, 4))), _f32([1]), _f32(np.zeros((2, 17, 2))), _f32(np.zeros((2, 17))))
    with pytest.raises(ValueError, match=r"Poses.ids has shape \(1,\); expected \(0,\)"):
        Poses.empty(ids=[1])
    with pytest.raises(ValueError, match="carry no image"):
        Poses.empty().plot()


def test_notebooks_show_the_picture_and_the_text_where_there_is_none() -> None:
    picture = np.full((600, 2000, 3), 128, np.uint8)
    poses = replace(_poses(2), image=picture, image_size_wh=(2000, 600))
    content = poses._repr_jpeg_()
    assert content is not None
    shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (308, 1024, 3)
    drawn = cv2.resize(poses.plot(), (1024, 308), interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - drawn).mean() < 3 < np.abs(drawn.astype(int) - 128).max()
    assert replace(poses, image=None)._repr_jpeg_() is None


def test_repr_and_json() -> None:
    poses = _poses()
    assert repr(poses).startswith("Poses(3 persons, coco17, image 640x480)\n  #7 box ")
    assert f"joints {(poses.keypoint_scores[1] >= 0.2).sum()}/17, mean" in repr(poses).splitlines()[2]
    assert repr(_poses(7)).splitlines()[6:] == ["  ... 2 more"]
    assert poses.to_json(indent=1).startswith('{\n "source"')
    content = json.loads(poses.to_json())
    assert content["source"] == "a.jpg"
    assert [person["id"] for person in content["persons"]] == [7, 8, 9]
    read = np.array([person["keypoints"] for person in content["persons"]])
    np.testing.assert_allclose(read[..., :2], poses.keypoints, atol=0.006)
    assert json.loads(Poses.empty().to_json())["persons"] == []


def test_a_drawn_box_lies_inside_its_edges() -> None:
    poses = Poses(_f32([[0, 0, 80, 100]]), _f32([1]), np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32))
    drawn = poses.plot(np.zeros((100, 80, 3), np.uint8), boxes=True).max(-1) > 0
    assert all(edge.all() for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]))
    assert not drawn[2:-2, 2:-2].any()


def test_tracks_have_colours_and_numbers_of_their_own() -> None:
    poses = Poses(
        _f32([[20, 60, 80, 90]]), _f32([1]), _f32(np.zeros((1, 17, 2))), _f32(np.zeros((1, 17))), ids=np.array([16])
    )
    ground = np.zeros((100, 100, 3), np.uint8)
    plain = poses.plot(ground, boxes=True, ids=False)
    nearest = np.abs(np.array(TRACK_COLOURS) - plain[75, 20]).sum(1).argmin()  # edges are soft
    assert nearest == 16 - 1 - len(TRACK_COLOURS)  # ids count from 1, as on the page of 'view'
    assert not plain[:58].any()
    assert poses.plot(ground)[30:60, 30:70].any()  # above the box
    np.testing.assert_array_equal(poses.plot(ground, ids=False), ground)


def test_numbers_are_legible_in_every_colour() -> None:
    ground = np.full((100, 100, 3), 120, np.uint8)
    for number in range(1, len(TRACK_COLOURS) + 1):
        poses = Poses(
            _f32([[20, 60, 80, 90]]),
            _f32([1]),
            _f32(np.zeros((1, 17, 2))),
            _f32(np.zeros((1, 17))),
            ids=np.array([number]),
        )
        drawn = poses.plot(ground)
        rows, columns = np.nonzero((drawn != ground).any(-1))
        inside = drawn[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]  # of the label
        assert np.ptp(inside @ (0.114, 0.587, 0.299)) > 80


@pytest.mark.parametrize(
    ("first", "second", "colour"),
    [
        ("left_hip", "left_knee", LEFT), ("ear_r", "r_eye", RIGHT), ("nose", "l_eye", LEFT),
        ("left_hip", "right_hip", MIDDLE), ("nose", "neck", MIDDLE),
    ],
)  # fmt: skip
def test_limbs_have_the_colour_of_their_side(first: str, second: str, colour: tuple[int, int, int]) -> None:
    assert side_colour(first, second) == colour


@pytest.mark.parametrize("tracked", [True, False])
def test_frames_without_anybody_are_read_as_they_were_tracked(tracked: bool, tmp_path: Path) -> None:
    poses = _poses() if tracked else replace(_poses(), ids=None)
    frames = [poses, poses[:0], poses[1:2]]
    content = results_header(poses.skeleton) | {"frames": [frame_record(part, i) for i, part in enumerate(frames)]}
    path = tmp_path / "walk.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    read = [entry.poses.ids for entry in load_results(path).frames]
    assert [None if ids is None else ids.tolist() for ids in read] == ([[7, 8, 9], [], [8]] if tracked else [None] * 3)


def test_results_do_not_keep_the_file_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**results_header(_poses().skeleton), "frames": [frame_record(_poses(), 70_000, 2800.5)]}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    monkeypatch.setattr("autopose.results.json.loads", lambda _: content)
    record = content["frames"][0]
    (entry,) = load_results(path).frames
    assert (entry.frame, entry.time_s, entry.poses.image_size_wh) == (70_000, 2800.5, (640, 480))
    assert entry.frame is not record["frame"]
    assert entry.time_s is not record["time_s"]
    assert entry.poses.image_size_wh[0] is not record["image_size_wh"][0]
