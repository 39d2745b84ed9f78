"""Percentage of correct keypoints: the share of joints within a distance that scales with the person."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import Skeleton

#: MPII: the head's size is this share of its box's diagonal (``SC_BIAS`` of the official evaluation).
HEAD_SHARE = 0.6


def pck(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    labelled: NDArray[np.bool_],
    reference_px: NDArray[np.floating],
    threshold: float,
) -> tuple[NDArray[np.float64], float]:
    """Return the share of correct joints per joint ``(K,)`` (nan where none is labelled) and over all.

    Args:
        predicted: ``(N, K, 2)``.
        truth: ``(N, K, 2)``, in the same frame.
        labelled: ``(N, K)``.
        reference_px: ``(N,)`` length that the threshold is a share of.
        threshold: a joint is correct at a distance up to ``threshold * reference``.
    """
    distance = np.linalg.norm(np.asarray(predicted, np.float64) - truth, axis=-1)
    correct = (distance <= threshold * np.asarray(reference_px)[:, None]) & labelled
    count = labelled.sum(0)
    per_joint = np.where(count > 0, correct.sum(0) / np.maximum(count, 1), np.nan)
    return per_joint, float(correct.sum() / max(labelled.sum(), 1))


def head_size(head_box_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return PCKh's reference length ``(...)`` of head boxes ``(..., 4)``: 0.6 times the diagonal."""
    box = np.asarray(head_box_xyxy, np.float64)
    return np.asarray(HEAD_SHARE * np.linalg.norm(box[..., 2:] - box[..., :2], axis=-1))


def evaluate_pck(
    results: Sequence[Mapping[str, Any]], persons: Sequence[Person], skeleton: Skeleton
) -> dict[str, float]:
    """Return PCK of results that were made for these persons, in their order: ``PCK@T``, then ``PCK@0.1 JOINT``.

    The reference length is the longer side of the person's box.

    Raises:
        DataError: the results are not one per person.
    """
    if len(results) != len(persons):
        raise DataError(f"PCK compares person by person: got {len(results)} results for {len(persons)} persons.")
    if not persons:
        raise DataError("There is no annotated person to score.")
    predicted = np.array([result["keypoints"] for result in results]).reshape(len(persons), -1, 3)[..., :2]
    truth = np.stack([person.keypoints for person in persons])
    labelled = np.stack([person.weight > 0 for person in persons])
    reference = np.array([(person.box_xyxy[2:] - person.box_xyxy[:2]).max() for person in persons])
    figures = {f"PCK@{t:g}": pck(predicted, truth, labelled, reference, t)[1] for t in (0.05, 0.1, 0.2)}
    per_joint, _ = pck(predicted, truth, labelled, reference, 0.1)
    return figures | {
        f"PCK@0.1 {name}": float(value)
        for name, value in zip(skeleton.joints, per_joint, strict=True)
        if not np.isnan(value)
    }
