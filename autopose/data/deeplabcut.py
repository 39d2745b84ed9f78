"""Labels of DeepLabCut, ``CollectedData_SCORER.csv``, read as COCO's records.

Three rows of headings (scorer, bodyparts, coords), four with several animals (individuals after the scorer); a row is
a picture, named in the first column or, in three, by labeled-data, video and file. An empty cell, or NaN, is no label.
Source: deeplabcut.github.io, "Standard data format".
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autopose.data.coco_file import CocoFile, named_folder
from autopose.data.labels import Labels, find_picture, ordered_joints
from autopose.data.picture_header import picture_header
from autopose.errors import DataError
from autopose.files import with_slashes
from autopose.skeleton_record import plain_name

#: The "animal" that has the parts that are there once, such as a cage's corners.
UNIQUE = "single"


@dataclass(frozen=True)
class _Table:
    """A file's headings.

    Attributes:
        rows: the rows of pictures, with the numbers of their lines.
        name_columns: how many columns name the picture: 1 or 3.
        width: number of columns.
        animals: for each animal, joint -> the columns of its x and y.
    """

    rows: Sequence[tuple[int, list[str]]]
    name_columns: int
    width: int
    animals: dict[str, dict[str, tuple[int, int]]]


def is_deeplabcut(path: Path) -> bool:
    """Tell whether a file is a table of DeepLabCut's, or a folder or project has one."""
    if path.is_dir():
        return bool(_tables(path))
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf").replace(b'"', b"").startswith(b"scorer,")


def read_deeplabcut(path: Path, *, images: Path | None = None) -> CocoFile:
    """Read a table of DeepLabCut's, or all of a project.

    Args:
        path: the table; the folder that it is in; ``labeled-data``; or the folder of the project.
        images: folder of the pictures; None: beside the table, or where it says, from the project's folder.

    Raises:
        DataError: a table (and its line) says something else, or a picture is not there.
    """
    path = Path(path)
    images = named_folder(images) if images is not None else None
    tables = {file: _table(file) for file in (_tables(path) if path.is_dir() else [path])}
    joints = ordered_joints(joint for table in tables.values() for parts in table.animals.values() for joint in parts)
    read, seen = Labels(path), dict[Path, str]()
    for file, table in tables.items():
        for number, row in table.rows:
            where = f"{file}: line {number}"
            if len(row) != table.width:
                raise DataError(f"{where}: has {len(row)} columns; expected {table.width}, as its headings have.")
            picture = _picture(file, [cell for cell in row[: table.name_columns] if cell], images, where)
            if (earlier := seen.setdefault(picture.resolve(), where)) != where:
                raise DataError(f"{where}: {str(picture)!r} has labels already, in {earlier}. Keep one of them.")
            read.add_picture(picture, picture_header(picture).size_wh, complete=False)
            for parts in table.animals.values():
                keypoints = np.zeros((len(joints), 3))
                for joint, (x, y) in parts.items():
                    if (xy := _position(row[x], row[y], f"{where}: {joint}")) is not None:
                        keypoints[joints.index(joint)] = (*xy, 2)
                if keypoints.any():
                    read.add_person(None, keypoints, where)
    return read.as_coco({"name": "person", "keypoints": joints})


def _tables(folder: Path) -> list[Path]:
    patterns = ("CollectedData_*.csv", "*/CollectedData_*.csv", "labeled-data/*/CollectedData_*.csv")
    return [each for pattern in patterns for each in sorted(folder.glob(pattern)) if is_deeplabcut(each)]


def _table(file: Path) -> _Table:
    if not file.is_file():
        raise DataError(f"No file {str(file)!r}.")
    try:
        rows = list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error}).") from None
    heads: dict[str, list[str]] = {}
    for row in rows[:4]:
        heads[row[0] if row else ""] = row
        if row and row[0] == "coords":
            break
    if not {"scorer", "bodyparts", "coords"} <= heads.keys() or len({len(row) for row in heads.values()}) != 1:
        raise DataError(
            f"{file}: its first rows are {', '.join(map(repr, heads))}; expected the headings scorer, bodyparts and "
            "coords of DeepLabCut (and individuals after the scorer), all of one length."
        )
    parts, coords = heads["bodyparts"], heads["coords"]
    start = next((place for place, cell in enumerate(parts) if place and cell), 0)
    wrong = next((cell for cell in coords[start:] if cell not in ("x", "y")), None)
    if start not in (1, 3) or wrong is not None:
        hint = " It has predictions, not labels." if wrong == "likelihood" else ""
        raise DataError(f"{file}: has a column {wrong!r}; expected x and y of each joint.{hint}")
    names = heads.get("individuals", ["" for _ in parts])
    columns: dict[str, dict[str, dict[str, int]]] = {}
    for place in range(start, len(parts)):
        joint = columns.setdefault(names[place], {}).setdefault(plain_name(parts[place]), {})
        if joint.setdefault(coords[place], place) != place:
            raise DataError(f"{file}: has the column {parts[place]!r} {coords[place]} twice.")
    if len(columns) > 1:
        columns.pop(UNIQUE, None)
    for each in columns.values():
        for joint_name, found in each.items():
            if len(found) != 2 or not joint_name:
                raise DataError(f"{file}: {joint_name!r} has {' and '.join(found)} only; expected x and y, and a name.")
    animals = {name: {joint: (xy["x"], xy["y"]) for joint, xy in each.items()} for name, each in columns.items()}
    numbered = [(number, row) for number, row in enumerate(rows, start=1) if number > len(heads) and any(row)]
    return _Table(numbered, start, len(parts), animals)


def _picture(file: Path, cells: Sequence[str], images: Path | None, where: str) -> Path:
    name = Path(with_slashes("/".join(cells)))
    if images is not None:
        places = [images / name, images / name.name]
    else:
        places = [file.parent / name.name, *(up / name for up in list(file.absolute().parents)[:3])]
    return find_picture(places, where)


def _position(x: str, y: str, where: str) -> tuple[float, float] | None:
    """Return a joint's place; None where it has none."""
    try:
        values = tuple(float(cell) if cell.strip() else math.nan for cell in (x, y))
    except ValueError:
        raise DataError(f"{where}: is {x[:30]!r}, {y[:30]!r}; expected two numbers, or nothing.") from None
    if all(map(math.isnan, values)):
        return None
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where}: is {x[:30]!r}, {y[:30]!r}; expected two numbers, or nothing.")
    return values[0], values[1]
