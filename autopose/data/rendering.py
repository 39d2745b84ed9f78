"""Draw posed figures: shaded round cones with a depth buffer, in clothes of random colours and patterns."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.data.figure import Figure, Part

Colour = tuple[float, float, float]

#: Per pixel and axis, against jagged edges.
_SAMPLES = 2

#: Towards the light: up, from the left, from the viewer's side.
_LIGHT = np.array([-0.45, -0.65, -0.62])
_SKINS: tuple[Colour, ...] = (
    (185, 205, 240),
    (150, 180, 225),
    (120, 155, 205),
    (85, 120, 175),
    (55, 80, 125),
    (40, 55, 90),
)
_HAIRS: tuple[Colour, ...] = ((25, 25, 30), (35, 45, 70), (50, 80, 120), (90, 150, 195), (120, 120, 125), (40, 60, 140))


@dataclass(frozen=True)
class Outfit:
    """Colours (BGR 0-255) by material, and the pattern of the shirt.

    Attributes:
        colours: material -> colour.
        pattern: ``plain``, ``stripes``, ``checks``, ``emblem`` or ``jacket`` (the last two mark the front).
        second: the pattern's other colour.
        period: of stripes and checks, in body heights.
    """

    colours: dict[str, Colour]
    pattern: str
    second: Colour
    period: float

    @staticmethod
    def random(rng: np.random.Generator) -> "Outfit":
        """Draw clothes, skin and hair."""
        skin = np.array(_SKINS[rng.integers(len(_SKINS))]) * rng.uniform(0.92, 1.08)
        hair = np.array(_HAIRS[rng.integers(len(_HAIRS))]) * rng.uniform(0.8, 1.2)
        shirt, trousers, second, cap = (_cloth(rng) for _ in range(4))
        shoe = np.array(_cloth(rng)) * 0.6
        colours = {
            "skin": skin, "nose": skin * 1.02, "ear": skin * np.array([0.92, 0.92, 1.0]), "hair": hair, "shirt": shirt,
            "trousers": trousers, "shoe": shoe, "cap": cap, "eyeball": (235, 235, 235), "pupil": (30, 25, 20),
            "mouth": skin * np.array([0.6, 0.55, 0.85]),
        }  # fmt: skip
        plain = {name: _colour(value) for name, value in colours.items()}
        pattern = str(rng.choice(["plain", "stripes", "checks", "emblem", "jacket"], p=[0.3, 0.2, 0.12, 0.23, 0.15]))
        return Outfit(plain, pattern, second, float(rng.uniform(0.035, 0.09)))


def _colour(value: object) -> Colour:
    b, g, r = (float(v) for v in np.clip(np.asarray(value, np.float64), 0, 255))
    return b, g, r


def _cloth(rng: np.random.Generator) -> Colour:
    """Draw a colour of cloth: any hue, mostly of medium saturation, at times grey."""
    hue, saturation = int(rng.integers(180)), int(rng.choice([15, 90, 150, 200]))
    pixel = np.array([[[hue, saturation, int(rng.uniform(50, 245))]]], np.uint8)
    return _colour(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0])


@dataclass(frozen=True)
class Layer:
    """A drawn figure, cut to its own extent.

    Attributes:
        corner: ``(x, y)`` of its left top pixel in the picture.
        colour: ``(h, w, 3)`` float32 BGR.
        alpha: ``(h, w)`` float32 coverage.
        depth: ``(h, w)`` float32 distance from the viewer, body heights; inf where nothing is.
    """

    corner: tuple[int, int]
    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]
    depth: NDArray[np.float32]


def render_figure(figure: Figure, outfit: Outfit, pelvis_xy: tuple[float, float], height_px: float) -> Layer:
    """Draw a figure.

    Args:
        figure: the posed body.
        outfit: its colours.
        pelvis_xy: where its pelvis is in the picture, in pixels (centre of the left top pixel = 0).
        height_px: pixels per body height.
    """
    points = np.array([[*part.start, *part.end] for part in figure.parts]).reshape(-1, 2, 3)
    radii = np.array([part.radii for part in figure.parts])
    low = (points[..., :2] - radii[..., None]).min((0, 1)) * height_px + pelvis_xy
    high = (points[..., :2] + radii[..., None]).max((0, 1)) * height_px + pelvis_xy
    x0, y0 = (int(v) for v in np.floor(low - 1))
    x1, y1 = (int(v) for v in np.ceil(high + 2))
    shape = ((y1 - y0) * _SAMPLES, (x1 - x0) * _SAMPLES)
    # Sample positions in body heights around the pelvis.
    xs = (((np.arange(shape[1]) + 0.5) / _SAMPLES - 0.5 + x0 - pelvis_xy[0]) / height_px).astype(np.float32)
    ys = (((np.arange(shape[0]) + 0.5) / _SAMPLES - 0.5 + y0 - pelvis_xy[1]) / height_px).astype(np.float32)
    depth = np.full(shape, np.inf, np.float32)
    colour = np.zeros((*shape, 3), np.float32)
    for part in figure.parts:
        _draw(part, figure, outfit, xs, ys, depth, colour)
    alpha = np.isfinite(depth).astype(np.float32)
    size = (x1 - x0, y1 - y0)
    coverage = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    mixed = cv2.resize(colour * alpha[..., None], size, interpolation=cv2.INTER_AREA)
    nearest = depth.reshape(size[1], _SAMPLES, size[0], _SAMPLES).min((1, 3))
    paint = (mixed / np.maximum(coverage, 1e-6)[..., None]).astype(np.float32)
    return Layer((x0, y0), paint, np.asarray(coverage, np.float32), nearest)


def _draw(
    part: Part,
    figure: Figure,
    outfit: Outfit,
    xs: NDArray[np.float32],
    ys: NDArray[np.float32],
    depth: NDArray[np.float32],
    colour: NDArray[np.float32],
) -> None:
    """Draw one round cone into the buffers where it is nearest."""
    start, end, radii, material = part.start, part.end, part.radii, part.material
    reach = max(radii)
    columns = slice(*np.searchsorted(xs, [min(start[0], end[0]) - reach, max(start[0], end[0]) + reach]))
    rows = slice(*np.searchsorted(ys, [min(start[1], end[1]) - reach, max(start[1], end[1]) + reach]))
    x, y = xs[columns][None, :], ys[rows][:, None]
    if not x.size or not y.size:
        return
    axis = (end - start).astype(np.float32)
    length = float(axis[0] ** 2 + axis[1] ** 2)
    along = np.clip(((x - start[0]) * axis[0] + (y - start[1]) * axis[1]) / max(length, 1e-9), 0, 1).astype(np.float32)
    if length < 1e-9 and axis[2] > 0:
        along = np.zeros_like(along)
    radius = radii[0] + along * (radii[1] - radii[0])
    nx, ny = (x - start[0] - along * axis[0]) / radius, (y - start[1] - along * axis[1]) / radius
    beyond = nx**2 + ny**2
    nz = np.sqrt(np.maximum(1 - beyond, 0))
    z = start[2] + along * axis[2] - radius * nz
    window = depth[rows, columns]
    nearer = (beyond <= 1) & (z < window)
    if not nearer.any():
        return
    light = np.maximum(nx * _LIGHT[0] + ny * _LIGHT[1] - nz * _LIGHT[2], 0)
    shade = (0.5 + 0.58 * light)[nearer][:, None]
    window[nearer] = z[nearer]
    base = np.array(outfit.colours[material], np.float32)
    if material == "shirt" and outfit.pattern != "plain":
        offset = np.stack(np.broadcast_arrays(x, y, z), -1)[nearer] - figure.trunk_origin
        worn = _pattern(offset @ figure.trunk_frame, outfit, base)
    else:
        worn = base
    colour[rows, columns][nearer] = np.clip(worn * shade, 0, 255)


def _pattern(coordinates: NDArray[np.floating], outfit: Outfit, base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return colours ``(n, 3)`` of points given as (left, down, back) of the trunk ``(n, 3)`` in body heights."""
    left, down, back = coordinates.T
    front = back < 0
    match outfit.pattern:
        case "stripes":
            second = np.floor(down / outfit.period) % 2 == 0
        case "checks":
            second = (np.floor(down / outfit.period) + np.floor(left / outfit.period)) % 2 == 0
        case "emblem":
            second = front & ((left / 0.05) ** 2 + ((down - 0.11) / 0.04) ** 2 < 1)
        case _:
            second = front & (np.abs(left) < 0.022)
    return np.where(second[:, None], np.array(outfit.second, np.float32), base).astype(np.float32)
