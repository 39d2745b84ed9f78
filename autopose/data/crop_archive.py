"""Persons cut out of their photographs, compressed, in files small enough to carry: all that pose training reads.

A folder of ``train-NN.safetensors`` and ``tune-NN.safetensors``. Each holds, of its persons: ``jpeg``, the files'
bytes end to end, and ``end`` ``(n,)``, where each ends; ``size_wh`` ``(n, 2)`` in pixels; ``box`` ``(n, 4)`` and
``keypoints`` ``(n, K, 2)`` in pixels of the cut picture; ``weight`` ``(n, K)``; ``area``, ``score``, ``repeat``,
``image`` and ``annotation`` ``(n,)``; ``origin`` ``(n, 4)``: left, top, and cut pixels per photograph's pixel in x and
y. The last tune file also has ``coco``, the tune split's annotations as UTF-8 JSON. Metadata: ``autopose_crops`` (the
format's version), ``joints``, ``part``, ``parts``.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box
from autopose.data.images import DiskReader, ImageReader
from autopose.errors import DataError, require
from autopose.files import atomic_path
from autopose.poses import Person
from autopose.skeleton import Skeleton

VERSION = "1"
#: Side of what is cut relative to the padded box: room for zoom, shift and rotation; beyond it a crop is black.
ROOM = 1.6
#: Pixels that are kept for one of the network's input: room to zoom in.
DETAIL = 1.25
#: Largest file, in bytes.
LARGEST = 60_000_000
QUALITY = 92
_OF_A_PERSON = (
    "end",
    "size_wh",
    "box",
    "keypoints",
    "weight",
    "area",
    "score",
    "repeat",
    "image",
    "annotation",
    "origin",
)


#: A file's arrays and metadata.
_Part = tuple[dict[str, NDArray[Any]], dict[str, str]]


@dataclass(frozen=True, eq=False)
class CropSet:
    """Persons whose pictures lie decoded in memory; reads them as an :class:`~autopose.data.images.ImageReader`.

    Attributes:
        pixels: ``(P, 3)`` uint8 BGR: all pictures, rows end to end.
        start: ``(n,)`` int64 first pixel of each.
        size_wh: ``(n, 2)`` int64.
        persons: with ``box_xyxy``, ``keypoints`` and ``area`` in their cut picture.
        origin: ``(n, 4)`` left, top, scale in x and y (module).
        coco: the tune split's annotations; empty of a training set.
    """

    pixels: NDArray[np.uint8]
    start: NDArray[np.int64]
    size_wh: NDArray[np.int64]
    persons: tuple[Person, ...]
    origin: NDArray[np.float64]
    coco: bytes

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return a person's cut picture ``(h, w, 3)``."""
        number = int(path.name)
        width, height = self.size_wh[number]
        first = self.start[number]
        return self.pixels[first : first + width * height].reshape(height, width, 3)

    def in_photograph(self, number: int, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points of a cut picture to its photograph."""
        left_top, scale = self.origin[number, :2], self.origin[number, 2:]
        return (np.asarray(xy, np.float64) + 0.5) / scale - 0.5 + left_top


def cut(
    image: NDArray[np.uint8], person: Person, size_wh: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return what is around a person, shrunk where a network of this input size would not see more, and its origin."""
    center, region = center_scale_from_box(person.box_xyxy, size_wh[0] / size_wh[1])
    bounds = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(center - region * ROOM / 2), 0, bounds - 1).astype(int)
    high = np.clip(np.ceil(center + region * ROOM / 2) + 1, low + 1, bounds).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    size = high - low
    small = np.maximum(np.rint(size * min(1.0, DETAIL * size_wh[0] / region[0])), 1).astype(int)
    if (small < size).any():
        # Not by means of areas: the runtime samples a large person's pixels, too, and the network is to know the look.
        part = np.asarray(cv2.resize(part, (int(small[0]), int(small[1])), interpolation=cv2.INTER_LINEAR), np.uint8)
    return part, np.concatenate([low, small / size])


def write_crops(
    persons: Sequence[Person],
    folder: Path,
    name: str,
    size_wh: tuple[int, int],
    *,
    coco: bytes = b"",
    reader: ImageReader | None = None,
    largest: int = LARGEST,
    on_person: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Write persons into ``folder/NAME-00.safetensors`` and on.

    Args:
        persons: all of one skeleton, in any order; written picture by picture.
        folder: made if need be.
        name: ``train`` or ``tune``.
        size_wh: the network's input.
        coco: the tune split's annotations, kept with the last file.
        reader: source of the pictures; None: the files.
        largest: bytes of a file.
        on_person: called after each, for progress.

    Raises:
        MediaError: a picture is missing or cannot be decoded.
        MissingDependencyError: safetensors is not installed.
    """
    save = require("safetensors.numpy", extra="train", why="Writing crops").save_file
    groups = list(_groups(persons, size_wh, reader or DiskReader(), largest, on_person))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for part, rows in enumerate(groups):
        tensors = {"jpeg": np.concatenate([row["jpeg"] for row in rows])}
        for key in _OF_A_PERSON:
            tensors[key] = np.stack([row[key] for row in rows])
        tensors["end"] = np.cumsum(tensors["end"])
        if coco and part == len(groups) - 1:
            tensors["coco"] = np.frombuffer(coco, np.uint8).copy()
        metadata = {
            "autopose_crops": VERSION, "joints": json.dumps(persons[0].skeleton.joints),
            "part": str(part), "parts": str(len(groups)),
        }  # fmt: skip
        paths.append(folder / f"{name}-{part:02}.safetensors")
        with atomic_path(paths[-1]) as temporary:
            save(tensors, str(temporary), metadata)
    return paths


def _groups(
    persons: Sequence[Person],
    size_wh: tuple[int, int],
    reader: ImageReader,
    largest: int,
    on_person: Callable[[], object],
) -> Iterator[list[dict[str, Any]]]:
    """Yield the persons of one file after the other, as rows."""
    rows: list[dict[str, Any]] = []
    image, path, used = np.zeros((0, 0, 3), np.uint8), None, 0
    for person in sorted(persons, key=lambda person: person.image_path):
        if person.image_path != path:
            image, path = reader.read(person.image_path), person.image_path
        row = _row(image, person, size_wh)
        size = sum(value.nbytes for value in row.values())
        if rows and used + size > largest:
            yield rows
            rows, used = [], 0
        rows.append(row)
        used += size
        on_person()
    if rows:
        yield rows


def _row(image: NDArray[np.uint8], person: Person, size_wh: tuple[int, int]) -> dict[str, Any]:
    part, origin = cut(image, person, size_wh)
    _, data = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    left_top, scale = origin[:2], origin[2:]

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return (points - left_top + 0.5) * scale - 0.5

    return {
        "jpeg": data.ravel(),
        "end": np.int64(data.size),
        "size_wh": np.array([part.shape[1], part.shape[0]], np.int64),
        # As points, not as edges of pixels: the padded region of the cut box is then the cut region of the box.
        "box": moved(person.box_xyxy.reshape(2, 2)).ravel(),
        "keypoints": moved(person.keypoints),
        "weight": np.asarray(person.weight, np.float32),
        "area": np.float64(person.area * scale.prod()),
        "score": np.float64(person.score),
        "repeat": np.float64(person.weight_sample),
        "image": np.int64(person.image_id),
        "annotation": np.int64(person.annotation_id),
        "origin": origin,
    }


def read_crops(folder: Path, name: str, skeleton: Skeleton) -> CropSet:
    """Read what :func:`write_crops` wrote, and decode it.

    Raises:
        DataError: there are none, one is missing or damaged, or they are of other joints.
        MissingDependencyError: safetensors is not installed.
    """
    files, parts = _opened(folder, name, skeleton)
    joined = {key: np.concatenate([tensors[key] for tensors, _ in parts]) for key in _OF_A_PERSON if key != "end"}
    areas = joined["size_wh"].prod(1)
    start = np.cumsum(areas) - areas
    pixels = np.empty((int(areas.sum()), 3), np.uint8)
    sources = [(file, data) for file, (tensors, _) in zip(files, parts, strict=True) for data in _jpegs(tensors)]

    def decode(number: int) -> None:
        file, data = sources[number]
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        width, height = joined["size_wh"][number]
        if picture is None or picture.shape != (height, width, 3):
            raise DataError(f"{file}: a picture in it is damaged. Copy the file again, or write the crops anew.")
        pixels[start[number] : start[number] + areas[number]] = picture.reshape(-1, 3)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(sources))))
    persons = tuple(_person(joined, number, skeleton) for number in range(len(sources)))
    coco = parts[-1][0].get("coco")
    return CropSet(
        pixels, start, joined["size_wh"], persons, joined["origin"], b"" if coco is None else coco.tobytes()
    )  # fmt: skip


def draws_per_epoch(folder: Path, skeleton: Skeleton) -> dict[Path, tuple[int, float]]:
    """Return each training file with its persons and how many of them a pass draws, without decoding a picture.

    Raises:
        DataError: as :func:`read_crops`.
    """
    files, parts = _opened(folder, "train", skeleton)
    _opened(folder, "tune", skeleton)
    counts = [(len(tensors["repeat"]), float(tensors["repeat"].sum())) for tensors, _ in parts]
    return dict(zip(files, counts, strict=True))


def _opened(folder: Path, name: str, skeleton: Skeleton) -> tuple[list[Path], list[_Part]]:
    files = sorted(Path(folder).glob(f"{name}-*.safetensors"))
    if not files:
        raise DataError(
            f"{folder}: holds no {name}-00.safetensors. Write it with: autopose data crops RECIPE -o {folder}"
        )
    parts = [_read(file, skeleton) for file in files]
    announced = {metadata["parts"] for _, metadata in parts}
    if announced != {str(len(files))}:
        raise DataError(
            f"{folder}: has {len(files)} files {name}-*.safetensors, which say that there are "
            f"{' or '.join(sorted(announced))}. Bring all of one 'autopose data crops', and no others."
        )
    if name == "tune" and "coco" not in parts[-1][0]:
        raise DataError(f"{files[-1]}: has no annotations to score with. Write it with: autopose data crops")
    return files, parts


def _jpegs(tensors: dict[str, NDArray[Any]]) -> list[NDArray[np.uint8]]:
    return np.split(tensors["jpeg"], tensors["end"][:-1])


def _person(joined: dict[str, NDArray[Any]], number: int, skeleton: Skeleton) -> Person:
    return Person(
        image_path=Path(str(number)),
        box_xyxy=joined["box"][number],
        keypoints=joined["keypoints"][number],
        weight=joined["weight"][number],
        area=float(joined["area"][number]),
        score=float(joined["score"][number]),
        image_id=int(joined["image"][number]),
        annotation_id=int(joined["annotation"][number]),
        weight_sample=float(joined["repeat"][number]),
        skeleton=skeleton,
    )


def _read(file: Path, skeleton: Skeleton) -> _Part:
    """Return a file's arrays and metadata, checked as far as decoding needs it."""
    safetensors = require("safetensors", extra="train", why="Reading crops")
    try:
        with safetensors.safe_open(str(file), framework="numpy") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("autopose_crops") != VERSION:
                raise ValueError(f"it says version {metadata.get('autopose_crops')!r}; expected {VERSION}")
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
        joints = tuple(json.loads(metadata["joints"]))
        count, end = len(tensors["end"]), tensors["end"]
        wanted = {"size_wh": (2,), "box": (4,), "keypoints": (len(joints), 2), "weight": (len(joints),), "origin": (4,)}
        for key in _OF_A_PERSON:
            if tensors[key].shape != (count, *wanted.get(key, ())):
                raise ValueError(f"{key!r} has the shape {tensors[key].shape}")
        if count == 0 or (np.diff(end, prepend=0) <= 0).any() or end[-1] != len(tensors["jpeg"]):
            raise ValueError("its pictures do not add up")
        if (tensors["size_wh"] < 1).any():
            raise ValueError("a picture has no pixels")
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: is no file of crops ({error}). Write it with: autopose data crops") from None
    if joints != skeleton.joints:
        raise DataError(f"{file}: has the joints {', '.join(joints)}; the recipe's skeleton is {skeleton.name}.")
    return tensors, metadata
