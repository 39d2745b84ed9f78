"""Labels of YOLO-pose as Ultralytics defines them, read as COCO's records.

One text file for each picture, in ``labels/`` where the picture is in ``images/``; a line is a person: class, x, y,
width and height of the box, then x, y (and visibility) of each joint, as shares of the picture's sides. A picture
without lines, or without a file, shows nobody. Source: docs.ultralytics.com/datasets/pose.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco_file import CocoFile, named_folder
from autopose.data.labels import Labels
from autopose.data.picture_header import picture_header, refuse_turned
from autopose.data.yolo_set import SUFFIXES, Layout, is_pose_yaml, layout_of, pictures_below, pictures_of, read_yaml
from autopose.errors import DataError
from autopose.skeleton import COCO17

#: So much do rounded shares lie outside of the picture at most, of its side.
ROUNDING = 0.01
#: Text files that label tools leave beside labels.
_OTHERS = frozenset({"classes.txt", "notes.txt", "readme.txt", "predefined_classes.txt"})
_BOX = 5


def is_yolo(path: Path) -> bool:
    """Tell whether a path is a set's YAML file, the folder that has it, or a folder of labels."""
    if path.is_dir():
        return is_labels_folder(path) or bool(_yamls_in(path))
    return path.suffix.lower() in SUFFIXES


def is_labels_folder(path: Path) -> bool:
    """Tell whether a folder, or one in it, has a text file whose first line could be a label."""
    if not path.is_dir():
        return False
    for file in chain(path.glob("[!.]*.txt"), path.glob("[!.]*/[!.]*.txt")):
        if file.name.lower() not in _OTHERS and (first := next(_lines(file), None)) is not None:
            fields = first[1].split()
            return len(fields) >= _BOX and fields[0].isdecimal() and all(map(_is_number, fields))
    return False


def read_yolo(path: Path, *, images: Path | None = None) -> CocoFile:
    """Read a set of YOLO-pose.

    Args:
        path: its YAML file, or the folder that has it: all of its splits, each picture once and with the key
            ``split``; or the folder of a split's labels, whose joints a YAML file above it describes, and which are
            COCO's where there is none.
        images: of a YAML file what its ``path`` should be; of labels the folder of their pictures. None: found.

    Raises:
        DataError: a file is missing or says something else (it and its line are named), or pictures are stored turned.
        MissingDependencyError: there is a YAML file, and PyYAML is not installed.
    """
    path = Path(path)
    images = named_folder(images) if images is not None else None
    if path.is_dir() and not is_labels_folder(path):
        path = _yaml_of(path) or path
    if path.is_dir():
        if is_labels_folder(path / "labels"):  # what Label Studio exports, or a split of Roboflow's: images/ beside it
            path = path / "labels"
        described = _yaml_above(path)
        layout = _usual_layout(path) if described is None else layout_of(read_yaml(described), described)
        folder = _folder_of_pictures(path) if images is None else images
        pictures = dict.fromkeys(pictures_below(folder), "")
        if not pictures:
            raise DataError(f"{path}: no pictures in {str(folder)!r}.\nName their folder with --images DIR.")
        _refuse_strays(path, {_label_in(path, folder, picture) for picture in pictures}, folder)
        return _read(path, layout, pictures, lambda picture: _label_in(path, folder, picture))
    content = read_yaml(path)
    layout = layout_of(content, path)
    pictures, folders = pictures_of(content, path, images)
    labels = {label_of(picture): picture for picture in pictures}
    for folder in folders:
        # Beside the pictures any text may lie.
        inside = {each.parent for each, picture in labels.items() if folder in picture.parents}
        for each in inside - {picture.parent.absolute() for picture in pictures}:
            _refuse_strays(each, labels.keys(), folder)
    return _read(path, layout, pictures, label_of)


def label_of(picture: Path) -> Path:
    """Return the file of a picture's labels: in ``labels`` for the last ``images`` of its path, else beside it."""
    return _exchanged(picture.parent.absolute(), "images", "labels") / f"{picture.stem}.txt"


def _exchanged(folder: Path, name: str, other: str) -> Path:
    parts = list(folder.parts)
    places = [place for place, part in enumerate(parts) if part == name]
    if places:
        parts[places[-1]] = other
    return Path(*parts)


def _label_in(labels: Path, folder: Path, picture: Path) -> Path:
    return (labels.absolute() / picture.relative_to(folder)).with_suffix(".txt")


def _folder_of_pictures(labels: Path) -> Path:
    places = dict.fromkeys((_exchanged(labels.absolute(), "labels", "images"), labels.absolute()))
    found = next((place for place in places if place.is_dir() and any(pictures_below(place))), None)
    if found is None:
        listed = " or ".join(repr(str(place)) for place in places)
        raise DataError(f"{labels}: no pictures of these labels in {listed}.\nName their folder with --images DIR.")
    return found


def _yaml_above(labels: Path) -> Path | None:
    """Return the YAML file that describes labels, in their folder or the three above."""
    folders = (labels, *list(labels.absolute().parents)[:3])
    return next((found for folder in folders if (found := _yaml_of(folder)) is not None), None)


def _yaml_of(folder: Path) -> Path | None:
    """Return the YAML file in a folder that describes labels; None if none does."""
    found = _yamls_in(folder)
    if len(found) > 1:
        raise DataError(
            f"{folder}: {' and '.join(repr(str(each)) for each in found[:3])} describe labels; keep the one that is "
            "meant, or convert by it."
        )
    return found[0] if found else None


def _yamls_in(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.glob("[!.]*.y*ml")) if each.is_file() and is_pose_yaml(each)]


def _usual_layout(labels: Path) -> Layout:
    """Return the layout of labels that nothing describes: COCO's joints, if a line has as many values as they need."""
    category = {"name": "person", "keypoints": list(COCO17.joints)}
    count = next((len(line.split()) for file in _label_files(labels) for _, line in _lines(file)), 0)
    for dims in (2, 3):
        if count == _BOX + dims * len(COCO17):
            return Layout(len(COCO17), dims, 0, None, category)
    raise DataError(
        f"{labels}: its lines have {count} values, and no YAML file above it says which joints they are; expected "
        f"{_BOX + 3 * len(COCO17)} or {_BOX + 2 * len(COCO17)} of COCO's {len(COCO17)}.\n"
        "Write a data.yaml above it: kpt_shape: [K, 3], names: {0: person}, kpt_names: {0: [nose, left_ear, ...]}"
    )


def _label_files(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.rglob("[!.]*.txt")) if each.name.lower() not in _OTHERS]


def _refuse_strays(labels: Path, known: Set[Path], folder: Path) -> None:
    """Raise a DataError if there are labels of pictures that are not there; ``known`` are absolute."""
    strays = [each for each in _label_files(labels) if each.absolute() not in known]
    if strays:
        raise DataError(
            f"{labels}: {len(strays)} files of labels have no picture in {str(folder)!r}, the first {strays[0].name!r}."
            " Put the pictures there, or remove these labels."
        )


def _read(path: Path, layout: Layout, pictures: Mapping[Path, str], label: Callable[[Path], Path]) -> CocoFile:
    read, turned = Labels(path), []
    if not any(label(picture).is_file() for picture in pictures):
        first = next(iter(pictures))
        raise DataError(
            f"{path}: none of its {len(pictures)} pictures has labels: there is no {str(label(first))!r}, nor another."
        )
    for picture, split in pictures.items():
        header = picture_header(picture)
        if header.turned:
            turned.append(picture)
        read.add_picture(picture, header.size_wh, **({"split": split} if split else {}))
        if not (file := label(picture)).is_file():
            continue
        for number, line in _lines(file):
            where = f"{file}: line {number}"
            values = _values(line, layout, where)
            if values[0] == layout.person:
                box, joints = _in_pixels(values, layout, header.size_wh, where)
                read.add_person(box, joints, where)
    refuse_turned(turned, len(pictures), path, "YOLO")
    return read.as_coco(layout.category)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, with their numbers."""
    text = file.read_bytes().decode("utf-8-sig", "replace")
    return ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _values(line: str, layout: Layout, where: str) -> list[float]:
    fields = line.split()
    expected = _BOX + layout.joints * layout.dims
    if len(fields) != expected:
        other = 5 - layout.dims
        hint = ""
        if len(fields) == _BOX + layout.joints * other:
            hint = f" They would fit kpt_shape: [{layout.joints}, {other}]."
        elif len(fields) == _BOX:
            hint = " It is a box without joints, as of a set for detection."
        elif len(fields) > _BOX and len(fields) % 2 and abs(len(fields) - expected) > layout.dims:  # not merely cut off
            hint = " It may be an outline, as of a set for segmentation."
        raise DataError(
            f"{where}: has {len(fields)} values; expected {expected}: the class, x, y, width and height of the box, "
            f"and {layout.dims} for each of {layout.joints} joints.{hint}"
        )
    wrong = next((field for field in fields if not _is_number(field)), None)
    if wrong is not None:
        raise DataError(f"{where}: has {wrong[:40]!r}; expected finite numbers.")
    values = list(map(float, fields))
    if values[0] < 0 or values[0] % 1 or (layout.classes is not None and int(values[0]) not in layout.classes):
        known = "" if layout.classes is None else f", one of the 'names': {', '.join(map(str, sorted(layout.classes)))}"
        raise DataError(f"{where}: has the class {fields[0]}; expected a whole number{known}.")
    return values


def _in_pixels(
    values: list[float], layout: Layout, size_wh: tuple[int, int], where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a line's box, as corners, and its joints with COCO's third value."""
    box = np.array(values[1:_BOX])
    joints = np.array(values[_BOX:]).reshape(layout.joints, layout.dims)
    if layout.dims == 2:  # 0, 0 or less than that: without a label
        labelled = (joints >= 0).all(1) & joints.any(1)
        joints = np.column_stack([joints, np.where(labelled, 2, 0)])
    seen = joints[:, 2]
    if ((seen < 0) | (seen > 2) | ((seen > 1) & (seen < 2))).any():
        raise DataError(f"{where}: a visibility is {_first(seen, (0, 1, 2))}; expected 0, 1 or 2 (or a confidence).")
    shares = np.concatenate([box, joints[seen > 0, :2].ravel()])
    outside = shares[(shares < -ROUNDING) | (shares > 1 + ROUNDING)]
    if outside.size:
        raise DataError(
            f"{where}: has {outside[0]:g}; expected shares of the picture's width and height, from 0 to 1, for the box "
            "and all joints that are labelled."
        )
    if (box[2:] <= 0).any():
        raise DataError(f"{where}: its box has no size; expected a width and a height above 0.")
    side = np.array(size_wh, np.float64)
    joints[:, :2] *= side
    center, half = box[:2] * side, box[2:] * side / 2
    return np.concatenate([center - half, center + half]), joints


def _first(values: NDArray[np.float64], known: tuple[int, ...]) -> str:
    return next(f"{value:g}" for value in values.tolist() if value not in known and not 0 <= value <= 1)
