"""COCO's files as records: annotations with their images found on disk, and detections."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.console import waiting
from autopose.data.categories import as_persons, category_record, other_categories, person_category
from autopose.data.images import IMAGES_OPTION, picture_exists
from autopose.errors import DataError
from autopose.files import with_slashes
from autopose.large_json import uncollected

#: A tuple, which is quicker than their union: millions of values are asked.
_NUMBERS = (int, float, np.number)
#: Bytes of a file whose reading takes seconds, or, with what is made of it, most of a minute (COCO's has 240 million).
LARGE = 50_000_000


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A COCO annotation file, its images found on disk.

    Attributes:
        path: the JSON file.
        images: image records by id.
        annotations: annotation records, in the file's order; ``category_id`` is 1 (or absent) for persons.
        category: what the file says of persons: its record of that category, as it is.
        person_category: the number that the file itself has for persons.
        other_categories: its numbers for whatever else it has.
        folder: what ``file_name`` is relative to.
        about: what the file says of itself, ``info`` and the ``licenses`` that its pictures name by number.
    """

    path: Path
    images: Mapping[int, Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    folder: Path
    category: Mapping[str, Any] = field(default_factory=dict)
    person_category: int = 1
    other_categories: tuple[Any, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def joints(self) -> tuple[str, ...]:
        """Return the names that the file gives to its keypoints, in their order; none if it does not say."""
        named = self.category.get("keypoints")
        return tuple(map(str, named)) if isinstance(named, list) else ()

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
    if (size := path.stat().st_size) >= LARGE:
        waiting(f"Reading {path} ({size / 1e6:.0f} MB) ...")
    try:
        with uncollected():
            return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # a number of more than 4300 digits is no JSONDecodeError
        raise DataError(f"{path}: not valid JSON ({error}). Is it complete?") from None


#: Inside of :func:`reading_once`: what was read last, by what it was read from.
_KEPT: ContextVar[dict[Any, CocoFile] | None] = ContextVar("_KEPT", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Keep the annotation file that :func:`read_coco` read last, and give that again to whoever asks for it.

    The samples, the tune split and the persons to paint are mostly of one file; COCO's takes minutes to read thrice.
    Only the last: several such files do not fit into memory beside each other.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def read_coco(path: Path, *, images: Path | None = None, look: bool = True, content: Any = None) -> CocoFile:
    """Read a COCO annotation file.

    Args:
        path: the JSON file.
        images: folder that ``file_name`` is relative to; None: the JSON's folder or the one above, by the first image.
        look: False: the names are absolute or relative to the JSON's folder, whether the pictures are there or not.
        content: of the file, if it has been read already.

    Raises:
        DataError: missing file, broken JSON, a missing key (named), an annotation of an unknown image, no images, or
            several categories of which none is called a person.
    """
    path, kept = Path(path), _KEPT.get()
    if content is not None:
        return _read_coco(path, images, look, content)
    if kept is None or not look or not path.is_file():  # without a look it is a run's own split, which is small
        return _read_coco(path, images, look)
    status = path.stat()
    key = path, images, status.st_mtime_ns, status.st_size
    if key not in kept:
        kept.clear()  # first: both may not fit
        kept[key] = _read_coco(path, images, look)
    return kept[key]


def _read_coco(path: Path, images: Path | None, look: bool, content: Any = None) -> CocoFile:
    if path.suffix.lower() in (".yaml", ".yml", ".csv", ".txt"):
        raise DataError(
            f"{path}: not COCO annotations, which are JSON. Labels of YOLO (their YAML file or their folder) and of "
            "DeepLabCut are converted first: autopose data convert LABELS -o OUT.json"
        )
    content = read_json(path, "annotation file") if content is None else content
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise DataError(f"{path}: not COCO annotations: expected an object with the lists 'images' and 'annotations'.")
    records: dict[int, Mapping[str, Any]] = {}
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        need_keys(image, ("id", "file_name", "width", "height"), where)
        need_id(image["id"], where, "id")
        need_size(image, where)
        need_file_name(image["file_name"], where)
        if (name := with_slashes(str(image["file_name"]))) != str(image["file_name"]):
            image = {**image, "file_name": name}
        if (known := records.get(image["id"])) is not None and known["file_name"] != image["file_name"]:
            raise DataError(
                f"{where}: id {image['id']} is that of {known['file_name']!r}, too; expected one of its own for each "
                f"picture. Renumber {image['file_name']!r} and its annotations."
            )
        records[image["id"]] = image
    if not records:
        raise DataError(f"{path}: lists no images.")
    for number, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        need_keys(annotation, ("image_id", "bbox"), where)
        need_id(annotation["image_id"], where, "image_id")
        if annotation["image_id"] not in records:
            raise DataError(f"{where}: image_id {annotation['image_id']} is not among the file's images.")
    names = [str(image["file_name"]) for image in records.values()]
    folders = image_folders(path) if images is None else [named_folder(images)]
    # The first few: a set may lack pictures, and that is found out when one is read.
    found = (folder for folder in folders if not look or any(picture_exists(folder / name) for name in names[:20]))
    folder = next(found, None)
    if folder is None:
        raise DataError(
            f"{path}: its first image {names[0]!r} is not in {', '.join(repr(str(f)) for f in folders[:3])}"
            f"{' or the like' if len(folders) > 3 else ''}.\n"
            f"Name the folder that 'file_name' is relative to with {IMAGES_OPTION}."
        )
    category = person_category(content, path)
    return CocoFile(
        path,
        records,
        as_persons(content["annotations"], category),
        folder,
        category_record(content, category),
        category,
        other_categories(content, path, category),
        {key: content[key] for key in ("info", "licenses") if key in content},
    )


def first_keypoints(annotations: Sequence[Any], category: int = 1) -> Sequence[Any]:
    """Return the keypoints of the first person that has a list of them; its length tells the number of joints."""
    records = (record for record in annotations if isinstance(record, dict))
    lists = (record.get("keypoints") for record in records if record.get("category_id", category) == category)
    return next((found for found in lists if isinstance(found, list) and found), ())


def named_folder(images: Path | str) -> Path:
    """Return the folder of pictures that somebody named.

    Raises:
        DataError: there is none.
    """
    if not Path(images).is_dir():
        raise DataError(f"The image folder {str(images)!r} does not exist.")
    return Path(images)


def image_folders(annotations: Path) -> list[Path]:
    """Return where the images of an annotation file may be: its own folder, those above, and COCO's own layout.

    COCO's is ``annotations/person_keypoints_val2017.json`` beside ``val2017/`` or ``images/val2017/``.
    """
    here = annotations.parent
    split = annotations.stem.rpartition("_")[2]
    above = [here, *list(here.absolute().parents)[:2]]
    return [*above, *(up / name for up in above[:2] for name in (split, f"images/{split}", "images"))]


def picture_folder(annotations: Path, first: str, images: Path | None) -> Path:
    """Return the folder of a set's pictures: the one given, else ``images`` beside the annotations, or their own.

    Raises:
        DataError: the first picture is in none of them.
    """
    beside = [annotations.parent / "images", annotations.parent]
    return folder_with(annotations, first, beside if images is None else [Path(images)])


def folder_with(annotations: Path, first: str, folders: Sequence[Path]) -> Path:
    """Return the first of some folders that holds the first picture of an annotation file.

    Raises:
        DataError: none of them does.
    """
    for folder in folders:
        if picture_exists(folder / first):
            return folder
    raise DataError(
        f"{annotations}: its first picture {first!r} is not in {' or '.join(repr(str(place)) for place in folders)}.\n"
        f"Name the folder of the pictures with {IMAGES_OPTION}."
    )


def load_detections(path: Path) -> list[dict[str, Any]]:
    """Read a COCO detection file: a list of records with image_id, bbox (x, y, w, h) and score.

    Raises:
        DataError: it is missing, broken, or a record (named) lacks a field.
    """
    content = read_json(path, "detection file")
    if not isinstance(content, list):
        raise DataError(f"{path}: not a detection file: expected a list of records with image_id, bbox and score.")
    for number, record in enumerate(content):
        where = f"{path}: [{number}]"
        need_keys(record, ("image_id", "bbox", "score"), where)
        need_id(record["image_id"], where, "image_id")
        if fault := number_fault([record["score"]], 1):
            raise DataError(f"{where}: 'score' {fault}.")
    return content


def clipped_box(bbox: Any, size_wh: tuple[int, int], where: str) -> NDArray[np.float64]:
    """Return a COCO box (x, y, w, h) as corners, clipped to the image.

    Raises:
        DataError: it is malformed, has no size, or lies outside the image.
    """
    x, y, width, height = box_numbers(bbox, where)
    if width <= 0 or height <= 0:
        raise DataError(f"{where}: bbox {list(bbox)} has no size; expected x, y, width > 0, height > 0.")
    limit = np.array([*size_wh, *size_wh], np.float64)
    box = np.clip(np.array([x, y, x + width, y + height], np.float64), 0, limit)
    if box[2] <= box[0] or box[3] <= box[1]:
        swapped = x < size_wh[1] and y < size_wh[0]
        hint = " Are the image's width and height swapped, as in CrowdPose's first files?" if swapped else ""
        raise DataError(f"{where}: bbox {list(bbox)} lies outside its image of {size_wh[0]}x{size_wh[1]} pixels.{hint}")
    return box


def box_numbers(bbox: Any, where: str) -> tuple[float, float, float, float]:
    """Return a box as four finite numbers.

    Raises:
        DataError: it is something else.
    """
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: bbox is {bbox!r}; expected four numbers x, y, width, height.") from None
    if not all(map(math.isfinite, (x, y, width, height))):
        raise DataError(f"{where}: bbox is {bbox!r}; expected finite numbers.")
    return x, y, width, height


def box_score(record: Mapping[str, Any], where: str) -> float:
    """Return a teacher's score of a box; 1 for a human's, which has none.

    Raises:
        DataError: it is no finite number.
    """
    score = record.get("score", 1)
    if fault := number_fault([score], 1):
        raise DataError(f"{where}: 'score' {fault}.")
    return float(score)


def number_fault(values: Any, count: int) -> str:
    """Return what keeps a value from being a list of so many finite numbers; nothing if it is one."""
    if not isinstance(values, list | tuple):
        return f"is {str(values)[:60]}; expected {count} numbers"
    if len(values) != count:
        return f"has {len(values)} numbers; expected {count}"
    wrong = [value for value in values if not _finite(value)]
    return f"has the value {wrong[0]!r}; expected finite numbers" if wrong else ""


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, _NUMBERS) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def need_id(value: Any, where: str, key: str) -> None:
    """Raise a DataError unless a value can be an id: a number or a text."""
    if not isinstance(value, int | str):
        raise DataError(f"{where}: {key!r} is {value!r}; expected a number or a text.")


def need_file_name(value: Any, where: str) -> None:
    """Raise a DataError unless a value can be a file's name."""
    try:
        possible = "\0" not in os.fsdecode(os.fsencode(str(value)))
    except UnicodeError:  # half of a pair of surrogates
        possible = False
    if not possible:
        raise DataError(f"{where}: 'file_name' is {value!r}, which no file can be called.")


def need_size(image: Mapping[str, Any], where: str) -> None:
    """Raise a DataError unless the width and the height of a picture's record are lengths."""
    for side in ("width", "height"):
        if number_fault([image[side]], 1) or image[side] <= 0:
            raise DataError(f"{where}: {side!r} is {image[side]!r}; expected pixels.")


def need_keys(record: Any, keys: tuple[str, ...], where: str) -> None:
    """Raise a DataError unless a record is an object with these keys."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is {str(record)[:40]!r}; expected an object with {', '.join(keys)}.")
    for key in keys:
        if key not in record:
            raise DataError(f"{where}: the key {key!r} is missing; expected {', '.join(keys)}.")
