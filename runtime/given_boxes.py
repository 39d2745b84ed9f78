"""Boxes from a file instead of a detector: COCO's lists of boxes, or an earlier results file."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autopose.errors import DataError
from autopose.results import FORMAT, load_results
from autopose.runtime.crops import checked_boxes
from autopose.runtime.follow import Found
from autopose.runtime.video import Frame


def load_boxes(path: Path) -> Callable[[Frame], Found]:
    """Return a function that gives the boxes of a frame; none where the file has none.

    Args:
        path: a results file of ``autopose infer`` (matched by image file name or frame number), a COCO file with
            ``images`` and ``annotations`` (by file name, else by frame number = image id), or a COCO list of
            detections (by the number in the image's file name, else frame number = image id).

    Raises:
        DataError: the file cannot be used.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"No file of boxes {str(path)!r}.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no JSON file of boxes: {error}.") from None
    by_key: dict[str | int, list[tuple[list[float], float]]] = defaultdict(list)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        for entry in load_results(path).frames:
            key = Path(entry.poses.source).name if entry.poses.source else entry.frame
            by_key[key] += list(zip(entry.poses.boxes.tolist(), entry.poses.box_scores.tolist(), strict=True))
    else:
        _read_coco(content, by_key, path)

    def boxes(frame: Frame) -> Found:
        found = by_key.get(_key(frame, by_key), [])
        where = f"{path}, {frame.name or f'frame {frame.index}'}"
        corners = checked_boxes([box for box, _ in found], frame.size_wh, where)
        return corners, np.array([score for _, score in found], np.float32)

    return boxes


def _read_coco(content: Any, by_key: dict[str | int, list[tuple[list[float], float]]], path: Path) -> None:
    names: dict[int, str] = {}
    if isinstance(content, dict):
        names = {image["id"]: Path(image["file_name"]).name for image in content.get("images", [])}
        content = content.get("annotations")
    if not isinstance(content, list):
        raise DataError(f"{path}: is neither a results file of autopose nor COCO annotations or detections.")
    for number, entry in enumerate(content):
        try:
            x, y, width, height = (float(v) for v in entry["bbox"])
            image_id = entry["image_id"]
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{path}: entry {number} lacks 'image_id' or a 'bbox' of four numbers x, y, w, h."
            ) from None
        if entry.get("category_id", 1) == 1:
            by_key[names.get(image_id, image_id)].append(([x, y, x + width, y + height], float(entry.get("score", 1))))


def _key(frame: Frame, known: dict[str | int, list[tuple[list[float], float]]]) -> str | int:
    """Return under which key the file may hold a frame."""
    if frame.name is None:
        return frame.index
    name = Path(frame.name).name
    if name in known:
        return name
    number = re.search(r"(\d+)$", Path(name).stem)
    return int(number[1]) if number else frame.index
