"""Boxes: area, overlap, suppression of those that repeat a better one."""

import numpy as np
from numpy.typing import NDArray


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the intersection over union ``(n, m)`` of boxes xyxy ``(n, 4)`` and ``(m, 4)``."""
    overlap = _overlap(a, b)
    union = box_area(a)[:, None] + box_area(b)[None] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-9))


def contained(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share ``(n, m)`` of the smaller of two boxes xyxy ``(n, 4)`` and ``(m, 4)`` that lies in the other."""
    smaller = np.minimum(box_area(a)[:, None], box_area(b)[None])
    return np.asarray(_overlap(a, b) / np.maximum(smaller, 1e-9))


def _overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), -1))


def box_area(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the areas ``(n,)`` of boxes xyxy ``(n, 4)``."""
    return np.asarray(np.prod(np.maximum(np.asarray(boxes, np.float64)[:, 2:] - boxes[:, :2], 0), -1))


def keep_best_boxes(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], iou: float, limit: int | None = None
) -> NDArray[np.int64]:
    """Suppress boxes that overlap a better one; return the kept indices in falling order of score."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    overlaps = box_iou(boxes, boxes) > iou
    kept: list[int] = []
    for index in order:
        if not overlaps[index, kept].any():
            kept.append(int(index))
            if limit is not None and len(kept) == limit:
                break
    return np.array(kept, np.int64)


def clip_boxes(boxes: NDArray[np.floating], image_size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Return the boxes cut to the image."""
    limit = np.array([*image_size_wh, *image_size_wh], np.float32)
    return np.clip(np.asarray(boxes, np.float32).reshape(-1, 4), 0, limit)
