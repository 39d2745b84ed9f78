"""Angles at joints by hand: of right angles, straight limbs, unseen joints and other skeletons."""

from typing import Any

import numpy as np
import pytest

from autopose.angles import angle_joints, joint_angles
from autopose.poses import Poses
from autopose.skeleton import COCO17, LSP14, Skeleton

#: Somebody from the front; the left arm is stretched out, the right one bent by 90 degrees, the right knee by 60.
AT: dict[str, tuple[float, float]] = {
    "left_shoulder": (60, 50), "left_elbow": (80, 50), "left_wrist": (100, 50), "right_shoulder": (40, 50),
    "right_elbow": (40, 80), "right_wrist": (10, 80), "left_hip": (60, 100), "right_hip": (40, 100),
    "left_knee": (60, 140), "left_ankle": (60, 180), "right_knee": (40, 140),
    "right_ankle": (40 + 40 * np.sin(np.pi / 3), 140 - 40 * np.cos(np.pi / 3)),
}  # fmt: skip


def _standing(skeleton: Skeleton = COCO17, unseen: tuple[str, ...] = ()) -> Poses:
    xy = np.array([[AT.get(name, (0, 0)) for name in skeleton.joints]], np.float32)
    scores = np.array([[0.19 if name in unseen else 0.2 for name in skeleton.joints]], np.float32)
    return Poses(np.zeros((1, 4), np.float32), np.ones(1, np.float32), xy, scores, skeleton=skeleton)


@pytest.mark.parametrize("skeleton", [COCO17, LSP14], ids=lambda skeleton: skeleton.name)
def test_angles_by_hand(skeleton: Skeleton) -> None:
    angles = {joint: float(values[0]) for joint, values in joint_angles(_standing(skeleton)).items()}
    assert angles == pytest.approx(
        {"left_shoulder": 90, "right_shoulder": 0, "left_elbow": 180, "right_elbow": 90, "left_hip": 180,
         "right_hip": 180, "left_knee": 180, "right_knee": 60},
        abs=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("end", ["left_shoulder", "left_elbow", "left_wrist"])
def test_a_joint_that_is_not_seen_takes_its_angles_along(end: str) -> None:
    angles = joint_angles(_standing(unseen=(end,)))
    assert np.isnan(angles["left_elbow"]).all()
    assert not np.isnan(angles["right_elbow"]).any()
    assert not np.isnan(joint_angles(_standing(unseen=(end,)), min_score=0.1)["left_elbow"]).any()


def test_joints_in_one_place_make_no_angle_and_nobody_has_none() -> None:
    poses: Any = _standing()
    poses.keypoints[0, COCO17.index("left_wrist")] = AT["left_elbow"]
    assert np.isnan(joint_angles(poses)["left_elbow"]).all()
    assert all(values.shape == (0,) for values in joint_angles(Poses.empty()).values())


def test_joints_of_ones_own_have_the_angles_that_they_make() -> None:
    own = Skeleton("arm", ("left_wrist", "left_elbow", "left_shoulder", "nose"), (), (0.03,) * 4)
    assert angle_joints(own) == {"left_elbow": (2, 1, 0)}
