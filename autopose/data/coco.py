"""COCO keypoint annotations and detection files as :class:`autopose.poses.Person`."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import COCO17, Skeleton

#: Loss weight of the joints that an annotation lists under ``pseudo``: labels that a model made, not a person.
PSEUDO_WEIGHT = 0.3


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A COCO annotation file, its images found on disk.

    Attributes:
        path: the JSON file.
        images: image records by id.
        annotations: annotation records, in the file's order.
        folder: what ``file_name`` is relative to.
    """

    path: Path
    images: Mapping[int, Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    folder: Path

    def image_path(self, image_id: int) -> Path:
        """Return where a picture is."""
        return self.folder / str(self.images[image_id]["file_name"])


def read_json(path: Path, what: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: it is missing or not JSON.
    """
    if not path.is_file():
        raise DataError(f"No {what} {str(path)!r}.")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}). Is it complete?") from None


def read_coco(path: Path, *, images: Path | None = None) -> CocoFile:
    """Read a COCO annotation file.

    Args:
        path: the JSON file.
        images: folder that ``file_name`` is relative to; None: the JSON's folder or the one above, by the first image.

    Raises:
        DataError: missing file, broken JSON, a missing key (named), an annotation of an unknown image, or no images.
    """
    path = Path(path)
    content = read_json(path, "annotation file")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: not COCO annotations: expected an object with the lists 'images' and 'annotations'.")
    records: dict[int, Mapping[str, Any]] = {}
    for number, image in enumerate(content["images"]):
        _need(image, ("id", "file_name", "width", "height"), f"{path}: images[{number}]")
        records[image["id"]] = image
    if not records:
        raise DataError(f"{path}: lists no images.")
    for number, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        _need(annotation, ("image_id", "bbox"), where)
        if annotation["image_id"] not in records:
            raise DataError(f"{where}: image_id {annotation['image_id']} is not among the file's images.")
    first = str(next(iter(records.values()))["file_name"])
    if images is not None:
        if not Path(images).is_dir():
            raise DataError(f"The image folder {str(images)!r} does not exist.")
        folders = [Path(images)]
    else:
        folders = [path.parent, path.parent.parent]
    folder = next((folder for folder in folders if (folder / first).is_file()), None)
    if folder is None:
        raise DataError(
            f"{path}: its first image {first!r} is not in {' or '.join(repr(str(f)) for f in folders)}.\n"
            "Name the folder that 'file_name' is relative to with --images DIR."
        )
    return CocoFile(path, records, content["annotations"], folder)


def load_coco(
    annotations: Path,
    *,
    images: Path | None = None,
    boxes: Literal["gt"] | Path = "gt",
    skeleton: Skeleton = COCO17,
    pseudo_weight: float = PSEUDO_WEIGHT,
    label_weight: float = 1.0,
    sample_weight: float = 1.0,
    min_confidence: float = 0.3,
    keep: Callable[[Mapping[str, Any]], bool] | None = None,
) -> list[Person]:
    """Read persons with keypoints.

    With ground-truth boxes: every annotation with at least one labelled joint that is not a crowd; its box is clipped
    to the image (HRNet ``lib/dataset/coco.py``). With a detection file: every box of a person in these images.
    A third keypoint value below 1 is a teacher's confidence, and becomes the joint's weight.

    Args:
        annotations: COCO JSON; ``file_name`` is relative to ``images``, to the JSON's folder, or the one above.
        images: folder of the images.
        boxes: ``"gt"``, or a COCO detection file (list of image_id, bbox, score).
        skeleton: whose joints the file has.
        pseudo_weight: weight of the joints that an annotation lists under ``pseudo``.
        label_weight: weight of labelled joints; an annotation's own ``weight`` multiplies it.
        sample_weight: becomes ``Person.weight_sample``.
        min_confidence: joints of which a teacher is less sure than this count as not labelled.
        keep: further condition on the annotation record.

    Raises:
        DataError: the file (its record and field named) cannot be used.
    """
    file = read_coco(annotations, images=images)
    if boxes != "gt":
        return persons_from_detections(load_detections(Path(boxes)), file, skeleton, str(boxes))
    persons = []
    for number, record in enumerate(file.annotations):
        where = f"{file.path}: annotations[{number}]"
        if record.get("iscrowd") or not record.get("keypoints") or not record.get("num_keypoints", 1):
            continue
        if keep is not None and not keep(record):
            continue
        keypoints, weight = _keypoints(record, skeleton, where)
        weight[weight < min_confidence] = 0
        if not weight.any():
            continue
        image = file.images[record["image_id"]]
        box = clipped_box(record["bbox"], (image["width"], image["height"]), where)
        weight = (weight * label_weight * float(record.get("weight", 1))).astype(np.float32)
        weight[list(record.get("pseudo", ()))] *= pseudo_weight
        width, height = box[2:] - box[:2]
        persons.append(
            Person(
                image_path=file.image_path(record["image_id"]),
                box_xyxy=box,
                keypoints=keypoints,
                weight=weight,
                area=float(record.get("area") or width * height * 0.528),
                image_id=record["image_id"],
                annotation_id=int(record.get("id", -1)),
                weight_sample=sample_weight,
                skeleton=skeleton,
            )
        )
    return persons


def load_detections(path: Path) -> list[dict[str, Any]]:
    """Read a COCO detection file: a list of records with image_id, bbox (x, y, w, h) and score.

    Raises:
        DataError: it is missing, broken, or a record (named) lacks a field.
    """
    content = read_json(path, "detection file")
    if not isinstance(content, list):
        raise DataError(f"{path}: not a detection file: expected a list of records with image_id, bbox and score.")
    for number, record in enumerate(content):
        _need(record, ("image_id", "bbox", "score"), f"{path}: [{number}]")
    return content


def persons_from_detections(
    records: Sequence[Mapping[str, Any]], file: CocoFile, skeleton: Skeleton, where: str
) -> list[Person]:
    """Return detections (image_id, bbox, score) in the images of an annotation file as persons without joints.

    Raises:
        DataError: a box has no size.
    """
    joints = len(skeleton)
    persons = []
    for number, record in enumerate(records):
        if record["image_id"] not in file.images or record.get("category_id", 1) != 1:
            continue
        x, y, width, height = _numbers(record["bbox"], f"{where}: [{number}]")
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
    return persons


def clipped_box(bbox: Any, size_wh: tuple[int, int], where: str) -> NDArray[np.float64]:
    """Return a COCO box (x, y, w, h) as corners, clipped to the image.

    Raises:
        DataError: it is malformed, has no size, or lies outside the image.
    """
    x, y, width, height = _numbers(bbox, where)
    if width <= 0 or height <= 0:
        raise DataError(f"{where}: bbox {list(bbox)} has no size; expected x, y, width > 0, height > 0.")
    limit = np.array([*size_wh, *size_wh], np.float64)
    box = np.clip(np.array([x, y, x + width, y + height], np.float64), 0, limit)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise DataError(f"{where}: bbox {list(bbox)} lies outside its image of {size_wh[0]}x{size_wh[1]} pixels.")
    return box


def _keypoints(
    record: Mapping[str, Any], skeleton: Skeleton, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    try:
        values = np.asarray(record["keypoints"], np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (3 * len(skeleton),) or not np.isfinite(values).all():
        raise DataError(
            f"{where}: 'keypoints' has {values.size} numbers; expected {3 * len(skeleton)} finite ones "
            f"(x, y, visibility of the {len(skeleton)} joints of {skeleton.name})."
        )
    values = values.reshape(-1, 3)
    return values[:, :2].copy(), np.clip(values[:, 2], 0, 1).astype(np.float32)


def _numbers(bbox: Any, where: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError):
        raise DataError(f"{where}: bbox is {bbox!r}; expected four numbers x, y, width, height.") from None
    if not all(map(math.isfinite, (x, y, width, height))):
        raise DataError(f"{where}: bbox is {bbox!r}; expected finite numbers.")
    return x, y, width, height


def _need(record: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(record, dict):
        raise DataError(f"{where} is {str(record)[:40]!r}; expected an object with {', '.join(keys)}.")
    for key in keys:
        if key not in record:
            raise DataError(f"{where}: the key {key!r} is missing; expected {', '.join(keys)}.")
