"""Poses compared: object keypoint similarity, and suppression of those that repeat a better one."""

import numpy as np
from numpy.typing import NDArray

from autopose.boxes import box_area
from autopose.poses import SAME_PERSON_OKS, Poses


def oks(a: Poses, b: Poses, min_score: float = 0.2) -> NDArray[np.float64]:
    """Return the object keypoint similarity ``(n, m)`` of two sets of poses, 0 to 1.

    COCO's formula (``cocoeval.computeOks``) between predictions: over the joints that both have with at least
    ``min_score``; the area is that of the mean pose box. Pairs with fewer than three such joints get 0.
    """
    similar, seen = _joint_similarity(a, b, min_score)
    count = seen.sum(-1)
    return np.asarray(np.where(count >= 3, similar.sum(-1) / np.maximum(count, 1), 0))


def made_of(a: Poses, b: Poses, min_score: float = 0.3) -> NDArray[np.float64]:
    """Return how far each pose of ``a`` is made of joints of the persons ``b``, of one or of several ``(n,)``, 0 to 1.

    The mean over the joints of at least ``min_score`` of their similarity (as in :func:`oks`) to the nearest joint of
    the same kind. Poses with fewer than three such joints get 0.
    """
    similar, _ = _joint_similarity(a, b, min_score)
    own = a.keypoint_scores >= min_score
    count = own.sum(-1)
    return np.asarray(np.where(count >= 3, similar.max(1, initial=0).sum(-1) / np.maximum(count, 1), 0))


def _joint_similarity(a: Poses, b: Poses, min_score: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the similarity of each joint ``(n, m, K)``, 0 where either lacks it, and which both have."""
    variance = (2 * np.array(a.skeleton.sigmas)) ** 2
    seen = (a.keypoint_scores[:, None] >= min_score) & (b.keypoint_scores[None] >= min_score)
    distance = ((a.keypoints[:, None].astype(np.float64) - b.keypoints[None]) ** 2).sum(-1)
    area = (box_area(a.boxes)[:, None] + box_area(b.boxes)[None]) / 2 * 0.53  # COCO's persons fill 0.53 of their box
    return np.exp(-distance / (2 * variance * np.maximum(area, 1.0)[..., None])) * seen, seen


def keep_best_poses(poses: Poses) -> Poses:
    """Drop a pose too much like a better one (``SAME_PERSON_OKS``): two boxes then led to the same person."""
    if len(poses) < 2:
        return poses
    best_first = np.argsort(-poses.scores, kind="stable")
    kept = best_first[first_of_alike(oks(poses[best_first], poses[best_first]) > SAME_PERSON_OKS)]
    return poses if len(kept) == len(poses) else poses[np.sort(kept)]


def first_of_alike(alike: NDArray[np.bool_]) -> list[int]:
    """Return the places, in order, of those who are not alike ``(n, n)`` to one kept before them."""
    kept: list[int] = []
    for place in range(len(alike)):
        if not alike[place, kept].any():
            kept.append(place)
    return kept
