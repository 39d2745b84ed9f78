"""Augmentation of person crops: pure functions of a sample and a ``np.random.Generator``.

Everything geometric becomes one affine matrix and one warp; everything about colour one linear map and one table. What
is drawn here is painted by :mod:`autopose.data.looks`.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autopose.affine import center_scale_from_box, crop_matrix
from autopose.config import Config
from autopose.data.looks import Coarse, Colour, Image, Look, Patch, damage, recolour
from autopose.skeleton import Skeleton

_LUMA_BGR = np.array([0.114, 0.587, 0.299])


class Augment(Config):
    """What is varied, and how often. The geometric defaults are HRNet's (``lib/dataset/JointsDataset.py``).

    Attributes:
        flip: probability of mirroring.
        scale: sigma of the zoom, clip(N(1, s), 1 - s, 1 + s).
        rotation_deg: sigma of the rotation, clip(N(0, r), -2 r, 2 r).
        rotation: probability of rotating at all.
        rotation_law: ``uniform``: in [-r, r] instead, which is how AutoPose's "[-45, 45]" may be read; None: as said.
        half_body: probability of cropping around the upper or the lower half, of persons with more than
            ``half_body_joints`` labelled joints.
        half_body_joints: labelled joints that a person must exceed for ``half_body``.
        shift: largest displacement of the centre, as a share of the region's sides.
        colour: probability of the colour change, whose strengths follow.
        brightness: largest change, as a share of 255.
        contrast: largest change of contrast around 1.
        saturation: largest change of saturation around 1.
        hue_deg: largest rotation of colours around the grey axis.
        gains: largest change of each channel's gain around 1.
        gamma: largest log2 of the exponent.
        grey: probability of a colourless picture.
        blur: probability of a Gaussian blur of up to 2 px.
        jpeg: probability of JPEG artefacts of quality 15 to 70.
        low_resolution: probability of being sampled 1.5 to 4 times coarser and enlarged again.
        erase: probability of 1 to 3 patches that hide something.
        neighbour: probability of another person of the training set beside this one (:mod:`autopose.data.neighbours`).
    """

    flip: float = Field(0.5, ge=0, le=1)
    scale: float = Field(0.35, ge=0, lt=1)
    rotation_deg: float = Field(40.0, ge=0)
    rotation: float = Field(0.6, ge=0, le=1)
    rotation_law: Literal["uniform"] | None = None  # a state saved without it can be resumed
    half_body: float = Field(0.3, ge=0, le=1)
    half_body_joints: int = Field(8, ge=0)
    shift: float = Field(0.05, ge=0)
    colour: float = Field(0.8, ge=0, le=1)
    brightness: float = Field(0.15, ge=0)
    contrast: float = Field(0.35, ge=0, lt=1)
    saturation: float = Field(0.5, ge=0, le=1)
    hue_deg: float = Field(15.0, ge=0)
    gains: float = Field(0.1, ge=0, lt=1)
    gamma: float = Field(0.5, ge=0)
    grey: float = Field(0.05, ge=0, le=1)
    blur: float = Field(0.1, ge=0, le=1)
    jpeg: float = Field(0.1, ge=0, le=1)
    low_resolution: float = Field(0.15, ge=0, le=1)
    erase: float = Field(0.25, ge=0, le=1)
    neighbour: float = Field(0.0, ge=0, le=1)


def random_matrix(
    box_xyxy: NDArray[np.floating],
    keypoints: NDArray[np.floating],
    weight: NDArray[np.floating],
    skeleton: Skeleton,
    size_wh: tuple[int, int],
    augment: Augment,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], bool]:
    """Draw the map from image to crop.

    Args:
        box_xyxy: ``(4,)`` the person's box, image pixels.
        keypoints: ``(K, 2)`` image pixels.
        weight: ``(K,)`` 0 where there is no label.
        skeleton: names of the joints, for the halves of the body.
        size_wh: of the crop.
        augment: what to vary.
        rng: source of chance.

    Returns:
        The ``(2, 3)`` matrix and whether it mirrors (then exchange left and right joints).
    """
    aspect = size_wh[0] / size_wh[1]
    labelled = weight > 0
    center, region = center_scale_from_box(box_xyxy, aspect)
    if labelled.sum() > augment.half_body_joints and rng.random() < augment.half_body:
        center, region = half_body_region(keypoints, labelled, skeleton, aspect, rng) or (center, region)
    if augment.shift:
        center = center + rng.uniform(-augment.shift, augment.shift, 2) * region
    if augment.scale:
        region = region * np.clip(rng.normal(1, augment.scale), 1 - augment.scale, 1 + augment.scale)
    angle = 0.0
    if rng.random() < augment.rotation:
        uniform = augment.rotation_law == "uniform"
        angle = augment.rotation_deg * float(rng.uniform(-1, 1) if uniform else np.clip(rng.normal(0, 1), -2, 2))
    matrix = crop_matrix(center, region, size_wh, angle)
    mirrored = bool(rng.random() < augment.flip)
    if mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += size_wh[0] - 1
    return matrix, mirrored


def half_body_region(
    keypoints: NDArray[np.floating],
    labelled: NDArray[np.bool_],
    skeleton: Skeleton,
    aspect_wh: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return centre and size of a crop around the upper or lower half, or None if neither has 3 joints.

    Source: HRNet ``half_body_transform``: centre at the joints' mean, their extent enlarged by 1.5.
    """
    lower = skeleton.named("hip", "knee", "ankle", "pelvis")
    halves = [labelled & ~lower, labelled & lower]
    if rng.random() < 0.5:
        halves.reverse()
    chosen = next((half for half in halves if half.sum() > 2), None)
    if chosen is None:
        return None
    points = np.asarray(keypoints, np.float64)[chosen]
    low, high = points.min(0), points.max(0)
    _, region = center_scale_from_box(np.concatenate([low, np.maximum(high, low + 4)]), aspect_wh, padding=1.5)
    return points.mean(0), region


def draw_look(size_wh: tuple[int, int], augment: Augment, rng: np.random.Generator) -> Look:
    """Draw everything about a crop of this size but its place."""
    coarse, colour = draw_coarse(size_wh, augment, rng), draw_colour(augment, rng)
    patches = draw_patches(size_wh, augment, rng)
    blur, jpeg = draw_damage(augment, rng)
    return Look(coarse, colour, patches, blur, jpeg)


def draw_coarse(size_wh: tuple[int, int], augment: Augment, rng: np.random.Generator) -> Coarse | None:
    """Draw a lower resolution, at times."""
    if rng.random() >= augment.low_resolution:
        return None
    factor = rng.uniform(1.5, 4)
    small = (max(round(size_wh[0] / factor), 8), max(round(size_wh[1] / factor), 8))
    return Coarse(small, blocks=bool(rng.random() >= 0.7))


def draw_colour(augment: Augment, rng: np.random.Generator) -> Colour | None:
    """Draw a change of brightness, contrast, saturation, hue, channel gains and gamma."""
    saturation, exponent = 1.0, 1.0
    if rng.random() < augment.grey:
        saturation = 0.0
    jitter = rng.random() < augment.colour
    if not jitter and saturation:
        return None
    linear, offset = np.eye(3), np.zeros(3)
    if jitter:
        saturation *= 1 + rng.uniform(-augment.saturation, augment.saturation)
        # Rotation about the grey axis (Rodrigues' formula with the axis (1, 1, 1) / sqrt 3).
        angle = np.deg2rad(rng.uniform(-augment.hue_deg, augment.hue_deg))
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        linear = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    linear = saturation * linear + (1 - saturation) * _LUMA_BGR
    if jitter:
        linear = (1 + rng.uniform(-augment.gains, augment.gains, 3))[:, None] * linear
        contrast = 1 + rng.uniform(-augment.contrast, augment.contrast)
        offset = np.full(3, 127.5 * (1 - contrast) + 255 * rng.uniform(-augment.brightness, augment.brightness))
        linear = contrast * linear
        if augment.gamma:
            exponent = float(2 ** rng.uniform(-augment.gamma, augment.gamma))
    return Colour(np.concatenate([linear, offset[:, None]], axis=1), exponent)


def draw_patches(size_wh: tuple[int, int], augment: Augment, rng: np.random.Generator) -> tuple[Patch, ...]:
    """Draw, at times, 1 to 3 rectangles that hide something: one colour, noise, or another part of the picture."""
    if rng.random() >= augment.erase:
        return ()
    patches = []
    for _ in range(int(rng.integers(1, 4))):
        w, h = (int(side) for side in (rng.uniform(0.08, 0.35, 2) * size_wh).astype(int) + 1)
        x, y = int(rng.integers(0, size_wh[0] - w + 1)), int(rng.integers(0, size_wh[1] - h + 1))
        kind = rng.integers(3)
        if kind == 0:
            blue, green, red = (int(value) for value in rng.integers(0, 256, 3))
            patches.append(Patch(x, y, w, h, colour=(blue, green, red)))
        elif kind == 1:
            patches.append(Patch(x, y, w, h, seed=int(rng.integers(2**31))))
        else:
            source = int(rng.integers(0, size_wh[0] - w + 1)), int(rng.integers(0, size_wh[1] - h + 1))
            patches.append(Patch(x, y, w, h, source_xy=source))
    return tuple(patches)


def draw_damage(augment: Augment, rng: np.random.Generator) -> tuple[float, int]:
    """Draw the sigma of a blur and the quality of a JPEG file; 0 where there is none."""
    blur = float(rng.uniform(0.5, 2)) if rng.random() < augment.blur else 0.0
    return blur, int(rng.integers(15, 70)) if rng.random() < augment.jpeg else 0


def change_colour(image: Image, augment: Augment, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation, hue, channel gains and gamma."""
    return recolour(image, draw_colour(augment, rng))


def degrade(image: Image, augment: Augment, rng: np.random.Generator) -> Image:
    """Blur at times, and compress at times."""
    blur, jpeg = draw_damage(augment, rng)
    return damage(image, Look(blur=blur, jpeg=jpeg))
