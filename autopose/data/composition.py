"""Paint figures over a background and work out what of them is seen: the ground truth of synthetic pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.data.figure import Figure
from autopose.data.rendering import Layer, Outfit, render_figure
from autopose.skeleton import COCO17


@dataclass(frozen=True)
class Actor:
    """A figure placed in a picture."""

    figure: Figure
    outfit: Outfit
    pelvis_xy: tuple[float, float]
    height_px: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known about the figures of a picture, nearest last.

    Attributes:
        xy: ``(n, 17, 2)`` joints in pixels.
        visibility: ``(n, 17)`` 0 outside of the picture, 1 hidden, 2 seen.
        boxes: ``(n, 4)`` xyxy of what is seen of each figure.
        area: ``(n,)`` pixels seen of each figure.
    """

    xy: NDArray[np.float64]
    visibility: NDArray[np.int64]
    boxes: NDArray[np.float64]
    area: NDArray[np.float64]


def compose(backdrop: NDArray[np.uint8], actors: Sequence[Actor]) -> tuple[NDArray[np.uint8], Truth]:
    """Paint actors over a background, the first farthest away, and work out what of them is seen."""
    picture = backdrop.astype(np.float32)
    height, width = picture.shape[:2]
    owner = np.full((height, width), -1, np.int64)
    layers = [render_figure(actor.figure, actor.outfit, actor.pelvis_xy, actor.height_px) for actor in actors]
    for index, (actor, layer) in enumerate(zip(actors, layers, strict=True)):
        _shadow(picture, actor)
        inside, part = _overlap(layer, width, height)
        alpha = layer.alpha[part][..., None]
        picture[inside] = picture[inside] * (1 - alpha) + layer.colour[part] * alpha
        owner[inside][layer.alpha[part] >= 0.5] = index
    joints = np.zeros((len(actors), len(COCO17), 2))
    visibility = np.zeros((len(actors), len(COCO17)), np.int64)
    boxes, area = np.zeros((len(actors), 4)), np.zeros(len(actors))
    for index, (actor, layer) in enumerate(zip(actors, layers, strict=True)):
        for k, name in enumerate(COCO17.joints):
            point = actor.figure.joints[name]
            joints[index, k] = point[:2] * actor.height_px + actor.pelvis_xy
            visibility[index, k] = _seen(joints[index, k], point[2], actor.figure.depth_of[name], layer, owner, index)
        rows, columns = np.nonzero(owner == index)
        area[index] = len(rows)
        if len(rows):
            boxes[index] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8), Truth(joints, visibility, boxes, area)


def _overlap(layer: Layer, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a layer lies in the picture, and which part of the layer that is."""
    (x, y), (h, w) = layer.corner, layer.alpha.shape
    x0, y0 = min(max(x, 0), width), min(max(y, 0), height)
    x1, y1 = max(min(x + w, width), x0), max(min(y + h, height), y0)
    inside = slice(y0, y1), slice(x0, x1)
    return inside, (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def _seen(
    xy: NDArray[np.float64], z: float, flesh: float, layer: Layer, owner: NDArray[np.int64], index: int
) -> int:  # fmt: skip
    column, row = (int(v) for v in np.rint(xy))
    if not (0 <= row < owner.shape[0] and 0 <= column < owner.shape[1]):
        return 0
    if owner[row, column] != index:
        return 1
    surface = layer.depth[row - layer.corner[1], column - layer.corner[0]]
    return 2 if surface > z - flesh - 0.03 else 1


def _shadow(picture: NDArray[np.float32], actor: Actor) -> None:
    """Darken the ground under the feet."""
    feet = np.array([actor.figure.joints[f"{side}_ankle"] for side in ("left", "right")])
    low = feet[:, 1].max() + 0.035
    x = feet[:, 0].mean() * actor.height_px + actor.pelvis_xy[0]
    y = low * actor.height_px + actor.pelvis_xy[1]
    reach = (0.12 + np.ptp(feet[:, 0]) / 2) * actor.height_px
    mask = np.zeros(picture.shape[:2], np.float32)
    center, axes = (round(x * 16), round(y * 16)), (round(reach * 16), round(0.028 * actor.height_px * 16))
    cv2.ellipse(mask, center, axes, 0, 0, 360, 0.45, -1, cv2.LINE_AA, 4)
    picture *= 1 - cv2.blur(mask, (5, 5))[..., None]
