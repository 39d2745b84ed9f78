"""Labels of labelme, one JSON file for each picture, read as COCO's records.

``shapes`` are points, whose ``label`` is a joint, and rectangles around persons; those of one person have the same
``group_id``. Source: github.com/labelmeai/labelme, its README and examples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.categories import PERSON_NAMES
from autopose.data.coco_file import CocoFile, named_folder, need_keys, number_fault, read_json
from autopose.data.labels import Labels, find_picture, ordered_joints
from autopose.data.picture_header import picture_header, refuse_turned
from autopose.errors import DataError
from autopose.files import with_slashes
from autopose.skeleton_record import plain_name


@dataclass
class _Body:
    """The shapes of one person."""

    points: dict[str, tuple[float, float]] = field(default_factory=dict)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)


def is_labelme(path: Path) -> bool:
    """Tell whether a file is one of labelme's, or a folder has one."""
    if path.is_dir():
        return any(map(is_labelme, _json_files(path)))
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    # Its keys come in this order, or sorted: then the pixels, which may be long, come first.
    own = re.search(rb'"(shapes|imageData|imagePath)"\s*:', start)
    return own is not None and start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and b'"annotations"' not in start


def read_labelme(path: Path, *, images: Path | None = None) -> CocoFile:
    """Read one file of labelme, or a folder of them.

    Shapes that are neither points nor rectangles are left out, and so are pictures without a file.

    Args:
        path: a file or a folder.
        images: folder of the pictures; None: where the files say, or beside them.

    Raises:
        DataError: a file (and its shape) says something else, a picture is not there or has another size, or pictures
            are stored turned.
    """
    path = Path(path)
    images = named_folder(images) if images is not None else None
    files = _json_files(path) if path.is_dir() else [path]
    other = next((file for file in files if not is_labelme(file)), None)
    if other is not None:
        raise DataError(f"{path}: holds labelme's files and others, such as {other.name!r}. Move those elsewhere.")
    contents = {file: _content(file) for file in files}
    kind = _kind_of_boxes(path, [shape for content in contents.values() for shape in content["shapes"]])
    bodies = {file: _bodies(content["shapes"], kind, str(file)) for file, content in contents.items()}
    joints = ordered_joints(joint for each in bodies.values() for body in each for joint in body.points)
    read, turned = Labels(path), []
    for file, content in contents.items():
        picture = _picture(file, content, images)
        header = picture_header(picture)
        if header.turned:
            turned.append(picture)
        else:
            _check_size(content, header.size_wh, picture, file)
        read.add_picture(picture, header.size_wh, complete=False)
        for body in bodies[file]:
            keypoints = np.zeros((len(joints), 3))
            for joint, xy in body.points.items():
                keypoints[joints.index(joint)] = (*xy, 2)
            read.add_person(body.boxes[0] if body.boxes else None, keypoints, str(file))
    refuse_turned(turned, len(files), path, "labelme")
    return read.as_coco({"name": kind or "person", "keypoints": joints})


def _json_files(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.glob("[!.]*")) if each.suffix.lower() == ".json"]


def _content(file: Path) -> Mapping[str, Any]:
    content: dict[str, Any] = read_json(file, "file of labelme")
    need_keys(content, ("shapes", "imagePath"), str(file))
    if not isinstance(content["shapes"], list) or not isinstance(content["imagePath"], str):
        raise DataError(f"{file}: expected a list as 'shapes' and a text as 'imagePath', as labelme writes.")
    for number, shape in enumerate(content["shapes"]):
        need_keys(shape, ("label", "points"), f"{file}: shapes[{number}]")
    return content


def _kind_of_boxes(path: Path, shapes: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what the rectangles of persons are called: a person, else the only name that there is; None without."""
    names = list(dict.fromkeys(str(shape["label"]) for shape in shapes if shape.get("shape_type") == "rectangle"))
    persons = [name for name in names if name.lower() in PERSON_NAMES]
    if len(names) > 1 and len(persons) != 1:
        raise DataError(
            f"{path}: its rectangles are called {', '.join(map(repr, names[:5]))}. Call those of persons 'person': "
            "others are left out."
        )
    return next(iter(persons or names), None)


def _bodies(shapes: Sequence[Mapping[str, Any]], kind: str | None, where: str) -> list[_Body]:
    """Return the persons of a picture: the shapes of each group; all of them, where none has a group."""
    groups: dict[Any, _Body] = {}
    for number, shape in enumerate(shapes):
        spot = f"{where}: shapes[{number}]"
        form, label = shape.get("shape_type"), str(shape["label"])
        if form not in ("point", "rectangle") or (form == "rectangle" and label != kind):
            continue
        group = shape.get("group_id")
        if not isinstance(group, int | str | None):
            raise DataError(f"{spot}: 'group_id' is {str(group)[:40]}; expected a number.")
        body = groups.setdefault(group, _Body())
        corners = _points(shape["points"], form, spot)
        if form == "rectangle":
            body.boxes.append(np.concatenate([corners.min(0), corners.max(0)]))
            continue
        joint = plain_name(label)
        if not joint or joint in body.points:
            of = "" if group is None else f" of group {group}"
            raise DataError(
                f"{spot}: the joint {label!r} is there twice{of}, or has no name; expected each once for a person. "
                "Give the shapes of each person a group_id of their own."
            )
        body.points[joint] = (float(corners[0, 0]), float(corners[0, 1]))
    if None in groups and len(groups) > 1:
        raise DataError(
            f"{where}: has shapes with and without a group_id. Give all points and rectangles that of their person."
        )
    for group, body in groups.items():
        if len(body.boxes) > 1:
            which = "and no group_id" if group is None else f"of group {group}"
            raise DataError(
                f"{where}: has {len(body.boxes)} rectangles {which}; expected one for a person. Give the rectangle and "
                "the points of each person a group_id of their own."
            )
    return list(groups.values())


def _points(points: Any, form: str, where: str) -> NDArray[np.float64]:
    """Return a shape's points ``(N, 2)``: one of a point, corners of a rectangle."""
    listed = points if isinstance(points, list) else []
    fitting = len(listed) == 1 if form == "point" else len(listed) in (2, 4)
    if not fitting or any(number_fault(each, 2) for each in listed):
        expected = "one pair of numbers" if form == "point" else "two corners"
        raise DataError(f"{where}: 'points' of a {form} is {str(points)[:60]}; expected {expected}.")
    return np.array(listed, np.float64)


def _picture(file: Path, content: Mapping[str, Any], images: Path | None) -> Path:
    name = Path(with_slashes(content["imagePath"]))
    folders = [file.parent] if images is None else [images]
    try:
        return find_picture([place for folder in folders for place in (folder / name, folder / name.name)], str(file))
    except DataError as error:
        if content.get("imageData"):
            raise DataError(f"{error} ('imageData' holds its pixels; autopose reads files.)") from None
        raise


def _check_size(content: Mapping[str, Any], size_wh: tuple[int, int], picture: Path, file: Path) -> None:
    said = (content.get("imageWidth"), content.get("imageHeight"))
    if None not in said and said != size_wh:
        raise DataError(
            f"{file}: its picture {str(picture)!r} is {size_wh[0]}x{size_wh[1]}; it was labelled at "
            f"{said[0]}x{said[1]}. Put the picture there that was labelled."
        )
