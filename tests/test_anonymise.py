"""Hidden heads: what lies under the joints is gone, and little else."""

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.anonymise import hide, hide_heads
from autopose.poses import Poses
from autopose.skeleton import COCO17, CROWDPOSE14, Skeleton


def _noise(width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _standing(scores: float | list[float] = 0.8, skeleton: Skeleton = COCO17) -> Poses:
    """Somebody 160 pixels tall, seen from the front: ears at x = 91 and 109, eyes at y = 40, hips at y = 110."""
    at = {
        "nose": (100, 43), "left_eye": (104, 40), "right_eye": (96, 40), "left_ear": (109, 42), "right_ear": (91, 42),
        "left_shoulder": (120, 60), "right_shoulder": (80, 60), "left_hip": (112, 110), "right_hip": (88, 110),
        "head": (100, 25), "neck": (100, 58),
    }  # fmt: skip
    xy = np.array([[at.get(name, (100, 150)) for name in skeleton.joints]], np.float32)
    return Poses(
        np.array([[70, 20, 130, 180]], np.float32), np.array([0.9], np.float32), xy,
        np.broadcast_to(np.array(scores, np.float32), (1, len(skeleton))).copy(),
        image_size_wh=(320, 240), skeleton=skeleton,
    )  # fmt: skip


def _changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((before != after).any(-1))


def test_a_head_becomes_a_few_spots_and_the_rest_stays_to_the_bit() -> None:
    image = _noise()
    before = image.copy()
    hidden = hide_heads(image, _standing())
    np.testing.assert_array_equal(image, before)
    rows, columns = np.nonzero(_changed(image, hidden))
    # Ear to ear are 18 px, and people's heads are 1.5 times as tall: crown at 26, chin at 54 or so.
    assert 15 < rows.min() <= 26
    assert 54 <= rows.max() < 70
    assert 70 < columns.min() <= 89
    assert 111 <= columns.max() < 130
    # No detail is left: of noise of the whole range, what varies from pixel to pixel is gone.
    inside = np.hypot(np.arange(320) - 100, (np.arange(240) - 41)[:, None]) < 12
    steps = np.abs(np.diff(hidden.astype(int), axis=1))[inside[:, 1:]]
    assert steps.max() < 12 < np.abs(np.diff(image.astype(int), axis=1))[inside[:, 1:]].mean()


def test_small_features_cannot_be_told_from_what_is_left() -> None:
    """A dark mouth or none, at the scale of a face: what is left of both differs by little of their contrast."""
    plain = np.full((240, 320, 3), 180, np.uint8)
    marked = plain.copy()
    cv2.rectangle(marked, (97, 47), (103, 48), (0, 0, 0), -1)
    left = np.abs(hide_heads(plain, _standing()).astype(int) - hide_heads(marked, _standing())).max()
    assert left < 180 / 3


def test_who_shows_no_joint_of_the_head_is_hidden_whole() -> None:
    image = _noise()
    scores = [0.05] * 5 + [0.8] * 12
    rows, columns = np.nonzero(_changed(image, hide_heads(image, _standing(scores))))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (70, 20, 129, 179)


def test_one_joint_of_a_head_is_enough_to_hide_it() -> None:
    image = _noise()
    scores = [0.0, 0.0, 0.0, 0.15] + [0.0] + [0.8] * 12  # the left ear alone: someone who turns away
    changed = _changed(image, hide_heads(image, _standing(scores)))
    assert changed[28:56, 100:118].mean() > 0.9
    assert not changed[100:].any()
    scores[5:] = [0.0] * 12  # and nothing else of the body: the head is judged by the box
    assert _changed(image, hide_heads(image, _standing(scores)))[32:52, 99:119].mean() > 0.9


@pytest.mark.parametrize("missing", [None, "head", "neck"])
def test_heads_of_other_skeletons_are_found_by_the_names_of_their_joints(missing: str | None) -> None:
    image = _noise()
    scores = [0.0 if name == missing else 0.8 for name in CROWDPOSE14.joints]
    changed = _changed(image, hide_heads(image, _standing(scores, CROWDPOSE14)))
    assert changed[27:55, 94:106].mean() > 0.98
    assert not changed[100:].any()


@pytest.mark.parametrize("shift", [(-115, 0), (0, -60), (230, 0), (-130, 0), (250, 0), (-1000, -1000)])
def test_heads_at_the_border_and_beyond(shift: tuple[int, int]) -> None:
    image, poses = _noise(), _standing()
    moved: Any = poses.keypoints + np.array(shift, np.float32)
    hidden = hide_heads(
        image,
        Poses(
            poses.boxes + np.tile(shift, 2), poses.box_scores, moved, poses.keypoint_scores, image_size_wh=(320, 240)
        ),
    )
    assert hidden.shape == image.shape
    changed = _changed(image, hidden)
    x, y = (np.array([100, 42]) + shift).tolist()
    assert changed.any() == (-20 < x < 340 and -20 < y < 260)
    if 0 <= x < 320 and 0 <= y < 240:
        assert changed[y, x]


def test_a_large_head_is_hidden_though_the_body_is_out_of_the_picture() -> None:
    image = _noise(640, 480)
    poses = _standing()
    near = Poses(
        np.array([[100, 0, 540, 480]], np.float32), poses.box_scores, (poses.keypoints - 100) * 9 + (320, 760),
        np.array([[0.8] * 7 + [0.01] * 10], np.float32), image_size_wh=(640, 480),
    )  # fmt: skip
    changed = _changed(image, hide_heads(image, near))
    left, right = near.keypoints[0, 4], near.keypoints[0, 3]
    for x, y in (left, right, near.keypoints[0, 0], (left + right) / 2 + (0, 100), (left + right) / 2 - (0, 100)):
        assert changed[int(y), int(x)]


def test_a_picture_that_is_hidden_is_black_with_anybody_or_nobody_in_it() -> None:
    image = _noise()
    for poses in (_standing(), Poses.empty(image_size_wh=(320, 240))):
        assert not hide(image, poses, "picture").any()
    np.testing.assert_array_equal(hide(image, Poses.empty(), "heads"), image)
