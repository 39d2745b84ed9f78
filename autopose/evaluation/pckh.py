"""PCKh, the figure of MPII: joints within half (or a tenth) of the head's size, in the layout of AutoPose's Table 3."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco_file import number_fault
from autopose.errors import DataError
from autopose.evaluation.pck import head_size, pck
from autopose.poses import Person
from autopose.skeleton import MPII16

#: Columns of the published tables and the joints that they are the mean of.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
#: Joints that count neither in a column nor in the total (HRNet ``lib/dataset/mpii.py`` masks them).
IGNORED = ("pelvis", "thorax")


def head_lengths(persons: Sequence[Person]) -> tuple[NDArray[np.float64], str]:
    """Return the reference length of each person in pixels, and the figure's name.

    ``PCKh``: 0.6 of the head box's diagonal. Where no person has a head box, ``PCKh-segment``: the distance from the
    upper neck to the top of the head, which is not the published measure; nan for persons without these two joints.

    Raises:
        DataError: only some persons have a head box.
    """
    boxes = [person.head_box_xyxy for person in persons if person.head_box_xyxy is not None]
    if len(boxes) == len(persons):
        return head_size(np.array(boxes)), "PCKh"
    if boxes:
        missing = next(person for person in persons if person.head_box_xyxy is None)
        raise DataError(
            f"Person {missing.annotation_id} in {missing.image_path.name!r} has no head box, others have. PCKh needs "
            "all: read the head boxes from gt_valid.mat or from the official .mat."
        )
    ends = [MPII16.index("upper_neck"), MPII16.index("head_top")]
    lengths = [
        float(np.linalg.norm(np.subtract(*person.keypoints[ends]))) if person.weight[ends].all() else np.nan
        for person in persons
    ]
    return np.array(lengths, np.float64), "PCKh-segment"


def evaluate_pckh(results: Sequence[Mapping[str, Any]], persons: Sequence[Person]) -> dict[str, float]:
    """Return PCKh in percent, at 0.5 and at 0.1: the total, the columns of the published tables, and every joint.

    Keys: ``PCKh@0.5``, ``PCKh@0.5 Head`` ... ``PCKh@0.5 Ankle``, ``PCKh@0.5 right_ankle`` ...; a joint that is nowhere
    labelled is left out. The total weighs joints by how often they are labelled, pelvis and thorax not counted; a
    column is the plain mean of its left and right joint (both as HRNet's evaluation).

    Args:
        results: COCO keypoint results, one per person and in their order.
        persons: the truth, skeleton ``mpii16``.

    Raises:
        DataError: the results are not one per person, the skeleton is another, or head boxes are missing.
    """
    if len(results) != len(persons):
        raise DataError(f"PCKh compares person by person: got {len(results)} results for {len(persons)} persons.")
    if not persons:
        raise DataError("There is no annotated person to score.")
    strange = next((person for person in persons if person.skeleton.joints != MPII16.joints), None)
    if strange is not None:
        raise DataError(f"PCKh is a figure of MPII: expected the skeleton mpii16, found {strange.skeleton.name}.")
    reference, name = head_lengths(persons)
    for number, result in enumerate(results):
        if fault := number_fault(result.get("keypoints"), 3 * len(MPII16)):
            raise DataError(f"results[{number}]: 'keypoints' {fault} (x, y, score of the joints of mpii16).")
    predicted = np.array([result["keypoints"] for result in results], np.float64).reshape(len(persons), -1, 3)[..., :2]
    truth = np.stack([person.keypoints for person in persons])
    labelled = np.stack([person.weight > 0 for person in persons]) & np.isfinite(reference)[:, None]
    reference = np.nan_to_num(reference)
    counted = np.array([joint not in IGNORED for joint in MPII16.joints])
    figures: dict[str, float] = {}
    for threshold in (0.5, 0.1):
        per_joint, _ = pck(predicted, truth, labelled, reference, threshold)
        _, total = pck(predicted, truth, labelled & counted, reference, threshold)
        found = {joint: 100 * float(value) for joint, value in zip(MPII16.joints, per_joint, strict=True)}
        key = f"{name}@{threshold:g}"
        figures[key] = 100 * total
        for column, joints in COLUMNS.items():
            known = [found[joint] for joint in joints if not np.isnan(found[joint])]
            if known:
                figures[f"{key} {column}"] = float(np.mean(known))
        figures |= {f"{key} {joint}": value for joint, value in found.items() if not np.isnan(value)}
    return figures


def pckh_table(figures: Mapping[str, float]) -> str:
    """Return figures of :func:`evaluate_pckh` as text in the layout of AutoPose's Table 3, one row per threshold."""
    rows = [key for key in figures if " " not in key]
    width = max(map(len, rows), default=0)
    lines = [" " * width + "".join(f" {column:>8}" for column in (*COLUMNS, "Total"))]
    for row in rows:
        values = [figures.get(f"{row} {column}") for column in COLUMNS] + [figures[row]]
        lines.append(f"{row:<{width}}" + "".join(f" {'-' if v is None else format(v, '.1f'):>8}" for v in values))
    return "\n".join(lines)
