"""``Poses``, what the estimator returns, and ``Person``, what a dataset holds."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autopose.skeleton import COCO17, Skeleton

#: Joints whose score is above this count towards a person's score. Chosen for the bundled models on held-out images of
#: their training data (``docs/reproduce.md``); HRNet and SimpleBaseline say 0.2 (``lib/dataset/coco.py``).
VISIBLE_SCORE = 0.15

#: A box score counts by this power in a person's score. Chosen with the bundled detector on held-out images of the
#: training data (``docs/reproduce.md``); HRNet and SimpleBaseline count it as it is, 1.
BOX_POWER = 0.5

#: Boxes that overlap a better one by more than this IoU are the same person's.
SAME_PERSON_IOU = 0.6
#: Poses more like a better one than this OKS are the same person's (HRNet, ``TEST.OKS_THRE``).
SAME_PERSON_OKS = 0.9


def person_scores(
    box_scores: NDArray[np.floating],
    keypoint_scores: NDArray[np.floating],
    visible: float = VISIBLE_SCORE,
    box_power: float = BOX_POWER,
) -> NDArray[np.float32]:
    """Return what persons are ranked by: root of the box score times the mean score of the joints that are seen.

    Args:
        box_scores: ``(n,)``; below 0 counts as 0.
        keypoint_scores: ``(n, K)``.
        visible: only scores above this count; who has none scores 0.
        box_power: power of the box score, 0.5: the root.
    """
    seen = keypoint_scores > visible
    total = np.where(seen, keypoint_scores, 0).sum(-1, dtype=np.float64)
    return np.asarray(np.maximum(box_scores, 0) ** box_power * total / np.maximum(seen.sum(-1), 1), np.float32)


def _array(value: ArrayLike | None, shape: tuple[int | None, ...], name: str) -> NDArray[np.float32]:
    array = np.asarray(value, np.float32)
    if array.ndim != len(shape) or any(want is not None and want != have for want, have in zip(shape, array.shape)):  # noqa: B905
        wanted = ", ".join("n" if want is None else str(want) for want in shape)
        raise ValueError(f"Poses.{name} has shape {array.shape}; expected ({wanted}).")
    return array


@dataclass(frozen=True, eq=False)
class Poses:
    """The persons found in one image, in image pixels (x right, y down).

    Attributes:
        boxes: ``(n, 4)`` float32, corners x0, y0, x1, y1.
        box_scores: ``(n,)`` float32, 0 to 1.
        keypoints: ``(n, K, 2)`` float32, x, y.
        keypoint_scores: ``(n, K)`` float32, roughly 0 to 1 (the heatmap's peak).
        ids: ``(n,)`` int64 track ids, or None without tracking.
        image_size_wh: width and height of the image.
        skeleton: meaning of the K joints.
        image: the ``(H, W, 3)`` BGR image itself, if it was kept (``predict`` keeps it, video pipelines do not).
        source: where the image came from.
    """

    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]
    ids: NDArray[np.int64] | None = None
    image_size_wh: tuple[int, int] = (0, 0)
    skeleton: Skeleton = COCO17
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    source: str | None = None

    def __post_init__(self) -> None:
        boxes = _array(self.boxes, (None, 4), "boxes")
        count, joints = len(boxes), len(self.skeleton)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "box_scores", _array(self.box_scores, (count,), "box_scores"))
        object.__setattr__(self, "keypoints", _array(self.keypoints, (count, joints, 2), "keypoints"))
        object.__setattr__(self, "keypoint_scores", _array(self.keypoint_scores, (count, joints), "keypoint_scores"))
        if self.ids is not None:
            ids = np.asarray(self.ids, np.int64)
            if ids.shape != (count,):
                raise ValueError(f"Poses.ids has shape {ids.shape}; expected ({count},).")
            object.__setattr__(self, "ids", ids)

    @classmethod
    def empty(cls, skeleton: Skeleton = COCO17, **fields: Any) -> "Poses":
        """Return the result for an image with nobody in it."""
        joints = len(skeleton)
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, joints, 2), np.float32),
            np.zeros((0, joints), np.float32),
            skeleton=skeleton,
            **fields,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator["Poses"]:
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(self, index: Any) -> "Poses":
        """Select persons by slice, mask, index array or one index (which keeps the person axis)."""
        if isinstance(index, bool | np.bool_):  # Python takes False for 0: what no one asked for would be person 0
            raise IndexError(
                f"{index} selects no persons; expected one truth value for each. "
                + ("These poses have no ids (ids is None), from track() they have." if self.ids is None else "")
            )
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"person {index} of {len(self)}")
            index = [int(index) % len(self)]
        return replace(
            self,
            boxes=self.boxes[index],
            box_scores=self.box_scores[index],
            keypoints=self.keypoints[index],
            keypoint_scores=self.keypoint_scores[index],
            ids=None if self.ids is None else self.ids[index],
        )

    def __repr__(self) -> str:
        size = f"{self.image_size_wh[0]}x{self.image_size_wh[1]}"
        rows = [f"Poses({len(self)} {'person' if len(self) == 1 else 'persons'}, {self.skeleton.name}, image {size})"]
        for i in range(min(len(self), 5)):
            who = f"#{self.ids[i]}" if self.ids is not None else f"[{i}]"
            x0, y0, x1, y1 = self.boxes[i]
            rows.append(
                f"  {who} box {x0:.0f},{y0:.0f}-{x1:.0f},{y1:.0f} ({self.box_scores[i]:.2f}), "
                f"joints {(self.keypoint_scores[i] >= 0.2).sum()}/{len(self.skeleton)}, "
                f"mean score {self.keypoint_scores[i].mean():.2f}"
            )
        if len(self) > 5:
            rows.append(f"  ... {len(self) - 5} more")
        return "\n".join(rows)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Return one score per person ``(n,)``, see :func:`person_scores`."""
        return person_scores(self.box_scores, self.keypoint_scores)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, rounded to what the numbers carry: source, image size, skeleton and persons."""
        persons = []
        for i in range(len(self)):
            person: dict[str, Any] = {} if self.ids is None else {"id": int(self.ids[i])}
            person["box"] = [round(float(v), 2) for v in self.boxes[i]]
            person["box_score"] = round(float(self.box_scores[i]), 4)
            person["keypoints"] = [
                [round(float(x), 2), round(float(y), 2), round(float(score), 4)]
                for (x, y), score in zip(self.keypoints[i], self.keypoint_scores[i], strict=True)
            ]
            persons.append(person)
        return {
            "source": self.source,
            "image_size_wh": list(self.image_size_wh),
            "skeleton": self.skeleton.name,
            "persons": persons,
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return :meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_df(self, frame: int = 0, time_s: float | None = None) -> Any:
        """Return a pandas DataFrame, one row per joint (columns: :data:`autopose.formats.TABLE_COLUMNS`).

        Args:
            frame: number to fill its column with.
            time_s: likewise; None leaves the column empty.

        Raises:
            MissingDependencyError: pandas is not installed (extra ``parquet``).
        """
        from autopose.formats import data_frame

        return data_frame(self, frame, time_s)

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Return COCO keypoint results, as ``pycocotools`` ``loadRes`` takes them."""
        from autopose.formats import coco_results

        return coco_results(self, image_id)

    def to_supervision(self) -> Any:
        """Return ``supervision.KeyPoints`` with xy, confidence and, where known, ``data["tracker_id"]``.

        Raises:
            MissingDependencyError: supervision is not installed (extra ``supervision``).
        """
        from autopose.formats import supervision_key_points

        return supervision_key_points(self)

    def crop(self, image: NDArray[np.uint8] | None = None, *, margin: float = 0.1) -> list[NDArray[np.uint8]]:
        """Return each person cut out of the image, ``(h, w, 3)`` BGR copies.

        Args:
            image: the picture; None for the one that the poses carry.
            margin: added around each box, as a share of its longer side; what lies outside the image is left out.
        """
        image = self.image if image is None else image
        if image is None:
            raise ValueError("These poses carry no image: pass one, poses.crop(image).")
        height, width = image.shape[:2]
        cuts = []
        for x0, y0, x1, y1 in self.boxes.tolist():
            pad = margin * max(x1 - x0, y1 - y0)
            left, top = min(max(int(x0 - pad), 0), width - 1), min(max(int(y0 - pad), 0), height - 1)
            right, bottom = max(left + 1, math.ceil(x1 + pad)), max(top + 1, math.ceil(y1 + pad))
            cuts.append(image[top:bottom, left:right].copy())
        return cuts

    def plot(self, image: NDArray[np.uint8] | None = None, **options: Any) -> NDArray[np.uint8]:
        """Return a copy of the image with the skeletons drawn on it, BGR (options: :func:`autopose.drawing.draw`)."""
        from autopose.drawing import draw

        image = self.image if image is None else image
        if image is None:
            raise ValueError("These poses carry no image: pass one, poses.plot(image).")
        return draw(image, self, **options)

    def _repr_jpeg_(self) -> bytes | None:
        """Return the picture with skeletons, which notebooks show; without a picture None: they print the text."""
        from autopose.formats import notebook_picture

        return notebook_picture(self)

    def save(self, path: str | Path) -> None:
        """Write ``.json`` (results), ``.csv`` (a row per joint) or an image format (with skeletons), by the suffix."""
        from autopose.formats import save_poses

        save_poses(self, Path(path))


@dataclass(frozen=True, eq=False)
class Person:
    """One annotated person, in image pixels.

    Attributes:
        image_path: the picture's file.
        box_xyxy: ``(4,)`` float64 corners.
        keypoints: ``(K, 2)`` float64 x, y; anything where ``weight`` is 0; NaN with a weight: known not to be there.
        weight: ``(K,)`` float32 loss weight; 0 = not labelled, 1 = labelled by a human.
        area: what OKS is normalised by, in square pixels.
        score: confidence of the box (1 for ground truth).
        image_id: id in the annotation file.
        annotation_id: id in the annotation file, -1 for a detection.
        weight_sample: how often a trainer should draw this person relative to others.
        skeleton: meaning of the K joints.
        head_box_xyxy: ``(4,)`` float64 corners of the head, which MPII's PCKh is measured in; None if not annotated.
    """

    image_path: Path
    box_xyxy: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    weight: NDArray[np.float32]
    area: float
    score: float = 1.0
    image_id: int = -1
    annotation_id: int = -1
    weight_sample: float = 1.0
    skeleton: Skeleton = COCO17
    head_box_xyxy: NDArray[np.float64] | None = None
