"""Backgrounds for synthetic figures: streets and parks, rooms, and shapes that mean nothing."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[float, float, float]


def random_backdrop(size_wh: tuple[int, int], rng: np.random.Generator) -> tuple[Picture, float]:
    """Return a picture ``(h, w, 3)`` uint8 BGR and the row of its horizon."""
    return (outdoors, indoors, shapes)[int(rng.choice(3, p=[0.45, 0.3, 0.25]))](size_wh, rng)


def outdoors(size_wh: tuple[int, int], rng: np.random.Generator) -> tuple[Picture, float]:
    """Draw sky, hills, houses, trees and a ground."""
    width, height = size_wh
    horizon = height * rng.uniform(0.42, 0.58)
    sky = _shade(np.array([235, 200, 160]) * rng.uniform(0.75, 1.05), rng, 14)
    ground = _shade([(95, 150, 125), (135, 140, 145), (120, 165, 190)][rng.integers(3)], rng, 18)
    picture = _gradient(size_wh, horizon, sky, [min(v * 1.18, 250) for v in sky], ground, [v * 0.72 for v in ground])
    x = np.arange(-1, width + 2)
    for depth in (0.0, 1.0):
        order = np.arange(1, 4)[:, None]
        waves = (np.sin(x / width * rng.uniform(2, 9, (3, 1)) * order + rng.uniform(0, 6.3, (3, 1))) / order).sum(0)
        ridge = horizon - height * (0.09 - 0.05 * depth) * (1 + 0.6 * waves)
        hill = _shade(np.array([150, 150, 115]) * (1 - 0.25 * depth), rng, 12)
        _polygon(picture, [*zip(x, ridge, strict=True), (width + 1, horizon + 1), (-1, horizon + 1)], hill)
    for _ in range(int(rng.integers(1, 6))):
        w, h = width * rng.uniform(0.08, 0.2), height * rng.uniform(0.12, 0.36)
        _house(picture, rng.uniform(-0.05, 1) * width, horizon, w, h, rng)
    for _ in range(int(rng.integers(1, 7))):
        _tree(
            picture,
            rng.uniform(0, 1) * width,
            horizon + height * rng.uniform(0.0, 0.07),
            height * rng.uniform(0.12, 0.3),
            rng,
        )
    if rng.random() < 0.7:  # a path towards the vanishing point
        vanish, near = width * rng.uniform(0.3, 0.7), width * rng.uniform(0.1, 0.9)
        spread = width * rng.uniform(0.25, 0.5)
        path = _shade((165, 172, 178), rng, 14)
        corners = [
            (vanish - 4, horizon),
            (vanish + 4, horizon),
            (near + spread, height + 1),
            (near - spread, height + 1),
        ]
        _polygon(picture, corners, path)
    return _grain(picture, rng), float(horizon)


def indoors(size_wh: tuple[int, int], rng: np.random.Generator) -> tuple[Picture, float]:
    """Draw a wall with frames and a window, a floor of boards, and some furniture."""
    width, height = size_wh
    edge = height * rng.uniform(0.55, 0.7)
    wall, floor = _shade((200, 205, 210), rng, 40), _shade((80, 120, 165), rng, 35)
    picture = _gradient(size_wh, edge, wall, [v * 0.85 for v in wall], [v * 0.8 for v in floor], floor)
    vanish = (width * rng.uniform(0.3, 0.7), edge - height * 0.3)
    for x in np.linspace(-width * 1.5, width * 2.5, 26):
        slope = (edge - vanish[1]) / (height - vanish[1])
        start = (vanish[0] + (x - vanish[0]) * slope, edge)
        _line(picture, start, (x, height), [v * 0.62 for v in floor], 1)
    for _ in range(int(rng.integers(1, 5))):
        w, h = width * rng.uniform(0.08, 0.24), height * rng.uniform(0.08, 0.26)
        x, y = rng.uniform(0, width - w), rng.uniform(0.03, 0.3) * height
        _rectangle(picture, x - 3, y - 3, x + w + 3, y + h + 3, _shade((50, 60, 75), rng, 30))
        _rectangle(picture, x, y, x + w, y + h, _shade((160, 150, 140), rng, 90))
        if rng.random() < 0.5:
            _line(picture, (x + w / 2, y), (x + w / 2, y + h), (60, 65, 75), 2)
    _rectangle(picture, 0, edge - 4, width, edge + 2, [v * 0.7 for v in wall])
    for _ in range(int(rng.integers(0, 4))):
        w, h = width * rng.uniform(0.12, 0.32), height * rng.uniform(0.1, 0.28)
        x, y = rng.uniform(-0.1, 0.9) * width, edge + height * rng.uniform(0.0, 0.08)
        colour = _shade((110, 115, 130), rng, 60)
        _rectangle(picture, x, y - h, x + w, y, colour)
        _rectangle(picture, x, y - h, x + w, y - h * 0.88, [min(v * 1.2, 255) for v in colour])
    return _grain(picture, rng), float(edge - height * 0.18)


def shapes(size_wh: tuple[int, int], rng: np.random.Generator) -> tuple[Picture, float]:
    """Draw clouds of colour with circles, bars and blobs: limb-like things that are no limbs."""
    width, height = size_wh
    cells = rng.uniform(20, 235, (int(rng.integers(2, 7)), int(rng.integers(2, 7)), 3)).astype(np.float32)
    picture = np.clip(cv2.resize(cells, size_wh, interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(6, 26))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        a, b = rng.uniform(0.02, 0.22, 2) * min(size_wh)
        colour = _shade((128, 128, 128), rng, 120)
        kind = rng.integers(3)
        if kind == 0:
            center, axes = (int(x), int(y)), (int(a) + 1, int(b) + 1)
            cv2.ellipse(picture, center, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            angle = rng.uniform(0, np.pi)
            end = (x + 3 * a * np.cos(angle), y + 3 * a * np.sin(angle))
            _line(picture, (x, y), end, colour, int(b * 0.4) + 1)
        else:
            _rectangle(picture, x, y, x + a * 2, y + b * 2, colour)
    return _grain(picture, rng), height * 0.5


def _shade(base: object, rng: np.random.Generator, spread: float) -> Colour:
    b, g, r = (float(v) for v in np.clip(np.asarray(base, np.float64) + rng.uniform(-spread, spread, 3), 0, 255))
    return b, g, r


def _gradient(
    size_wh: tuple[int, int], horizon: float, top: object, above: object, below: object, bottom: object
) -> Picture:
    """Return a picture that fades from ``top`` to ``above`` the horizon and from ``below`` it to the ``bottom``."""
    width, height = size_wh
    rows = np.arange(height)[:, None]
    up = np.clip(rows / max(horizon, 1), 0, 1)
    down = np.clip((rows - horizon) / max(height - horizon, 1), 0, 1)
    first = np.asarray(top) + (np.asarray(above) - np.asarray(top)) * up
    second = np.asarray(below) + (np.asarray(bottom) - np.asarray(below)) * down
    column = np.where(rows < horizon, first, second).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(column[:, None], (height, width, 3)))


def _grain(picture: Picture, rng: np.random.Generator) -> Picture:
    """Add coarse stains and fine noise."""
    height, width = picture.shape[:2]
    cells = rng.normal(0, 4, (max(height // 12, 2), max(width // 12, 2))).astype(np.float32)
    stains = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, rng.uniform(1, 4), (height, width))
    return np.clip(picture + (stains + noise)[..., None], 0, 255).astype(np.uint8)


def _polygon(picture: Picture, points: object, colour: object) -> None:
    corners = np.rint(np.asarray(points, np.float64) * 16).astype(np.int32)
    cv2.fillPoly(picture, [corners], tuple(np.asarray(colour, float).tolist()), cv2.LINE_AA, shift=4)


def _rectangle(picture: Picture, x0: float, y0: float, x1: float, y1: float, colour: object) -> None:
    _polygon(picture, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)


def _line(
    picture: Picture, start: tuple[float, float], end: tuple[float, float], colour: object, thickness: int
) -> None:
    a, b = ((round(x * 16), round(y * 16)) for x, y in (start, end))
    cv2.line(picture, a, b, tuple(np.asarray(colour, float).tolist()), thickness, cv2.LINE_AA, 4)


def _house(picture: Picture, x: float, ground: float, w: float, h: float, rng: np.random.Generator) -> None:
    wall = _shade((150, 160, 180), rng, 50)
    _rectangle(picture, x, ground - h, x + w, ground, wall)
    if rng.random() < 0.5:
        roof = [(x - w * 0.06, ground - h), (x + w / 2, ground - h - w * 0.35), (x + w * 1.06, ground - h)]
        _polygon(picture, roof, _shade((70, 80, 140), rng, 40))
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    glass = _shade((120, 105, 90), rng, 40)
    for i in range(columns):
        for j in range(rows):
            left, top = x + w * (i + 0.25) / columns, ground - h + h * (j + 0.25) / rows
            _rectangle(picture, left, top, left + w * 0.5 / columns, top + h * 0.45 / rows, glass)


def _tree(picture: Picture, x: float, ground: float, h: float, rng: np.random.Generator) -> None:
    _rectangle(picture, x - h * 0.035, ground - h * 0.5, x + h * 0.035, ground, _shade((45, 65, 90), rng, 15))
    leaf = np.array(_shade((60, 120, 75), rng, 25))
    for _ in range(9):
        dx, dy, r = rng.normal(0, 0.13 * h), rng.normal(0, 0.12 * h), h * rng.uniform(0.1, 0.2)
        shade = tuple((leaf * rng.uniform(0.75, 1.2)).clip(0, 255).tolist())
        cv2.circle(
            picture,
            (round((x + dx) * 16), round((ground - h * 0.68 + dy) * 16)),
            round(r * 16),
            shade,
            -1,
            cv2.LINE_AA,
            4,
        )
