"""Whole photographs with person boxes, for the detector: who is labelled, by whom, and where nothing is known."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco_file import CocoFile, box_numbers, box_score
from autopose.data.posetrack import ignored_regions, is_annotated

#: A teacher's box of a lesser score may show a person or not.
MIN_SCORE = 0.3
#: From this score on a teacher's box counts as much as a human's.
FULL_SCORE = 0.6
#: Values of an image's ``dataset`` whose every person is labelled.
COMPLETE_SOURCES = ("coco",)
#: What COCO calls its pictures; shorter numbers are those of frames and of drawn figures.
_COCO_NUMBER = re.compile(r"\d{12}")


@dataclass(frozen=True, eq=False)
class Scene:
    """One photograph and the boxes of the persons in it, in image pixels.

    Attributes:
        image_path: the picture's file.
        size_wh: its width and height.
        boxes: ``(n, 4)`` float64 corners; none = known to show nobody.
        weight: ``(n,)`` float32 loss weight of each box.
        ignore: ``(m, 4)`` float64 regions where persons may or may not be: crowds, doubtful boxes, unlabelled parts.
        image_id: id in the annotation file.
        weight_sample: how often a trainer should draw this picture relative to others.
    """

    image_path: Path
    size_wh: tuple[int, int]
    boxes: NDArray[np.float64]
    weight: NDArray[np.float32]
    ignore: NDArray[np.float64]
    image_id: int = -1
    weight_sample: float = 1.0


def scenes_from_coco(file: CocoFile, *, sample_weight: float = 1.0) -> list[Scene]:
    """Return every image of a COCO file with all its person boxes; images without annotations show nobody.

    A record with a ``score`` is a teacher's: below ``MIN_SCORE`` it becomes a region to ignore, from there its weight
    grows with the score up to 1 at ``FULL_SCORE``. Crowds are ignored. In images that say ``complete: false``, or name
    a ``dataset`` that labels one person per image, everything outside of the boxes is ignored. Boxes without size, or
    wholly outside of their image, are left out, and so are PoseTrack's frames that nobody annotated; the regions that
    it says nobody annotated are ignored (:mod:`autopose.data.posetrack`).

    Args:
        file: the annotations.
        sample_weight: becomes ``Scene.weight_sample``.

    Raises:
        DataError: a record (named) cannot be used.
    """
    grouped: dict[int, list[tuple[str, Mapping[str, Any]]]] = {
        image_id: [] for image_id, image in file.images.items() if is_annotated(image)
    }
    for number, record in enumerate(file.annotations):
        if record.get("category_id", 1) == 1 and record["image_id"] in grouped:
            grouped[record["image_id"]].append((f"{file.path}: annotations[{number}]", record))
    return [_scene(file, image_id, records, sample_weight) for image_id, records in grouped.items()]


def _scene(
    file: CocoFile, image_id: int, records: Sequence[tuple[str, Mapping[str, Any]]], sample_weight: float
) -> Scene:
    image = file.images[image_id]
    size_wh = (int(image["width"]), int(image["height"]))
    boxes, weight, ignore = [], [], []
    for region in ignored_regions(image, f"{file.path}: image {image_id}"):
        box = np.clip(np.array(region, np.float64), 0, [*size_wh, *size_wh])
        if (box[2:] > box[:2]).all():
            ignore.append(box)
    for where, record in records:
        x, y, box_width, box_height = box_numbers(record["bbox"], where)
        box = np.clip(np.array([x, y, x + box_width, y + box_height]), 0, [*size_wh, *size_wh])
        if not (box[2:] > box[:2]).all():
            continue  # COCO train2017 has a person whose box is 0 pixels high
        score = box_score(record, where)
        if record.get("iscrowd") or score < MIN_SCORE:
            ignore.append(box)
        else:
            boxes.append(box)
            weight.append(min(1.0, score / FULL_SCORE))
    single = image.get("dataset") is not None and image["dataset"] not in COMPLETE_SOURCES
    if single or image.get("complete") is False:
        ignore.extend(outside(np.array(boxes).reshape(-1, 4), size_wh))
    return Scene(
        image_path=file.image_path(image_id),
        size_wh=size_wh,
        boxes=np.array(boxes).reshape(-1, 4),
        weight=np.array(weight, np.float32),
        ignore=np.array(ignore).reshape(-1, 4),
        image_id=image_id,
        weight_sample=sample_weight,
    )


def outside(boxes: NDArray[np.float64], size_wh: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Return up to four rectangles that cover the image outside of the boxes' common hull (all of it without boxes)."""
    width, height = size_wh
    if not len(boxes):
        return [np.array([0.0, 0.0, width, height])]
    x0, y0 = boxes[:, :2].min(0)
    x1, y1 = boxes[:, 2:].max(0)
    bands = ((0, 0, width, y0), (0, y1, width, height), (0, y0, x0, y1), (x1, y0, width, y1))
    return [np.array(band, np.float64) for band in bands if band[2] > band[0] and band[3] > band[1]]


def merge_scenes(preferred: Sequence[Scene], others: Sequence[Scene]) -> list[Scene]:
    """Return both lists, without those of ``others`` whose photograph is in ``preferred`` too.

    Serves to let human labels win over a teacher's. The same photograph, perhaps at another size, is recognised by
    COCO's image number, twelve digits, as its file stem and by the ratio of its sides; others have such numbers too, so
    that one in a folder of COCO's is none that is not.
    """

    def same(one: Scene, other: Scene) -> bool:
        (w1, h1), (w2, h2) = one.size_wh, other.size_wh
        alike = abs(np.log(w1 * h2 / (h1 * w2))) < 0.02
        return bool(alike) and _in_cocos_folder(one.image_path) == _in_cocos_folder(other.image_path)

    known = {scene.image_path.stem: scene for scene in preferred if _COCO_NUMBER.fullmatch(scene.image_path.stem)}
    doubles = (known.get(scene.image_path.stem) for scene in others)
    return [*preferred, *(s for s, double in zip(others, doubles, strict=True) if not (double and same(double, s)))]


def _in_cocos_folder(path: Path) -> bool:
    folders = " ".join(path.parts[:-1]).lower()
    return any(word in folders for word in ("coco", "train2017", "val2017"))
