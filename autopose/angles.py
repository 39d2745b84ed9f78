"""Angles at the joints of persons, in the plane of the picture."""

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses
from autopose.skeleton import Skeleton

#: For each joint, on either side of the body: the joints at whose bones' meeting its angle is.
BONES = {
    "shoulder": ("hip", "shoulder", "elbow"),
    "elbow": ("shoulder", "elbow", "wrist"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
}


def angle_joints(skeleton: Skeleton) -> dict[str, tuple[int, int, int]]:
    """Return which joints of a skeleton have an angle, and the indices of the three that make it, its own second."""
    named = {
        f"{side}_{joint}": tuple(f"{side}_{each}" for each in bones)
        for joint, bones in BONES.items()
        for side in ("left", "right")
    }
    return {
        joint: (skeleton.index(a), skeleton.index(b), skeleton.index(c))
        for joint, (a, b, c) in named.items()
        if {a, b, c} <= set(skeleton.joints)
    }


def joint_angles(poses: Poses, *, min_score: float = 0.2) -> dict[str, NDArray[np.float64]]:
    """Return the angle between the two bones that meet at each joint, in degrees: 180 of an arm that is stretched.

    Of the picture, not of space: an arm that points at the camera seems bent.

    Args:
        poses: ``n`` persons.
        min_score: joints with a lower score count as not seen.

    Returns:
        For ``left_shoulder``, ``right_shoulder``, ``left_elbow`` and so on, hips and knees, as far as the skeleton has
        their joints: ``(n,)``, 0 to 180, NaN where one of the three is not seen or two of them are in one place.
    """
    angles = {}
    for joint, (a, b, c) in angle_joints(poses.skeleton).items():
        here = poses.keypoints[:, b].astype(np.float64)
        bones = [poses.keypoints[:, end] - here for end in (a, c)]
        lengths = np.linalg.norm(bones[0], axis=-1) * np.linalg.norm(bones[1], axis=-1)
        known = (poses.keypoint_scores[:, [a, b, c]] >= min_score).all(-1) & (lengths > 0)
        cosine = np.divide((bones[0] * bones[1]).sum(-1), lengths, out=np.full(len(poses), np.nan), where=known)
        angles[joint] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return angles
