"""Writes persons cut out of their photographs, see :mod:`autopose.data.crop_set`."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box
from autopose.data.crop_set import OF_A_PERSON, VERSION
from autopose.data.images import DiskReader, ImageReader
from autopose.errors import require
from autopose.files import atomic_path
from autopose.poses import Person

#: Side of what is cut relative to the padded box: room for zoom, shift and rotation; beyond it a crop is black.
ROOM = 1.6
#: Pixels that are kept for one of the network's input: room to zoom in.
DETAIL = 1.25
#: Largest file, in bytes.
LARGEST = 60_000_000
QUALITY = 92


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
    name_of_set: str | None = None,
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
        coco: the tune split's annotations, kept with the first file.
        name_of_set: what the files of one call are known by; None: :func:`name_set` of these persons.
        reader: source of the pictures; None: the files.
        largest: bytes of a file.
        on_person: called after each, for progress.

    Raises:
        MediaError: a picture is missing or cannot be decoded; what was written of this name is deleted.
        MissingDependencyError: safetensors is not installed.
    """
    save = require("safetensors.numpy", extra="train", why="Writing crops").save_file
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "autopose_crops": VERSION,
        "joints": json.dumps(persons[0].skeleton.joints),
        "input": f"{size_wh[0]}x{size_wh[1]}",
        "set": name_set(persons, size_wh) if name_of_set is None else name_of_set,
    }
    groups = _groups(persons, size_wh, reader or DiskReader(), largest, on_person, used=len(coco))
    paths: list[Path] = []
    try:
        rows = next(groups, [])
        while rows:
            following = next(groups, [])
            tensors = {"jpeg": np.concatenate([row["jpeg"] for row in rows])}
            for key in OF_A_PERSON:
                tensors[key] = np.stack([row[key] for row in rows])
            tensors["end"] = np.cumsum(tensors["end"])
            if coco and not paths:
                tensors["coco"] = np.frombuffer(coco, np.uint8).copy()
            place = {"part": str(len(paths)), "last": str(not following).lower()}
            paths.append(folder / f"{name}-{len(paths):02}.safetensors")
            with atomic_path(paths[-1]) as temporary:
                save(tensors, str(temporary), metadata | place)
            rows = following
    except BaseException:  # Ctrl-C, too: a part of a set is of no use, and in the way of the next call
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths


def name_set(persons: Sequence[Person], size_wh: tuple[int, int]) -> str:
    """Return a checksum of who is cut out, and for which input."""
    crc = zlib.crc32(f"{size_wh[0]}x{size_wh[1]}".encode())
    for person in persons:
        said = f"{person.image_path.name} {person.annotation_id} {person.weight_sample}\n"
        crc = zlib.crc32(said.encode("utf-8", "surrogateescape"), crc)
    return f"{crc:08x}"


def fits_int64(number: object) -> bool:
    """Return whether an id, which may be a text or of any size, is a number that the files have room for."""
    return isinstance(number, int) and -(2**63) <= number < 2**63


def _groups(
    persons: Sequence[Person],
    size_wh: tuple[int, int],
    reader: ImageReader,
    largest: int,
    on_person: Callable[[], object],
    used: int,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the persons of one file after the other, as rows; of the first ``used`` bytes are taken."""
    rows: list[dict[str, Any]] = []
    image, path = np.zeros((0, 0, 3), np.uint8), None
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
        "image": np.int64(person.image_id if fits_int64(person.image_id) else -1),
        "annotation": np.int64(person.annotation_id if fits_int64(person.annotation_id) else -1),
        "origin": origin,
    }
