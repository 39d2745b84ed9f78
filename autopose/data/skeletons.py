"""The skeleton that a recipe or an annotation file means."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from autopose.data.categories import PERSON_NAMES, category_record, person_category
from autopose.data.coco_file import CocoFile, first_keypoints, read_json
from autopose.data.places import find_file
from autopose.errors import DataError
from autopose.skeleton import COCO17, SKELETONS, Skeleton, skeleton_by_joints
from autopose.skeleton_record import plain_name, skeleton_from

_NAME_THEM = "List their names, in the file's order, as 'keypoints' of the category of persons under 'categories'."


def open_skeleton(source: str) -> Skeleton:
    """Return a known skeleton, or the one of a JSON file.

    Args:
        source: a name; or a file (looked up as annotations are) that describes a skeleton itself
            (:func:`autopose.skeleton_record.skeleton_from`), or annotations in COCO's format whose category of persons
            names its ``keypoints``.

    Raises:
        DataError: it is neither.
    """
    if source in SKELETONS:
        return SKELETONS[source]
    path = find_file(source)
    if path is None:
        raise DataError(
            f"Unknown skeleton {source!r}. Known: {', '.join(SKELETONS)}; or name a JSON file with joints of your own: "
            "annotations in COCO's format whose category names its 'keypoints', for instance."
        )
    return _skeleton_of_file(path, path.stat().st_mtime_ns)


def conversion_to(skeleton: Skeleton, annotations: Path) -> str:
    """Return the command that gives annotations these joints."""
    target = skeleton.name if skeleton.is_known else "SKELETON.json"
    return f"autopose data convert {annotations} --to {target} -o OUT.json"


def joints_to_resume(source: str) -> str:
    """Return what a resumed run has to find again in a skeleton's file; nothing of a known one, whose name says all."""
    own = open_skeleton(source)
    return "" if source in SKELETONS else f" {own.joints} {own.sigmas} {own.pairs}"


@lru_cache(maxsize=8)
def _skeleton_of_file(path: Path, _changed: int) -> Skeleton:
    content = read_json(path, "skeleton")
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        named = _named_in(content, path)
        if named is None:
            raise DataError(f"{path}: does not name its joints.\n{_NAME_THEM}")
        return named
    return skeleton_from(content, str(path), path.stem)


def skeleton_of(file: CocoFile) -> Skeleton:
    """Return the skeleton of a COCO file: that of the joints that it names, or a known one of so many joints.

    Raises:
        DataError: it does not name its joints, and they are none that are known, or could be several; or what it says
            of them cannot be used.
    """
    numbers = len(first_keypoints(file.annotations))
    named = _skeleton_of_category(file.category, numbers, file.path)
    if named is not None:
        return named
    counted = [skeleton for skeleton in SKELETONS.values() if 3 * len(skeleton) == numbers]
    if not counted:
        raise DataError(
            f"{file.path}: has {numbers // 3} joints that are of no known skeleton ({', '.join(SKELETONS)}), and does "
            f"not name them.\n{_NAME_THEM}"
        )
    if len(counted) > 1 and COCO17 not in counted:
        raise DataError(
            f"{file.path}: has {numbers // 3} joints and does not name them: "
            f"{' and '.join(each.name for each in counted)} have as many, in other orders.\n{_NAME_THEM}"
        )
    return counted[0]  # 17 joints without names are COCO's


def named_skeleton(annotations: Path) -> Skeleton | None:
    """Return the skeleton whose joints a COCO file names for its persons, pictures aside; None if it names none.

    Raises:
        DataError: the file cannot be read, or what it says of its joints cannot be used.
    """
    content = read_json(annotations, "annotation file")
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        return None
    return _named_in(content, annotations)


def _named_in(content: Mapping[str, Any], path: Path) -> Skeleton | None:
    category = person_category(content, path)
    numbers = len(first_keypoints(content["annotations"], category))
    return _skeleton_of_category(category_record(content, category), numbers, path)


def _skeleton_of_category(category: Mapping[str, Any], numbers: int, path: Path) -> Skeleton | None:
    """Return the skeleton that a category names, if it does; a person's keypoints have so many numbers (0: no idea)."""
    names = category.get("keypoints")
    if not isinstance(names, list) or not names:
        return None
    joints = tuple(map(plain_name, names))
    if skeleton_by_joints(joints) is None and numbers and numbers != 3 * len(joints):
        # Human-Art's files name four joints more than their 'keypoints' hold.
        if (held := skeleton_by_joints(joints[: numbers // 3])) is not None:
            return held
        raise DataError(
            f"{path}: names {len(joints)} joints; 'keypoints' of its first person have {numbers} numbers, expected "
            f"{3 * len(joints)}."
        )
    kind = str(category.get("name")).lower()
    name = path.stem if kind in (*PERSON_NAMES, "none") else kind
    return skeleton_from({**category, "name": name}, f"{path}: the category of persons")
