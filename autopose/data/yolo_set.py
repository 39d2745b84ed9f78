"""The YAML file of a YOLO-pose data set: which pictures it has, and which joints.

Source: docs.ultralytics.com/datasets/pose (keys path, train, val, test, kpt_shape, flip_idx, names, kpt_names).
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopose.data.categories import person_category
from autopose.errors import DataError, require
from autopose.files import with_slashes
from autopose.image_files import IMAGE_SUFFIXES
from autopose.skeleton import COCO17, Skeleton, usual_sigmas
from autopose.skeleton_record import MOST_JOINTS, plain_name

SUFFIXES = (".yaml", ".yml")
SPLITS = ("train", "val", "test")
_NAME_THEM = "Add their names, in the order of the labels: kpt_names: {%d: [nose, left_ear, right_ear, ...]}"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """What the lines of a set's labels mean.

    Attributes:
        joints: how many there are.
        dims: values of each: 2 (x, y) or 3 (and the visibility).
        person: the number of the class of persons.
        classes: the numbers of all; None: not known.
        category: of persons, as a COCO file would describe it.
    """

    joints: int
    dims: int
    person: int
    classes: frozenset[int] | None
    category: Mapping[str, Any]


def is_pose_yaml(path: Path) -> bool:
    """Tell whether a YAML file has the key by which a YOLO set is one of poses."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    return re.search(rb"^\s*['\"]?kpt_shape['\"]?\s*:", path.read_bytes(), re.MULTILINE) is not None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file says.

    Raises:
        DataError: it is missing, or no mapping in YAML.
        MissingDependencyError: PyYAML is not installed.
    """
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}.")
    yaml = require("yaml", extra="yolo", why="Reading the YAML file of a YOLO set")
    try:
        content = yaml.safe_load(path.read_bytes().decode("utf-8-sig"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # no UTF-8, or dates that are none
        raise DataError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected the keys path, train, val, kpt_shape and names of a YOLO-pose set.")
    return content


def layout_of(content: Mapping[str, Any], path: Path) -> Layout:
    """Return what a set's YAML file says of its labels.

    Raises:
        DataError: something is missing or does not fit.
    """
    shape = content.get("kpt_shape")
    if shape is None:
        raise DataError(
            f"{path}: has no 'kpt_shape'; a YOLO-pose set says for instance kpt_shape: [17, 3]. Labels without joints "
            "(of detection or segmentation) cannot be read."
        )
    if not (isinstance(shape, list) and len(shape) == 2 and _whole(shape) and shape[1] in (2, 3)) or not (
        1 <= shape[0] <= MOST_JOINTS
    ):
        raise DataError(
            f"{path}: 'kpt_shape' is {str(shape)[:60]}; expected the number of joints and 2 (x, y) or 3 (and the "
            "visibility), for instance [17, 3]."
        )
    names = _numbered(content.get("names") or {0: "person"}, path, "names")
    categories = [{"id": number, "name": name} for number, name in names.items()]
    person = person_category({"categories": categories, "annotations": []}, path)
    joints = _joint_names(content, path, person, shape[0])
    category = {"name": str(names[person]), "keypoints": joints or list(COCO17.joints)}
    mirrored = _with_pairs(category, content.get("flip_idx"), path, named=bool(joints), person=person)
    return Layout(shape[0], shape[1], person, frozenset(names), mirrored)


def pictures_of(content: Mapping[str, Any], path: Path, images: Path | None) -> tuple[dict[Path, str], list[Path]]:
    """Return the pictures of all splits, each with the first split that has it, and the folders that they are in.

    Args:
        content: of the YAML file.
        path: that file.
        images: taken in the place of its ``path``.

    Raises:
        DataError: none of the splits is there, or a list names a picture that is not.
    """
    given = with_slashes(str(content.get("path") or ""))
    roots = [path.parent / given, path.parent / Path(given).name, path.parent] if images is None else [images]
    pictures: dict[Path, str] = {}
    folders, missing = [], []
    for split in SPLITS:
        entries = content.get(split) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            name = with_slashes(str(entry))
            inside = re.sub(r"^(\.\./)+", "", name)  # Roboflow's files say ../train/images of what is beside them
            places = [root / each for each in dict.fromkeys((name, inside)) for root in roots]
            place = next((each for each in places if each.exists()), None)
            if place is None:
                missing.append((split, places))
            elif place.is_dir():
                folders.append(place)
                for picture in pictures_below(place):
                    pictures.setdefault(picture, split)
            else:
                for picture in _listed_in(place, roots):
                    pictures.setdefault(picture, split)
    for split, places in missing:
        if len(missing) == len(SPLITS) or not pictures:
            listed = ", ".join(repr(str(each)) for each in dict.fromkeys(places))
            raise DataError(
                f"{path}: its {split!r} is not there: {listed}.\nMend 'path', or name what it should be: --images DIR"
            )
        log.warning("%s: its %r is not there (%s): left out.", path, split, places[0])
    if not pictures:
        raise DataError(f"{path}: has no pictures; expected folders of them, or lists, as {', '.join(SPLITS)}.")
    return pictures, folders


def pictures_below(folder: Path) -> Iterator[Path]:
    """Yield the pictures below a folder, in order."""
    for path in sorted(folder.rglob("[!.]*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


def _listed_in(path: Path, roots: Iterable[Path]) -> Iterator[Path]:
    """Yield the pictures that a text file lists, by names relative to its own folder or to the set's."""
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig", "surrogateescape").splitlines(), start=1):
        if not (name := with_slashes(line.strip())):
            continue
        inside = name.removeprefix("data/")  # CVAT's lists say data/images/train/1.jpg of what is beside them
        places = [folder / each for each in dict.fromkeys((name, inside)) for folder in (path.parent, *roots)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(
                f"{path}: line {number}: no picture {name!r} in its folder or the set's: {str(places[0])!r}.\nPut the "
                "pictures there, or name the labels' folder instead of the YAML file, and theirs with --images DIR."
            )
        yield found


def _numbered(listed: Any, path: Path, key: str) -> dict[int, Any]:
    """Return a list, or a mapping from numbers, as the latter."""
    found = dict(enumerate(listed)) if isinstance(listed, list) else listed
    if not isinstance(found, dict) or not _whole(list(found)):
        raise DataError(f"{path}: {key!r} is {str(listed)[:60]}; expected a list, or a mapping from class numbers.")
    return found


def _joint_names(content: Mapping[str, Any], path: Path, person: int, count: int) -> list[str]:
    """Return the joints' names; nothing where none are given and COCO's are meant."""
    given = content.get("kpt_names")
    if given is None:
        if count == len(COCO17):
            return []
        raise DataError(
            f"{path}: has {count} joints and does not name them; only {len(COCO17)} are taken for COCO's.\n"
            f"{_NAME_THEM % person}"
        )
    flat = isinstance(given, list) and all(isinstance(each, str | int) for each in given)
    names = given if flat else _numbered(given, path, "kpt_names").get(person)
    if not isinstance(names, list) or len(names) != count:
        has = f"{len(names)} names" if isinstance(names, list) else f"{str(names)[:40]}"
        raise DataError(f"{path}: 'kpt_names' has {has} for class {person}; expected {count}, as 'kpt_shape' says.")
    return list(map(str, names))


def _with_pairs(category: dict[str, Any], flip: Any, path: Path, *, named: bool, person: int) -> dict[str, Any]:
    """Return a category with the pairs that ``flip_idx`` tells, held against what the joints' names tell.

    One that leaves all joints in place says nothing: it is what label tools write where nobody filled it in.
    """
    joints = tuple(map(plain_name, category["keypoints"]))
    if flip is None or flip == list(range(len(joints))):
        return category
    numbers = list(range(len(joints)))
    if not (isinstance(flip, list) and _whole(flip) and sorted(flip) == numbers and [flip[k] for k in flip] == numbers):
        raise DataError(
            f"{path}: 'flip_idx' is {str(flip)[:60]}; expected each number from 0 to {len(joints) - 1} once, and two "
            "that change places at each other's, as 'kpt_shape' has so many joints."
        )
    by_name = Skeleton("own", joints, (), usual_sigmas(joints)).flip_order.tolist()
    for k, (given, told) in enumerate(zip(flip, by_name, strict=True)):
        if given != told and not named:
            raise DataError(
                f"{path}: 'flip_idx' is not that of COCO's {len(joints)} joints (joint {k} changes places with "
                f"{given}), so they are others.\n{_NAME_THEM % person}"
            )
        if given != told != k:
            raise DataError(
                f"{path}: 'flip_idx' has {given} for joint {k}, {joints[k]!r}, which by its name changes places with "
                f"{joints[told]!r}, joint {told}, in a mirror image. Mend 'flip_idx' or 'kpt_names'."
            )
    if flip == by_name:
        return category
    return {**category, "pairs": [[joints[k], joints[other]] for k, other in enumerate(flip) if k < other]}


def _whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
