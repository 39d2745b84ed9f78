"""Persons cut out of their photographs, compressed, in files small enough to carry: all that pose training reads.

A folder of ``train-NN.safetensors`` and ``tune-NN.safetensors``. Each holds, of its persons: ``jpeg``, the files'
bytes end to end, and ``end`` ``(n,)``, where each ends; ``size_wh`` ``(n, 2)`` in pixels; ``box`` ``(n, 4)`` and
``keypoints`` ``(n, K, 2)`` in pixels of the cut picture; ``weight`` ``(n, K)``; ``area``, ``score``, ``repeat``,
``image`` and ``annotation`` ``(n,)``; ``origin`` ``(n, 4)``: left, top, and cut pixels per photograph's pixel in x and
y. The first tune file also has ``coco``, the tune split's annotations as UTF-8 JSON. Metadata: ``autopose_crops`` (the
format's version), ``joints``, ``input`` (the size they are cut for), ``set`` (alike in the files of one call), ``part``
(from 0) and ``last``.
"""

import json
import os
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.errors import DataError, require
from autopose.poses import Person
from autopose.skeleton import Skeleton

VERSION = "1"
#: What a file has one of for each person.
OF_A_PERSON = (
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
        set: which call wrote it: that of its persons and input size.
    """

    pixels: NDArray[np.uint8]
    start: NDArray[np.int64]
    size_wh: NDArray[np.int64]
    persons: tuple[Person, ...]
    origin: NDArray[np.float64]
    coco: bytes
    set: str

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

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels out: loader processes that are not forked share a file of them, there as long as this is."""
        if "_file" not in self.__dict__:
            descriptor, name = tempfile.mkstemp(prefix="autopose-crops-")
            weakref.finalize(self, _remove, name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.pixels.data)
            object.__setattr__(self, "_file", name)
        return {**self.__dict__, "pixels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pixels = np.memmap(state["_file"], np.uint8, "r").reshape(-1, 3)
        self.__dict__.update({**state, "pixels": np.asarray(pixels)})


def _remove(name: str) -> None:
    with suppress(OSError):  # Windows: somebody reads it still
        os.unlink(name)


def read_crops(folder: Path, name: str, skeleton: Skeleton, size_wh: tuple[int, int] | None = None) -> CropSet:
    """Read what :func:`autopose.data.crop_archive.write_crops` wrote, and decode it.

    Args:
        folder: where it wrote.
        name: ``train`` or ``tune``.
        skeleton: that they have to be of.
        size_wh: the network's input, for which they have to have pixels enough; None: not asked.

    Raises:
        DataError: there are none, one is missing or damaged, they are of other joints or for another input, or there is
            no memory for them.
        MissingDependencyError: safetensors is not installed.
    """
    files, parts = _opened(folder, name, skeleton, size_wh)
    joined = {key: np.concatenate([tensors[key] for tensors, _ in parts]) for key in OF_A_PERSON if key != "end"}
    areas = joined["size_wh"].prod(1)
    start = np.cumsum(areas) - areas
    try:
        pixels = np.empty((int(areas.sum()), 3), np.uint8)
    except MemoryError:
        raise DataError(
            f"{folder}: its {len(areas):,} {name} pictures take {3 * areas.sum() / 1e9:.1f} GB of memory decoded, "
            "which are not there. Write crops of fewer persons or for a smaller input, or train from the photographs."
        ) from None
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
    coco = parts[0][0].get("coco")
    return CropSet(
        pixels=pixels,
        start=start,
        size_wh=joined["size_wh"],
        persons=persons,
        origin=joined["origin"],
        coco=b"" if coco is None else coco.tobytes(),
        set=parts[0][1]["set"],
    )


def read_both(folder: Path, skeleton: Skeleton, size_wh: tuple[int, int]) -> tuple[CropSet, CropSet]:
    """Return the persons to train on, and those to score on.

    Raises:
        DataError: as :func:`read_crops`, or they are of two calls: who is learnt from could be scored on.
    """
    train, tune = (read_crops(folder, name, skeleton, size_wh) for name in ("train", "tune"))
    _check_one_call(folder, train.set, tune.set)
    return train, tune


def draws_per_epoch(
    folder: Path, skeleton: Skeleton, size_wh: tuple[int, int] | None = None
) -> dict[Path, tuple[int, float]]:
    """Return each training file with its persons and how many of them a pass draws, without decoding a picture.

    Raises:
        DataError: as :func:`read_both`.
    """
    files, parts = _opened(folder, "train", skeleton, size_wh)
    _, of_tune = _opened(folder, "tune", skeleton, size_wh)
    _check_one_call(folder, parts[0][1]["set"], of_tune[0][1]["set"])
    counts = [(len(tensors["repeat"]), float(tensors["repeat"].sum())) for tensors, _ in parts]
    return dict(zip(files, counts, strict=True))


def _check_one_call(folder: Path, train: str, tune: str) -> None:
    if train != tune:
        raise DataError(
            f"{folder}: its train and tune files are of two calls of 'autopose data crops', so that persons may be in "
            "both. Bring all of one, and no others."
        )


def _check_input(file: Path, written: str, size_wh: tuple[int, int]) -> None:
    """Raise a DataError if a network would look for more than was kept."""
    width, height = map(int, written.split("x"))
    aspect = size_wh[0] * height / (size_wh[1] * width)
    if size_wh[0] > width or size_wh[1] > height or not 0.9 < aspect < 1.1:
        raise DataError(
            f"{file}: is cut for inputs of {written}; the recipe has {size_wh[0]}x{size_wh[1]}, for which that has too "
            "few pixels or too little around the persons. Write crops with this recipe: autopose data crops"
        )


def _opened(
    folder: Path, name: str, skeleton: Skeleton, size_wh: tuple[int, int] | None
) -> tuple[list[Path], list[_Part]]:
    files = sorted(Path(folder).glob(f"{name}-*.safetensors"), key=lambda file: (len(file.name), file.name))
    if not files:
        raise DataError(
            f"{folder}: holds no {name}-00.safetensors. Write it with: autopose data crops RECIPE -o {folder}"
        )
    parts = [_read(file, skeleton) for file in files]
    said = [metadata for _, metadata in parts]
    order = [(str(number), "true" if number == len(parts) - 1 else "false") for number in range(len(parts))]
    if [(m["part"], m["last"]) for m in said] != order or len({m["set"] for m in said}) > 1:
        raise DataError(
            f"{folder}: its {len(files)} files {name}-*.safetensors are not the files of one set, numbered to the "
            "last. Bring all of one 'autopose data crops', and no others."
        )
    if size_wh is not None:
        _check_input(files[0], said[0]["input"], size_wh)
    if name == "tune" and "coco" not in parts[0][0]:
        raise DataError(f"{files[0]}: has no annotations to score with. Write it with: autopose data crops")
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
        _ = metadata["set"], int(metadata["part"]), metadata["last"]
        _, _ = map(int, metadata["input"].split("x"))
        count, end = len(tensors["end"]), tensors["end"]
        wanted = {"size_wh": (2,), "box": (4,), "keypoints": (len(joints), 2), "weight": (len(joints),), "origin": (4,)}
        for key in OF_A_PERSON:
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
