"""Boxes from a file instead of a detector: COCO's lists of boxes, or an earlier results file."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from autopose.data.categories import person_category
from autopose.errors import DataError
from autopose.files import with_slashes
from autopose.results import FORMAT, load_results
from autopose.runtime.crops import checked_boxes
from autopose.runtime.follow import Found
from autopose.runtime.source_names import composed
from autopose.runtime.video import Frame

log = logging.getLogger(__name__)

#: Scores are kept in 32 bits.
_LARGEST = float(np.finfo(np.float32).max)
#: Frames of one number and times further apart are not the same.
NEAR_S = 0.1
#: Corners x1, y1, x2, y2 and a score.
ScoredBox = tuple[list[float], float]


class GivenBoxes:
    """The boxes of a file, frame by frame; frames that do not stand in it have nobody, and are counted.

    Args:
        path: results of ``autopose infer`` (matched by image file name, or frame number and time), a COCO file with
            ``images`` and ``annotations`` (separate images by file name, frames of a video by frame number = image
            id), or a COCO list of detections (by the number in the image's file name, else frame number = image id).
        least_score: boxes below it do not count.

    Raises:
        DataError: the file cannot be used.
    """

    def __init__(self, path: Path, *, least_score: float = 0.0) -> None:
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"No file of boxes {str(path)!r}.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: is no JSON file of boxes: {error}.") from None
        is_results = isinstance(content, dict) and content.get("format") == FORMAT
        self.path, self.least_score = path, least_score
        self._known = _from_results(path) if is_results else _from_coco(content, path)
        #: Without a list of images, those without persons cannot be told from those that the file does not know.
        self._is_list = isinstance(content, list) or not (is_results or content.get("images"))
        self._asked, self._unknown = 0, 0

    def __call__(self, frame: Frame) -> Found:
        """Return the corners ``(n, 4)`` and scores ``(n,)`` of a frame.

        Raises:
            DataError: a box has no area in the frame, or it is not clear which boxes are this image's.
        """
        known = self._known.of(frame)
        self._asked += 1
        self._unknown += known is None
        found = [(box, score) for box, score in known or () if score >= self.least_score]
        where = f"{self.path}, {frame.name or f'frame {frame.index}'}"
        corners = checked_boxes([box for box, _ in found], frame.size_wh, where)
        return corners, np.array([score for _, score in found], np.float32)

    def unmatched(self) -> str | None:
        """Say, after the last frame, if the file knows none of the frames; warn if it knows only some of them."""
        if not self._unknown or not self._known:
            return None
        if self._unknown == self._asked:
            none = (
                f"{self.path}: none of the {self._asked} frames or images stands in it, so nobody was found. "
                f"{self._known}. Give the file that was made for this source."
            )
            if not self._is_list:
                return none
            log.warning("%s", none)
        elif not self._is_list:
            log.warning(
                "%s: %d of %d frames or images do not stand in it; they were taken to have nobody.",
                *(self.path, self._unknown, self._asked),
            )
        return None


@dataclass
class _KnownBoxes:
    """The boxes of a file by the images' names, and by frame number or image id.

    Attributes:
        by_name: for each file name, the boxes by the path that the file of boxes gives it. An image stands here even
            if it has no boxes: it must not get those of another image whose id happens to be the number in its name.
        by_number: by frame number or image id.
        times: by frame number, where the file says them.
        numbers: the frame's at a time.
        by_clock: whether frames go by their times, since their numbers are counted otherwise: after ``--start``, they
            are computed from the average rate, which frames need not keep to. None until a frame tells.
    """

    by_name: dict[str, dict[Path, list[ScoredBox]]] = field(default_factory=dict)
    by_number: dict[Any, list[ScoredBox]] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    numbers: dict[float, int] = field(default_factory=dict)
    by_clock: bool | None = None

    def named(self, path: Path) -> list[ScoredBox]:
        """Return the boxes of an image, to be added to; its name may come from Windows."""
        path = Path(composed(with_slashes(str(path))))
        return self.by_name.setdefault(path.name, {}).setdefault(path, [])

    def __bool__(self) -> bool:
        return bool(self.by_name or self.by_number)

    def __str__(self) -> str:
        """Return the first images, or numbers, as a sentence."""
        if self.by_name:
            return f"It names {_some(path for same in self.by_name.values() for path in same)}"
        return f"It has boxes by frame number or image id: {_some(self.by_number)}"

    def of(self, frame: Frame) -> list[ScoredBox] | None:
        """Return the boxes of a frame: a separate image goes by its name, a frame of a video by its number.

        Returns:
            None for a frame that does not stand in the file.

        Raises:
            DataError: there are several images of this name, and the folders do not tell which one it is.
        """
        if frame.name is not None and self.by_name:
            path = Path(composed(frame.name))
            return _nearest(self.by_name.get(path.name, {}), path)
        return self.by_number.get(frame.image_id if frame.time_s is None else self._number(frame.index, frame.time_s))

    def _number(self, index: int, time_s: float) -> int | None:
        """Return the number that the file gives to a frame of a video; None if it is another frame's."""
        number = self.numbers.get(round(time_s, 6))
        if self.by_clock is None and number is not None:
            self.by_clock = number != index
        undecided = self.by_clock is None and abs(self.times.get(index, time_s) - time_s) > NEAR_S
        return number if self.by_clock or undecided else index


def _some(names: Iterable[Any]) -> str:
    first = [str(name) for name in islice(names, 4)]
    return ", ".join(first[:3]) + (" ..." if len(first) > 3 else "")


def _nearest(images: dict[Path, list[ScoredBox]], path: Path) -> list[ScoredBox] | None:
    """Return the boxes of the image that shares most folders with ``path``, counted from the file name upwards."""
    shared = {other: _common_end(path.parts, other.parts) for other in images}
    most = max(shared.values(), default=0)
    best = [other for other, count in shared.items() if count == most]
    if len(best) > 1:
        some = ", ".join(map(str, sorted(best)[:3]))
        raise DataError(
            f"{path}: the file of boxes has {len(best)} images of this name ({some}), and the "
            "folders do not tell which one this is. Run the folders one by one, each with its own boxes."
        )
    return images[best[0]] if best else None


def _common_end(left: Sequence[str], right: Sequence[str]) -> int:
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(left), reversed(right), strict=False))
    )


def _from_results(path: Path) -> _KnownBoxes:
    known = _KnownBoxes()
    for entry in load_results(path).frames:
        found = list(zip(entry.poses.boxes.tolist(), entry.poses.box_scores.tolist(), strict=True))
        if entry.poses.source:
            known.named(Path(entry.poses.source)).extend(found)
        else:
            known.by_number.setdefault(entry.frame, []).extend(found)
            if entry.time_s is not None:
                known.times[entry.frame] = entry.time_s
                known.numbers[round(entry.time_s, 6)] = entry.frame
    return known


def _from_coco(content: Any, path: Path) -> _KnownBoxes:
    known = _KnownBoxes()
    names: dict[Any, Path] = {}
    category = 1
    if isinstance(content, dict):
        if isinstance(content.get("annotations"), list):
            category = person_category(content, path)
        names = _image_names(content.get("images") or [], path)
        for number, name in names.items():
            known.named(name)
            known.by_number[number] = []
        content = content.get("annotations")
    if not isinstance(content, list):
        raise DataError(f"{path}: is neither a results file of autopose nor COCO annotations or detections.")
    for number, entry in enumerate(content):
        try:
            x, y, width, height = (float(v) for v in entry["bbox"])
            box = [x, y, x + width, y + height], float(entry.get("score", 1))
            if not abs(box[1]) <= _LARGEST:  # nan is not either
                raise ValueError
            is_person = entry.get("category_id", category) == category and not entry.get("iscrowd")
            image = names.get(entry["image_id"])
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            raise DataError(
                f"{path}: entry {number} lacks 'image_id' or a 'bbox' of four numbers x, y, w, h, "
                "or its 'score' is no number. Mend or remove it."
            ) from None
        if is_person:
            known.by_number.setdefault(entry["image_id"], []).append(box)
            if image is not None:
                known.named(image).append(box)
    return known


def _image_names(images: Any, path: Path) -> dict[Any, Path]:
    """Return image id -> path as the file gives it."""
    names: dict[Any, Path] = {}
    for number, image in enumerate(images if isinstance(images, list) else [images]):
        try:
            names[image["id"]] = Path(image["file_name"])
        except (KeyError, TypeError):
            raise DataError(
                f"{path}: entry {number} of 'images' lacks 'id' or 'file_name'. Give both for every image, or leave "
                "'images' out: then boxes go by image id = frame number."
            ) from None
    return names
