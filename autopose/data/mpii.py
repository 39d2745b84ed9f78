"""MPII Human Pose as :class:`autopose.poses.Person`: the official ``.mat``, the common JSON split, tables of joints."""

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco import BOX_SHARE
from autopose.data.coco_file import folder_with, named_folder, read_json
from autopose.data.lsp import is_lsp
from autopose.data.mpii_mat import JOINTS, MpiiRecord, read_head_boxes, read_official
from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import MPII16

#: MATLAB counts pixels from 1.
FIRST_PIXEL = 1.0
#: A person's height in units of ``scale``.
HEIGHT_PX = 200.0
#: The annotated centre is moved down by this many pixels per unit of scale, so that feet are not cut off
#: (HRNet ``lib/dataset/mpii.py``).
CENTER_DOWN_PX = 15.0


def is_mpii(path: Path) -> bool:
    """Tell whether a file is in one of MPII's formats: ``.mat``, ``.csv`` (``.gz``), or a JSON list with ``joints``."""
    name = path.name.lower()
    if is_lsp(path):
        return False
    if name.endswith((".mat", ".csv", ".csv.gz")):
        return True
    if not name.endswith(".json") or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096).lstrip()
    return start.startswith(b"[") and (b'"joints' in start or b'"scale"' in start) and b'"bbox"' not in start


def load_mpii(
    annotations: Path,
    *,
    images: Path | None = None,
    head_boxes: Path | None = None,
    separated_only: bool = False,
    sample_weight: float = 1.0,
) -> list[Person]:
    """Read persons with joints, in pixels counted from 0.

    A person's box is the square of side ``200 scale`` around the annotated centre, moved down by ``15 scale``: enlarged
    by the usual 1.25 it is the region that HRNet and SimpleBaseline crop. Tables of joints have no scale: there the box
    is the joints' extent and a tenth of it on each side.

    Args:
        annotations: ``mpii_human_pose_v1_u12_1.mat`` (the training images' persons), the common ``train.json`` or
            ``valid.json`` (records with image, joints, joints_vis, center, scale), or a table of image and 32 numbers.
        images: folder of the pictures; None: ``images`` beside the annotations or above, or their own folder.
        head_boxes: where the JSON's head boxes are: ``gt_valid.mat`` (same order) or the official ``.mat``; None: a
            ``gt_valid.mat`` beside ``valid.json``, if there is one.
        separated_only: official ``.mat``: only persons apart from others (the official single-person evaluation).
        sample_weight: becomes ``Person.weight_sample``.

    Raises:
        DataError: a file is missing or of another format; no person has joints.
        MissingDependencyError: a ``.mat`` needs SciPy.
    """
    path = Path(annotations)
    if path.suffix.lower() == ".mat":
        records = [r for r in read_official(path) if r.train and (r.separated or not separated_only)]
    elif path.suffix.lower() == ".json":
        records = _read_common(path)
        records = _with_head_boxes(records, head_boxes or _truth_beside(path))
    else:
        records = _read_table(path)
    records = [record for record in records if record.labelled.any()]
    if not records:
        raise DataError(f"{path}: holds no person with joints. MPII's test images have none that are public.")
    folder = _image_folder(path, records[0].image, images)
    ids = {name: number for number, name in enumerate(dict.fromkeys(record.image for record in records))}
    return [_person(record, folder, ids[record.image], number, sample_weight) for number, record in enumerate(records)]


def _person(record: MpiiRecord, folder: Path, image_id: int, number: int, sample_weight: float) -> Person:
    joints = record.joints - FIRST_PIXEL
    low, high = joints[record.labelled].min(0), joints[record.labelled].max(0)
    if record.center is not None and record.scale is not None:
        center = record.center + np.array([0, CENTER_DOWN_PX * record.scale]) - FIRST_PIXEL
        half = np.full(2, HEIGHT_PX * record.scale / 2)
    else:
        center, half = (low + high) / 2, np.maximum(0.6 * (high - low), 4)
    head = None if record.head_box is None else record.head_box - FIRST_PIXEL
    return Person(
        image_path=folder / record.image,
        box_xyxy=np.concatenate([center - half, center + half]),
        keypoints=joints,
        weight=record.labelled.astype(np.float32),
        area=float(max(np.prod(high - low) * BOX_SHARE, 1)),  # for NMS only
        image_id=image_id,
        annotation_id=number,
        weight_sample=sample_weight,
        skeleton=MPII16,
        head_box_xyxy=head,
    )


def _image_folder(path: Path, first: str, images: Path | None) -> Path:
    if images is not None:
        return named_folder(images)
    return folder_with(path, first, [path.parent / "images", path.parent.parent / "images", path.parent])


def _read_common(path: Path) -> list[MpiiRecord]:
    content = read_json(path, "annotation file")
    if not isinstance(content, list):
        raise DataError(
            f"{path}: not MPII's common JSON: expected a list of records with image, joints, center, scale."
        )
    records = []
    for number, record in enumerate(content):
        where = f"{path}: [{number}]"
        if not isinstance(record, dict) or not isinstance(record.get("image"), str):
            raise DataError(f"{where}: expected an object with image, joints, joints_vis, center and scale.")
        if "joints" not in record:
            continue  # test.json
        joints = _numbers(record["joints"], (JOINTS, 2), f"{where}: 'joints'")
        labelled = _numbers(record.get("joints_vis", [1] * JOINTS), (JOINTS,), f"{where}: 'joints_vis'") > 0
        center = _numbers(record["center"], (2,), f"{where}: 'center'") if "center" in record else None
        scale = float(_numbers(record["scale"], (), f"{where}: 'scale'")) if "scale" in record else None
        if center is not None and (center == -1).all():
            center = None  # the common files' mark of a missing centre
        records.append(MpiiRecord(record["image"], True, False, center, scale, joints, labelled, None))
    return records


def _read_table(path: Path) -> list[MpiiRecord]:
    if not path.is_file():
        raise DataError(f"No annotation file {str(path)!r}.")
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}).") from None
    records = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        where = f"{path}: line {number}"
        if len(row) != 1 + 2 * JOINTS:
            raise DataError(f"{where}: has {len(row)} columns; expected an image and x, y of {JOINTS} joints.")
        joints = _numbers(row[1:], (2 * JOINTS,), where).reshape(JOINTS, 2)
        labelled = np.ones(JOINTS, bool)
        records.append(MpiiRecord(row[0], True, False, None, None, joints, labelled, None))
    return records


def _truth_beside(path: Path) -> Path | None:
    truth = path.parent / "gt_valid.mat"
    return truth if path.stem == "valid" and truth.is_file() else None


def _with_head_boxes(records: Sequence[MpiiRecord], source: Path | None) -> list[MpiiRecord]:
    """Return the records with head boxes: by position from gt_valid.mat, by image and joints from the official file."""
    if source is None:
        return list(records)
    if "gt_" in source.name:
        boxes = read_head_boxes(source)
        if len(boxes) != len(records):
            raise DataError(
                f"{source}: has {len(boxes)} head boxes for {len(records)} persons; is it of another split?"
            )
        return [replace(record, head_box=box) for record, box in zip(records, boxes, strict=True)]
    known: dict[str, list[MpiiRecord]] = {}
    for official in read_official(source):
        if official.head_box is not None and official.labelled.any():
            known.setdefault(official.image, []).append(official)
    found = []
    for record in records:
        boxes_of = [(_distance(record, other), other.head_box) for other in known.get(record.image, [])]
        distance, box = min(boxes_of, key=lambda pair: pair[0], default=(np.inf, None))
        if distance > 1:  # the same person has the same joints, but for rounding
            raise DataError(f"{source}: has no head box for the person at {record.center} in {record.image!r}.")
        found.append(replace(record, head_box=box))
    return found


def _distance(one: MpiiRecord, other: MpiiRecord) -> float:
    both = one.labelled & other.labelled
    return float(np.abs(one.joints - other.joints)[both].max()) if both.any() else float("inf")


def _numbers(value: Any, shape: tuple[int, ...], where: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, np.float64)
    except (OverflowError, TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise DataError(f"{where}: expected {int(np.prod(shape))} finite numbers, found {str(value)[:60]!r}.")
    return array
