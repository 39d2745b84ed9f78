"""The gate itself: what counts, what is a tie, and when it closes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.errors import ParityError
from autopose.export.deviation import LIMITS, compare_boxes, compare_keypoints, tied
from autopose.heatmap import Codec
from autopose.skeleton import COCO17

CODEC = Codec(input_size_wh=(64, 96))


def _maps(rng: np.random.Generator, count: int = 4) -> NDArray[np.float32]:
    xy = rng.uniform([8, 8], [56, 88], (count, 17, 2))
    return np.stack([CODEC.encode(person, np.ones(17))[0] for person in xy])


def _keypoints(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    xy, scores = CODEC.decode(maps)
    return np.concatenate([xy, scores[..., None]], -1)


def test_equal_results_pass_and_a_known_shift_is_measured() -> None:
    maps = _maps(np.random.default_rng(0))
    same = compare_keypoints(maps, _keypoints(maps), CODEC, COCO17)
    assert same.mean_px == same.max_px == same.score == 0
    assert same.oks == 1
    assert same.joints + same.ties == 4 * 17
    assert same.breaches(LIMITS["fp32"]) == []

    moved = _keypoints(maps)
    moved[..., 0] += 3.0
    moved[..., 1] -= 4.0
    far = compare_keypoints(maps, moved, CODEC, COCO17)
    assert far.mean_px == pytest.approx(5.0)
    area = 64 * 96 / 1.25**2
    expected = np.exp(-25 / (2 * area * (2 * np.array(COCO17.sigmas)) ** 2))
    assert far.oks == pytest.approx(np.broadcast_to(expected, (4, 17))[~tied(maps)].mean())
    for limits in LIMITS.values():
        with pytest.raises(ParityError, match=r"mean distance 5\.000 px"):
            far.require(limits, "model.onnx")


def test_one_joint_far_off_closes_the_gate_of_full_precision() -> None:
    maps = _maps(np.random.default_rng(0))
    moved = _keypoints(maps)
    joint = tuple(np.argwhere(~tied(maps))[0])
    moved[joint][0] += 0.9
    far = compare_keypoints(maps, moved, CODEC, COCO17)
    assert far.mean_px < LIMITS["fp32"].mean_px
    assert far.p99_px == pytest.approx(np.quantile([0.9] + [0.0] * (far.joints - 1), 0.99))
    assert far.breaches(LIMITS["fp32"]) == ["maximum distance 0.900 px (limit 0.2)"]
    assert far.breaches(LIMITS["fp16"]) == []


@pytest.mark.parametrize("kind", ["missing", "surplus"])
def test_one_box_of_fifty_may_differ(kind: str) -> None:
    maps = _maps(np.random.default_rng(0))
    same = compare_keypoints(maps, _keypoints(maps), CODEC, COCO17)
    exactly = 49 if kind == "missing" else 50  # of the boxes that are missing the reference has one more
    for joints, count in ((exactly, 0), (exactly - 1, 1)):
        assert len(replace(same, joints=joints, **{kind: 1}).breaches(LIMITS["fp32"])) == count


def test_ties_are_left_out_and_counted() -> None:
    maps = np.zeros((1, 17, 24, 16), np.float32)
    maps[:, :, 10, 8] = 1.0
    maps[:, :, 10, 9], maps[:, :, 10, 7] = 0.6, 0.5
    maps[:, :, 11, 8], maps[:, :, 9, 8] = 0.6, 0.5
    assert not tied(maps).any()
    maps[0, 0, 20, 3] = 0.9995  # a second peak
    maps[0, 1, 10, 7] = 0.5995  # left and right
    maps[0, 2, 9, 8] = 0.6  # above and below
    assert tied(maps)[0].tolist() == [True] * 3 + [False] * 14
    keypoints = _keypoints(maps)
    keypoints[0, :3, :2] += 40
    parity = compare_keypoints(maps, keypoints, CODEC, COCO17)
    assert (parity.joints, parity.ties, parity.max_px) == (14, 3, 0)


def test_joints_of_low_score_do_not_count_but_their_scores_do() -> None:
    maps = _maps(np.random.default_rng(1)) * np.float32(0.1)
    keypoints = _keypoints(maps) + np.array([30, 30, 0])
    parity = compare_keypoints(maps, keypoints, CODEC, COCO17)
    assert (parity.joints, parity.mean_px) == (0, 0)
    keypoints[..., 2] += 0.01
    with pytest.raises(ParityError, match="a score differs"):
        compare_keypoints(maps, keypoints, CODEC, COCO17).require(LIMITS["fp32"], "model.onnx")
    louder = compare_keypoints(2.5 * maps, _keypoints(2.5 * maps), CODEC, COCO17)  # peaks of up to 0.25
    assert louder.joints + louder.ties == 4 * 17


def test_not_a_number_closes_the_gate() -> None:
    maps = _maps(np.random.default_rng(2))
    keypoints = np.full((4, 17, 3), np.nan)
    with pytest.raises(ParityError, match="not finite"):
        compare_keypoints(maps, keypoints, CODEC, COCO17).require(LIMITS["int8"], "model.onnx")
    boxes, scores = np.array([[[0, 0, 10, 20], [30, 5, 50, 45]]], float), np.array([[0.9, 0.8]])
    with pytest.raises(ParityError, match="not finite"):
        compare_boxes((boxes, scores), np.full_like(boxes, np.nan), scores).require(LIMITS["int8"], "detector.onnx")


def test_boxes_are_matched_whatever_their_order() -> None:
    boxes = np.array([[[0, 0, 10, 20], [30, 5, 50, 45], [60, 0, 70, 30]]], float)
    scores = np.array([[0.9, 0.8, 0.1]])
    swapped = compare_boxes((boxes, scores), boxes[:, [1, 0, 2]] + 0.5, scores[:, [1, 0, 2]] - 0.01)
    assert (swapped.joints, swapped.missing) == (2, 0)
    assert swapped.max_px == pytest.approx(0.5)
    assert swapped.score == pytest.approx(0.01)
    for shift, missing in ((4.0, 0), (6.0, 1)):  # a quarter of the first box's longer side is 5
        shifted = compare_boxes((boxes[:, [0]], scores[:, [0]]), boxes[:, [0]] + shift, scores[:, [0]])
        assert (shifted.missing, shifted.max_px) == (missing, 0.0 if missing else shift)
    assert compare_boxes((boxes, scores * 0.27), boxes[:, [0, 0, 2]], scores * 0.27).missing == 0  # hardly seen at all
    lost = compare_boxes((boxes, scores), boxes[:, [0, 0, 2]], scores)
    assert lost.missing == 1
    with pytest.raises(ParityError, match="1 of 2 boxes are missing"):
        lost.require(LIMITS["fp16"], "detector.onnx")
    assert json.loads(json.dumps(lost.to_dict()))["missing"] == 1  # as reports and the engines' cache keep it


def test_boxes_that_the_reference_has_not_close_the_gate() -> None:
    boxes = np.array([[[0, 0, 10, 20], [30, 5, 50, 45], [60, 0, 70, 30]]], float)
    scores = np.array([[0.9, 0.8, 0.1]])
    invented = np.concatenate([boxes, [[[0, 60, 10, 80]]]], axis=1)
    found = compare_boxes((boxes, scores), invented[:, [0, 1, 3, 2]], np.array([[0.9, 0.8, 0.4, 0.1]]))
    assert (found.joints, found.missing, found.surplus) == (2, 0, 1)
    with pytest.raises(ParityError, match="1 new box beside 2"):
        found.require(LIMITS["int8"], "detector.onnx")
    louder = compare_boxes((boxes, scores), boxes[:, [0, 1, 2]], np.array([[0.9, 0.8, 0.5]]))
    assert louder.score == pytest.approx(0.4)  # of the third box, which the reference hardly sees
    nothing = compare_boxes((boxes, 0 * scores), boxes, scores)
    assert nothing.score == pytest.approx(0.9)


def test_a_second_box_of_the_same_person_counts_for_nothing() -> None:
    boxes = np.array([[[209, 51, 297, 260], [203, 39, 297, 257], [10, 10, 60, 90]]], float)
    both = boxes, np.array([[0.54, 0.34, 0.3]])
    one = boxes[:, [0, 2, 2]], np.array([[0.54, 0.3, 0.0]])
    for reference, own in ((both, one), (one, both)):
        shoulder = compare_boxes(reference, *own)
        assert (shoulder.joints, shoulder.missing, shoulder.surplus, shoulder.score) == (2, 0, 0, 0)


def test_of_two_equally_good_boxes_of_a_person_either_may_win() -> None:
    boxes = np.array([[[0, 30, 18, 79], [0, 22, 18, 71]]], float)
    swapped = compare_boxes((boxes, np.array([[0.5, 0.5 - 1e-7]])), boxes[:, ::-1], np.array([[0.5, 0.5 - 1e-7]]))
    assert (swapped.joints, swapped.missing, swapped.surplus, swapped.max_px) == (1, 0, 0, 0)
    lost = compare_boxes((boxes, np.array([[0.5, 0.5 - 1e-7]])), boxes[:, [1, 1]], np.array([[0.5, 0.5]]))
    assert lost.max_px == 8
