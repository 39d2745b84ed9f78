"""The package's own results file: JSON, versioned, and JSON lines while a run goes on.

Version 1 (``docs/formats.md`` describes every key)::

    {
        "format": "autopose-results",
        "version": 1,
        "source": {...},
        "model": {...},
        "skeleton": {...},
        "frames": [
            {"frame": 0, "time_s": 0.0, "persons": [{"id": 1, "box": [...], "box_score": 0.9, "keypoints": [...]}]}
        ],
    }

The JSON lines hold the header, then one line per frame. ``load_results`` reads both.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autopose.errors import DataError
from autopose.large_json import own, uncollected
from autopose.poses import Poses
from autopose.skeleton import Skeleton, skeleton_by_name
from autopose.skeleton_record import skeleton_from, skeleton_object

FORMAT, VERSION = "autopose-results", 1


@dataclass
class FramePoses:
    """One frame of a results file."""

    frame: int
    time_s: float | None
    poses: Poses


@dataclass
class Results:
    """A results file.

    Attributes:
        header: everything but the frames.
        frames: in order.
        complete: False for the JSON lines of a run that was interrupted.
    """

    header: dict[str, Any]
    frames: list[FramePoses] = field(default_factory=list)
    complete: bool = True

    @cached_property
    def skeleton(self) -> Skeleton:
        """Return the meaning of the joints."""
        named = self.header.get("skeleton")
        if not isinstance(named, dict) or "name" not in named:
            raise DataError("These results do not say which skeleton they have: the key 'skeleton' is missing.")
        return skeleton_from(named, "skeleton") if "joints" in named else skeleton_by_name(str(named["name"]))


def results_header(
    skeleton: Skeleton, source: Mapping[str, Any] | None = None, model: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all of a results file but its frames."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": dict(source or {}),
        "model": dict(model or {}),
        "skeleton": skeleton_object(skeleton),
    }


def frame_record(poses: Poses, frame: int = 0, time_s: float | None = None) -> dict[str, Any]:
    """Return one frame of a results file; ``image`` names the file where frames are separate images."""
    record: dict[str, Any] = {"frame": frame}
    if time_s is not None:
        record["time_s"] = round(time_s, 6)
    if poses.source is not None:
        record["image"] = poses.source
    record["image_size_wh"] = list(poses.image_size_wh)
    record["persons"] = poses.to_dict()["persons"]
    return record


def poses_from_record(record: Mapping[str, Any], skeleton: Skeleton) -> Poses:
    """Return the poses of one frame of a results file.

    Raises:
        DataError: a key is missing or has the wrong shape.
    """
    persons = record.get("persons", [])
    try:
        joints = np.array([p["keypoints"] for p in persons], np.float32).reshape(-1, len(skeleton), 3)
        ids = [p.get("id") for p in persons]
        boxes = np.array([p["box"] for p in persons], np.float32).reshape(-1, 4)
        box_scores = np.array([p["box_score"] for p in persons], np.float32)
        if not np.isfinite(joints).all():
            raise ValueError("a joint has no finite place or score")
        if not (np.isfinite(boxes).all() and np.isfinite(box_scores).all()):
            raise ValueError("a box has no finite corners or score")
        if not isinstance(source := record.get("image"), str | None):
            raise TypeError(f"image is {source!r}; expected a name")
        return Poses(
            boxes,
            box_scores,
            joints[..., :2],
            joints[..., 2],
            None if None in ids or not ids else np.array(ids, np.int64),
            _size(record.get("image_size_wh", (0, 0))),
            skeleton,
            source=source,
        )
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"Frame {record.get('frame')} of the results cannot be used: {error!r}.") from None


def _size(given: Any) -> tuple[int, int]:
    width, height = given
    if not isinstance(width, int) or not isinstance(height, int):
        raise TypeError(f"image_size_wh is {given!r}; expected two whole numbers")
    return own(width), own(height)


@uncollected()
def load_results(path: str | Path) -> Results:
    """Read a results file: ``.json``, or the ``.part.jsonl`` that an interrupted run leaves.

    Raises:
        DataError: it is missing, no results file, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"No results file {str(path)!r}. 'autopose infer' writes them.")
    header: Any
    records: list[Any]
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            header, *records = list(_lines(text))
        else:
            header = json.loads(text)
            records = header.pop("frames", []) if isinstance(header, dict) else []
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is no results file: {error}.") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path}: is no results file of autopose: its key 'format' is not {FORMAT!r}.")
    if header.get("version") != VERSION:
        raise DataError(f"{path}: results version {header.get('version')!r}; this autopose reads version {VERSION}.")
    for key in ("source", "model"):
        if not isinstance(header.get(key, {}), dict):
            raise DataError(f"{path}: {key!r} is {str(header[key])[:40]!r}; expected an object.")
    if not isinstance(records, list):
        raise DataError(f"{path}: 'frames' is {str(records)[:40]}; expected a list.")
    results = Results(header, complete=path.suffix != ".jsonl")
    for number, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("frame"), int):
            raise DataError(f"{path}: frames[{number}] is {str(record)[:60]}; expected an object with the key 'frame'.")
        time_s = record.get("time_s")
        if time_s is not None and not (isinstance(time_s, int | float) and abs(time_s) < 1e12):
            raise DataError(f"{path}: frames[{number}]: time_s is {str(time_s)[:40]!r}; expected seconds.")
        poses = poses_from_record(record, results.skeleton)
        results.frames.append(FramePoses(own(record["frame"]), None if time_s is None else own(time_s), poses))
    if any(entry.poses.ids is not None for entry in results.frames):  # tracked: an empty frame has ids too, none
        for entry in results.frames:
            if not len(entry.poses):
                entry.poses = replace(entry.poses, ids=np.zeros(0, np.int64))
    return results


def _lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield the records of JSON lines; a last line that was cut off is left out."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            if number < len(lines) - 1:
                raise
