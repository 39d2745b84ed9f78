"""From one skeleton to another, and from any known annotation file to COCO's format."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.annotations import label_tool, own_format
from autopose.data.coco import PSEUDO_WEIGHT, persons_from_coco
from autopose.data.coco_file import CocoFile, number_fault, read_coco
from autopose.data.images import DiskReader
from autopose.data.picture_header import picture_header
from autopose.data.skeletons import skeleton_of
from autopose.errors import DataError
from autopose.files import path_from, write_atomic
from autopose.poses import Person
from autopose.skeleton import Skeleton
from autopose.skeleton_record import own_constants

#: Names of one and the same place.
SYNONYMS: tuple[frozenset[str], ...] = (
    frozenset({"neck", "upper_neck", "head_bottom"}),
    frozenset({"head_top", "head"}),
)
#: Joints that lie near the middle of two others.
MIDDLES: dict[str, tuple[str, str]] = {
    "pelvis": ("left_hip", "right_hip"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "neck": ("left_shoulder", "right_shoulder"),
    "upper_neck": ("left_shoulder", "right_shoulder"),
    "head_bottom": ("left_shoulder", "right_shoulder"),
}


def convert_joints(
    keypoints: NDArray[np.floating],
    weight: NDArray[np.floating],
    source: Skeleton,
    target: Skeleton,
    *,
    middles: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return joints ``(..., K', 2)`` and weights ``(..., K')`` of another skeleton.

    A joint is taken over by its name or a synonym; what the source lacks gets weight 0.

    Args:
        keypoints: ``(..., K, 2)``.
        weight: ``(..., K)``.
        source: their skeleton.
        target: the wanted skeleton.
        middles: guess pelvis, thorax and neck as middles of hips and shoulders, with the lesser weight of the two.
    """
    shape = keypoints.shape[:-2]
    xy = np.zeros((*shape, len(target), 2))
    weights = np.zeros((*shape, len(target)), np.float32)
    taken, between = _places(source.joints, target.joints, middles)
    here, there = list(taken), list(taken.values())
    xy[..., here, :], weights[..., here] = keypoints[..., there, :], weight[..., there]
    for index, (one, other) in between.items():
        xy[..., index, :] = (keypoints[..., one, :] + keypoints[..., other, :]) / 2
        weights[..., index] = np.minimum(weight[..., one], weight[..., other])
    return xy, weights


@lru_cache
def _places(
    source: tuple[str, ...], target: tuple[str, ...], middles: bool
) -> tuple[dict[int, int], dict[int, tuple[int, int]]]:
    """Return which joint of the source each of the target is, and which ones lie between which two."""
    taken, between = {}, {}
    for index, joint in enumerate(target):
        names = {joint}.union(*(group for group in SYNONYMS if joint in group))
        found = joint if joint in source else next((name for name in source if name in names), None)
        if found is not None:
            taken[index] = source.index(found)
        elif middles and joint in MIDDLES and set(MIDDLES[joint]) <= set(source):
            one, other = MIDDLES[joint]
            between[index] = source.index(one), source.index(other)
    return taken, between


def convert_persons(persons: Sequence[Person], target: Skeleton, *, middles: bool = False) -> list[Person]:
    """Return the persons with another skeleton, without those of whom no joint is left."""
    converted = []
    for person in persons:
        xy, weight = convert_joints(person.keypoints, person.weight, person.skeleton, target, middles=middles)
        if weight.any():
            converted.append(replace(person, keypoints=xy, weight=weight, skeleton=target))
    return converted


def read_records(annotations: Path, *, images: Path | None = None) -> CocoFile | None:
    """Read a file in COCO's format, or the labels of a tool, as COCO's records; None of the format of a data set.

    Raises:
        DataError: it is missing, or in none of the formats.
    """
    path = Path(annotations)
    if (tool := label_tool(path)) is not None:
        return tool.read(path, images=images)
    return None if path.is_dir() or own_format(path) is not None else read_coco(path, images=images)


def load_native(annotations: Path, *, images: Path | None = None) -> list[Person]:
    """Read persons with the skeleton that the file itself has.

    Knows COCO's format with the joints of COCO, CrowdPose, PoseTrack18 (a file or the folder of a split), OCHuman's
    own file or its converted ones, or with others that the file names; MPII's formats, the ``joints.mat`` of LSP and
    LSPET, and the labels of YOLO-pose, labelme and DeepLabCut.

    Raises:
        DataError: the file is missing or of no known format or skeleton.
    """
    path = Path(annotations)
    if (file := read_records(path, images=images)) is not None:
        return persons_from_coco(file, skeleton=skeleton_of(file))
    if path.is_dir():
        files = sorted(path.glob("[!.]*.json"))  # macOS leaves ._NAME.json beside NAME.json
        if not files:
            raise DataError(
                f"{path}: this folder holds no JSON annotations, nor labels of YOLO, labelme or DeepLabCut. Of a YOLO "
                "set name its YAML file, or the folder of its labels."
            )
        return [person for file in files for person in load_native(file, images=images)]
    own = own_format(path)
    assert own is not None  # it is a file, and neither COCO's nor a label tool's
    return own.load(path, images=images)


def convert_coco(
    file: CocoFile,
    target: Skeleton,
    out: Path,
    *,
    middles: bool = False,
    on_record: Callable[[], None] = lambda: None,
) -> int:
    """Write a COCO file with another skeleton; return the number of persons who have a joint of that.

    Pictures keep their ids, their licences and what is said of them, also those that show nobody; crowds and persons
    without joints stay, without keypoints. Records of other categories than persons are left out.

    Args:
        file: to convert.
        target: joints to write.
        out: JSON file; pictures are named relative to it.
        middles: see :func:`convert_joints`.
        on_record: called after each annotation, for progress.

    Raises:
        DataError: its joints are not known, or the keypoints of a record cannot be used.
    """
    source = skeleton_of(file)
    folder = out.resolve().parent
    images = [
        {**image, "file_name": path_from(folder, file.image_path(number).resolve())}
        for number, image in file.images.items()
    ]
    annotations, persons = [], 0
    for number, record in enumerate(file.annotations):
        on_record()
        if record.get("category_id", 1) != 1:
            continue
        given = record.get("keypoints") or [0] * (3 * len(source))
        if fault := number_fault(given, 3 * len(source)):
            raise DataError(f"{file.path}: annotations[{number}]: 'keypoints' {fault}.")
        values = np.asarray(given, np.float64).reshape(-1, 3)
        xy, third = convert_joints(values[:, :2], values[:, 2], source, target, middles=middles)
        listed = np.isin(np.arange(len(source)), record.get("pseudo") or [])
        # A middle is a human's only if both of its joints are, as its weight is the lesser of the two.
        _, human = convert_joints(values[:, :2], (~listed).astype(np.float32), source, target, middles=middles)
        xy[third <= 0] = 0
        flags = third.astype(np.float64).round(4)
        changed: dict[str, Any] = {
            "id": record.get("id", number + 1),
            "category_id": 1,
            "keypoints": np.concatenate([xy.round(2), flags[:, None]], 1).ravel().tolist(),
            "num_keypoints": int((third > 0).sum()),
        }
        if "pseudo" in record:
            changed["pseudo"] = np.flatnonzero((third > 0) & (human == 0)).tolist()
        persons += bool(changed["num_keypoints"])
        annotations.append({**record, **changed})
    above = {key: file.category[key] for key in ("supercategory",) if key in file.category}
    lists = {"images": images, "annotations": annotations, "categories": [{**above, **_category(target)}]}
    write_atomic(out, json.dumps({**file.about, **lists}))
    return persons


def write_coco(
    persons: Sequence[Person],
    out: Path,
    *,
    on_image: Callable[[], None] | None = None,
) -> Path:
    """Write persons of one skeleton as COCO annotations, with paths relative to the file.

    The pictures say ``complete: false``: whoever else is in them, without joints or never annotated, is not listed.

    Raises:
        DataError: there are none, or they have several skeletons.
        MediaError: a picture, whose size is needed, is missing, cut off or none.
    """
    if len({person.skeleton.joints for person in persons}) != 1:
        raise DataError(f"{out}: needs persons of one skeleton, found {len(persons)} persons.")
    ids: dict[Path, int] = {}
    images, annotations = [], []
    for number, person in enumerate(persons, start=1):
        if person.image_path not in ids:
            ids[person.image_path] = len(ids) + 1
            header = picture_header(person.image_path)
            if not header.ended:
                DiskReader().read(person.image_path)  # tells if it is cut off
            width, height = header.size_wh
            name = path_from(out.resolve().parent, person.image_path.resolve())
            size = {"width": width, "height": height}
            images.append({"id": ids[person.image_path], "file_name": name, **size, "complete": False})
            if on_image is not None:
                on_image()
        annotations.append(_record(person, number, ids[person.image_path]))
    categories = [_category(persons[0].skeleton)]
    write_atomic(out, json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return out


def _category(skeleton: Skeleton) -> dict[str, Any]:
    """Return COCO's record of the category of persons."""
    return {
        "id": 1,
        "name": "person" if skeleton.is_known else skeleton.name,
        "keypoints": list(skeleton.joints),
        "skeleton": (skeleton.limb_indices.reshape(-1, 2) + 1).tolist(),  # COCO counts from 1
        **own_constants(skeleton),
    }


def _record(person: Person, number: int, image_id: int) -> dict[str, Any]:
    labelled = person.weight > 0
    x0, y0, x1, y1 = (round(float(value), 2) for value in person.box_xyxy)
    unsure = labelled & (person.weight <= np.float32(PSEUDO_WEIGHT))  # below that no confidence is read
    third = np.where(unsure | (person.weight >= 1), 2.0, person.weight.astype(np.float64).round(4)) * labelled
    flat = np.concatenate([np.where(labelled[:, None], person.keypoints.round(2), 0), third[:, None]], axis=1)
    record: dict[str, Any] = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": [],  # see autopose.data.labels
        "area": person.area,
        "keypoints": flat.ravel().tolist(),
        "num_keypoints": int(labelled.sum()),
    }
    return {**record, "pseudo": np.flatnonzero(unsure).tolist()} if unsure.any() else record
