"""Boxes, crops and heatmaps: the frames of a top-down pose network and the matrices between them.

Frames (x right, y down, the centre of the top left pixel is (0, 0)):

* **image**: pixels of the source image.
* **crop**: pixels of the network's input, ``input_size_wh``.
* **heatmap**: cells of the network's output; see :class:`autopose.heatmap.Codec` for its relation to the crop.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

#: A person's box is enlarged by this factor before cropping (HRNet and SimpleBaseline, ``lib/dataset/coco.py``).
BOX_PADDING = 1.25
#: OpenCV 4 warps no image with a longer side.
LONGEST_SIDE = 32_766


def center_scale_from_box(
    box_xyxy: NDArray[np.floating], aspect_wh: float, padding: float = BOX_PADDING
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre and the (width, height) of the region to crop, in image pixels.

    The shorter side is enlarged to the aspect ratio, then both by ``padding``.

    Args:
        box_xyxy: ``(..., 4)`` corners x0, y0, x1, y1.
        aspect_wh: width / height of the network's input.
        padding: factor on both sides.

    Returns:
        ``(..., 2)`` centres and ``(..., 2)`` sizes.
    """
    box = np.asarray(box_xyxy, np.float64)
    center = (box[..., :2] + box[..., 2:]) / 2
    width, height = np.moveaxis(np.maximum(box[..., 2:] - box[..., :2], 1e-3), -1, 0)
    width, height = np.maximum(width, height * aspect_wh), np.maximum(height, width / aspect_wh)
    return center, np.stack([width, height], -1) * padding


def crop_matrix(
    center: NDArray[np.floating],
    region_wh: NDArray[np.floating],
    input_size_wh: tuple[int, int],
    rotation_deg: float = 0.0,
) -> NDArray[np.float64]:
    """Return the ``(2, 3)`` matrix that maps image pixels to crop pixels.

    The region's centre lands on the crop's centre ((w - 1) / 2, (h - 1) / 2); its width fills the crop's width; a
    positive rotation turns the picture counter-clockwise as seen (OpenCV's ``getRotationMatrix2D``).
    """
    scale = input_size_wh[0] / float(region_wh[0])
    angle = np.deg2rad(rotation_deg)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, sin], [-sin, cos]])
    target = (np.array(input_size_wh, np.float64) - 1) / 2
    return np.concatenate([linear, (target - linear @ np.asarray(center, np.float64))[:, None]], axis=1)


def invert(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the exact inverse of ``(..., 2, 3)`` affine matrices."""
    matrix = np.asarray(matrix, np.float64)
    inverse = np.linalg.inv(matrix[..., :2])
    return np.concatenate([inverse, -inverse @ matrix[..., 2:]], axis=-1)


def transform(points_xy: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map points ``(..., K, 2)`` by matrices ``(..., 2, 3)``."""
    matrix = np.asarray(matrix, np.float64)
    return np.asarray(points_xy, np.float64) @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def transform_boxes(boxes_xyxy: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map boxes ``(n, 4)`` by a ``(2, 3)`` matrix without rotation; of a mirrored box left stays left of right.

    Boxes count pixel *edges* (COCO: x0 + width), matrices map pixel *centres*: edge e lies at coordinate e - 0.5.
    """
    corners = transform(boxes_xyxy.reshape(-1, 2, 2) - 0.5, matrix) + 0.5
    mirrored = matrix[[0, 1], [0, 1]] < 0
    return np.where(mirrored, corners[:, ::-1], corners).reshape(-1, 4)


def warp(
    image: NDArray[np.uint8],
    matrix: NDArray[np.floating],
    size_wh: tuple[int, int],
    border: tuple[int, int, int] = (0, 0, 0),
) -> NDArray[np.uint8]:
    """Sample a ``(H, W, 3)`` image into ``(h, w, 3)``, bilinear; ``border`` fills what lies outside."""
    if max(image.shape[:2]) > LONGEST_SIDE:
        image, matrix = within_reach(image, matrix, size_wh)
    warped = cv2.warpAffine(image, np.asarray(matrix, np.float64), size_wh, flags=cv2.INTER_LINEAR, borderValue=border)
    return np.asarray(warped, np.uint8)


def within_reach(
    image: NDArray[np.uint8], matrix: NDArray[np.floating], size_wh: tuple[int, int], margin: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the part of an image that :func:`warp` samples, every n-th pixel of it if that is huge, and its matrix.

    Args:
        image: ``(H, W, 3)``.
        matrix: ``(2, 3)``.
        size_wh: of the result.
        margin: so many pixels of the result more on each side.
    """
    corners = np.array([[0, 0], [size_wh[0], 0], [0, size_wh[1]], size_wh], np.float64)
    corners += np.where(corners > 0, margin, -margin)
    seen = transform(corners, invert(matrix))
    size = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(seen.min(0)) - 2, 0, size - 1).astype(int)
    high = np.clip(np.ceil(seen.max(0)) + 3, low + 1, size).astype(int)
    step = -(-(high - low) // LONGEST_SIDE)  # rounded up
    part = image[low[1] : high[1] : step[1], low[0] : high[0] : step[0]]
    inner = np.array(matrix, np.float64)
    inner[:, 2] += inner[:, :2] @ low
    inner[:, :2] *= step
    return np.ascontiguousarray(part), inner


def warp_shrunk(
    image: NDArray[np.uint8],
    matrix: NDArray[np.floating],
    size_wh: tuple[int, int],
    border: tuple[int, int, int] = (0, 0, 0),
) -> NDArray[np.uint8]:
    """Do as :func:`warp`, but shrink by the means of areas first: a picture that becomes much smaller has no aliasing.

    Args:
        image: ``(H, W, 3)``.
        matrix: ``(2, 3)`` without rotation.
        size_wh: of the result.
        border: what fills the outside.
    """
    size = np.array([image.shape[1], image.shape[0]], np.float64)
    small = np.clip(np.rint(size * np.abs(matrix[[0, 1], [0, 1]])), 1, size).astype(int)
    ratio = small / size
    shrunk = cv2.resize(image, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA)
    # The matrix now starts from the small picture: x = (x_small + 0.5) / ratio - 0.5.
    inner = np.array(matrix, np.float64)
    inner[:, 2] += matrix[:, :2] @ ((1 / ratio - 1) / 2)
    inner[:, :2] = matrix[:, :2] / ratio
    return warp(np.asarray(shrunk, np.uint8), inner, size_wh, border)


def letterbox_matrix(image_size_wh: tuple[int, int], input_size_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Return the ``(2, 3)`` matrix that fits a whole image into the top left of the input, keeping its aspect ratio."""
    scale = min(input_size_wh[0] / image_size_wh[0], input_size_wh[1] / image_size_wh[1])
    offset = (scale - 1) / 2  # pixel centres: image x + 0.5 maps to scale * (x + 0.5)
    return np.array([[scale, 0, offset], [0, scale, offset]])
