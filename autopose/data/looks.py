"""What a training picture looks like: drawn beforehand, then painted, by OpenCV here or by a GPU.

:mod:`autopose.data.augment` draws; :mod:`autopose.training.resident` paints many at once on a device.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.affine import warp

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Coarse:
    """A picture is sampled at this smaller size, and enlarged again, smoothly or in blocks."""

    size_wh: tuple[int, int]
    blocks: bool


@dataclass(frozen=True, eq=False)
class Colour:
    """A change of colour: ``linear`` ``(3, 4)`` on BGR (0 to 255) and 1, then each channel's share to the exponent."""

    linear: NDArray[np.float64]
    exponent: float = 1.0


@dataclass(frozen=True)
class Patch:
    """A rectangle that hides what is below it.

    Attributes:
        x, y, w, h: pixels.
        colour: BGR; None: noise, or another part of the picture.
        seed: of the noise.
        source_xy: top left corner of the part that is painted over this one; None: colour or noise.
    """

    x: int
    y: int
    w: int
    h: int
    colour: tuple[int, int, int] | None = None
    seed: int = 0
    source_xy: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """All that is changed about a crop but its place.

    Attributes:
        coarse: low resolution; None: full.
        colour: None: as it is.
        patches: in the order in which they are painted.
        blur: sigma in pixels; 0 = none.
        jpeg: quality; 0 = none.
    """

    coarse: Coarse | None = None
    colour: Colour | None = None
    patches: tuple[Patch, ...] = ()
    blur: float = 0.0
    jpeg: int = 0


def sample_at(image: Image, matrix: NDArray[np.float64], size_wh: tuple[int, int], coarse: Coarse | None) -> Image:
    """Warp the image into a crop, at a lower resolution that is then enlarged if one is given."""
    if coarse is None:
        return warp(image, matrix, size_wh)
    picture = warp(image, coarse_matrix(matrix, size_wh, coarse.size_wh), coarse.size_wh)
    # The exact one: INTER_NEAREST rounds down, and shifts the picture by up to half a coarse pixel against its joints.
    enlarge = cv2.INTER_NEAREST_EXACT if coarse.blocks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size_wh, interpolation=enlarge), np.uint8)


def coarse_matrix(
    matrix: NDArray[np.float64], size_wh: tuple[int, int], small_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Return a crop's matrix for the same crop with fewer pixels."""
    ratio = np.array(small_wh) / np.array(size_wh)
    # Pixel areas, not centres, are scaled: x + 0.5 -> ratio (x + 0.5); cv2.resize enlarges by the same rule.
    coarse: NDArray[np.float64] = matrix * ratio[:, None]
    coarse[:, 2] += (ratio - 1) / 2
    return coarse


def recolour(image: Image, colour: Colour | None) -> Image:
    """Return the picture in other colours."""
    if colour is None:
        return image
    changed = cv2.transform(image, colour.linear)
    if colour.exponent != 1:
        table = np.rint(255 * (np.arange(256) / 255) ** colour.exponent).astype(np.uint8)
        changed = cv2.LUT(changed, table)
    return np.asarray(changed, np.uint8)


def hide(image: Image, patches: tuple[Patch, ...]) -> Image:
    """Paint the patches; changes ``image`` itself."""
    for p in patches:
        if p.source_xy is not None:
            x, y = p.source_xy
            part = image[y : y + p.h, x : x + p.w].copy()
        elif p.colour is not None:
            part = np.array(p.colour, np.uint8)
        else:
            part = np.random.default_rng(p.seed).integers(0, 256, (p.h, p.w, 3), np.uint8)
        image[p.y : p.y + p.h, p.x : p.x + p.w] = part
    return image


def damage(image: Image, look: Look) -> Image:
    """Blur and compress."""
    if look.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), look.blur), np.uint8)
    if look.jpeg:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return image
