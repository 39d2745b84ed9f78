"""COCO keypoint annotations and detection files as :class:`autopose.poses.Person`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autopose.data.categories import person_numbers
from autopose.data.coco_file import (
    CocoFile,
    box_numbers,
    clipped_box,
    load_detections,
    number_fault,
    read_coco,
)
from autopose.data.skeletons import conversion_to
from autopose.errors import DataError
from autopose.large_json import own, uncollected
from autopose.poses import Person
from autopose.skeleton import COCO17, Skeleton, skeleton_by_joints
from autopose.skeleton_record import plain_name

#: The share of its box that a person fills, where an annotation has no area (the mean of COCO's).
BOX_SHARE = 0.528
#: Loss weight of the joints that an annotation lists under ``pseudo``: labels that a model made, not a person.
PSEUDO_WEIGHT = 0.3
#: Joints of which a teacher is less sure are not labelled, for training and for evaluation alike.
MIN_CONFIDENCE = 0.3


def check_joints(file: CocoFile, skeleton: Skeleton) -> None:
    """Raise a DataError if a file names the joints of another skeleton, or the same ones in another order."""
    other = skeleton_by_joints(file.joints)
    if other is not None and other.joints != skeleton.joints:
        raise DataError(
            f"{file.path}: has the joints of {other.name}; {skeleton.name} was asked for.\n"
            f"Convert it: {conversion_to(skeleton, file.path)}"
        )
    for place, (name, wanted) in enumerate(zip(file.joints, skeleton.joints, strict=False)):
        if plain_name(name) != wanted:
            raise DataError(
                f"{file.path}: its joint {place + 1} is {file.joints[place]!r}; {skeleton.name} has {wanted!r}.\n"
                f"Put the joints into its order, or, where only the name differs, rename it under 'categories'."
            )


def load_coco(
    annotations: Path,
    *,
    images: Path | None = None,
    boxes: Literal["gt"] | Path = "gt",
    skeleton: Skeleton = COCO17,
    pseudo_weight: float = PSEUDO_WEIGHT,
    sample_weight: float = 1.0,
) -> list[Person]:
    """Read persons with keypoints.

    With ground-truth boxes: every annotation with at least one labelled joint that is not a crowd; its box is clipped
    to the image (HRNet ``lib/dataset/coco.py``). With a detection file: every box of a person in these images.
    A third keypoint value below 1 is a teacher's confidence, and becomes the joint's weight, which an annotation's own
    ``weight`` multiplies.

    Args:
        annotations: COCO JSON; ``file_name`` is relative to ``images``, to the JSON's folder, or the one above.
        images: folder of the images.
        boxes: ``"gt"``, or a COCO detection file (list of image_id, bbox, score).
        skeleton: whose joints the file has.
        pseudo_weight: weight of the joints that an annotation lists under ``pseudo``.
        sample_weight: becomes ``Person.weight_sample``.

    Raises:
        DataError: the file (its record and field named) cannot be used.
    """
    file = read_coco(annotations, images=images)
    if boxes != "gt":
        check_joints(file, skeleton)
        return persons_from_detections(load_detections(Path(boxes)), file, skeleton, str(boxes))
    return persons_from_coco(
        file,
        skeleton=skeleton,
        pseudo_weight=pseudo_weight,
        sample_weight=sample_weight,
    )


def persons_from_coco(
    file: CocoFile,
    *,
    skeleton: Skeleton = COCO17,
    pseudo_weight: float = PSEUDO_WEIGHT,
    sample_weight: float = 1.0,
    keep: Callable[[Mapping[str, Any]], bool] | None = None,
) -> list[Person]:
    """Return the persons of a file that was read before, see :func:`load_coco`; ``keep`` chooses among the records.

    Raises:
        DataError: the file has other joints; a box, keypoints or weights (of the named record) cannot be used.
    """
    check_joints(file, skeleton)
    wanted = (number for number, record in enumerate(file.annotations) if keep is None or keep(record))
    with uncollected():
        persons = (
            person_from_record(
                file,
                number,
                skeleton=skeleton,
                pseudo_weight=pseudo_weight,
                sample_weight=sample_weight,
            )
            for number in wanted
        )
        return [person for person in persons if person is not None]


def person_from_record(
    file: CocoFile,
    number: int,
    *,
    skeleton: Skeleton = COCO17,
    pseudo_weight: float = PSEUDO_WEIGHT,
    sample_weight: float = 1.0,
) -> Person | None:
    """Return annotation ``number`` of a file as a person, or None if it is no person, a crowd, or has no joint.

    Raises:
        DataError: its box, its keypoints or its weights cannot be used.
    """
    record, where = file.annotations[number], f"{file.path}: annotations[{number}]"
    if record.get("category_id", 1) != 1 or record.get("iscrowd"):
        return None
    if not record.get("keypoints") or not record.get("num_keypoints", 1):
        return None
    keypoints, weight = _keypoints(record, skeleton, where)
    weight[weight < MIN_CONFIDENCE] = 0
    if not weight.any():
        return None
    weight = weight * _number(record, "weight", 1, where)
    weight[_pseudo(record, len(skeleton), where)] *= pseudo_weight
    image = file.images[record["image_id"]]
    box = clipped_box(record["bbox"], (image["width"], image["height"]), where)
    return Person(
        image_path=file.image_path(record["image_id"]),
        box_xyxy=box,
        keypoints=keypoints,
        weight=weight.astype(np.float32),
        area=own(_number(record, "area", 0, where)) or float(np.prod(box[2:] - box[:2]) * BOX_SHARE),
        image_id=image["id"],  # the picture's, one for all of its persons
        annotation_id=own(record["id"]) if isinstance(record.get("id"), int) else -1,  # others name theirs with texts
        weight_sample=sample_weight,
        skeleton=skeleton,
    )


def persons_from_detections(
    records: Sequence[Mapping[str, Any]], file: CocoFile, skeleton: Skeleton, where: str
) -> list[Person]:
    """Return detections (image_id, bbox, score) in the images of an annotation file as persons without joints.

    Raises:
        DataError: a box has no size, or none is of a person in these images.
    """
    joints = len(skeleton)
    persons = []
    numbers = person_numbers(records, file.person_category, file.other_categories)
    for number, record in enumerate(records):
        if record["image_id"] not in file.images or record.get("category_id", 1) not in numbers:
            continue
        x, y, width, height = box_numbers(record["bbox"], f"{where}: [{number}]")
        if width <= 0 or height <= 0:
            raise DataError(
                f"{where}: [{number}]: bbox {record['bbox']} has no size; expected x, y, width > 0, height > 0."
            )
        persons.append(
            Person(
                image_path=file.image_path(record["image_id"]),
                box_xyxy=np.array([x, y, x + width, y + height]),
                keypoints=np.zeros((joints, 2)),
                weight=np.zeros(joints, np.float32),
                area=width * height,
                score=float(record["score"]),
                image_id=record["image_id"],
                skeleton=skeleton,
            )
        )
    if records and not persons:
        raise DataError(
            f"{where}: none of its {len(records)} boxes is of a person in {file.path} (image_id, category_id "
            f"{file.person_category}). Are they of another set?"
        )
    return persons


def nobody_from_coco(file: CocoFile, *, skeleton: Skeleton = COCO17, sample_weight: float = 1.0) -> list[Person]:
    """Return boxes that show nobody, a detector's mistakes for instance: every joint is known not to be there.

    Args:
        file: whose joints are not asked for.
        skeleton: whose joints are meant.
        sample_weight: becomes ``Person.weight_sample``.

    Raises:
        DataError: a box has no size or lies outside of its image.
    """
    joints, persons = len(skeleton), []
    for number, record in enumerate(file.annotations):
        if record.get("category_id", 1) != 1 or record.get("iscrowd"):
            continue
        image = file.images[record["image_id"]]
        box = clipped_box(record["bbox"], (image["width"], image["height"]), f"{file.path}: annotations[{number}]")
        persons.append(
            Person(
                image_path=file.image_path(record["image_id"]),
                box_xyxy=box,
                keypoints=np.full((joints, 2), np.nan),
                weight=np.ones(joints, np.float32),
                area=float(np.prod(box[2:] - box[:2])),
                image_id=record["image_id"],
                weight_sample=sample_weight,
                skeleton=skeleton,
            )
        )
    return persons


def _number(record: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = record.get(key)
    if value is None:
        return default
    if fault := number_fault([value], 1):
        raise DataError(f"{where}: {key!r} {fault}.")
    return float(value)


def _pseudo(record: Mapping[str, Any], joints: int, where: str) -> list[int]:
    found = record.get("pseudo") or []
    if not isinstance(found, list) or not all(isinstance(k, int) and 0 <= k < joints for k in found):
        raise DataError(f"{where}: 'pseudo' is {str(found)[:60]}; expected numbers of joints, 0 to {joints - 1}.")
    return found


def _keypoints(
    record: Mapping[str, Any], skeleton: Skeleton, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    try:
        values = np.asarray(record["keypoints"], np.float64)
    except (OverflowError, TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (3 * len(skeleton),) or not np.isfinite(values).all():
        count = f"has {values.size} numbers" if values.ndim == 1 else "is a list of lists"
        if values.size and not np.isfinite(values).all():
            count = "holds null or another value that is no finite number"
        raise DataError(
            f"{where}: 'keypoints' {count}; expected {3 * len(skeleton)} finite ones "
            f"(x, y, visibility of the {len(skeleton)} joints of {skeleton.name})."
        )
    values = values.reshape(-1, 3)
    return values[:, :2].copy(), np.clip(values[:, 2], 0, 1).astype(np.float32)
