"""Augmentation of person crops: pure functions of a sample and a ``np.random.Generator``.

Everything geometric becomes one affine matrix and one warp; everything about colour one linear map and one table.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autopose.affine import center_scale_from_box, crop_matrix, warp
from autopose.config import Config
from autopose.skeleton import Skeleton

Image = NDArray[np.uint8]
_LUMA_BGR = np.array([0.114, 0.587, 0.299])


class Augment(Config):
    """What is varied, and how often. The geometric defaults are HRNet's (``lib/dataset/JointsDataset.py``).

    Attributes:
        flip: probability of mirroring.
        scale: sigma of the zoom, clip(N(1, s), 1 - s, 1 + s).
        rotation_deg: sigma of the rotation, clip(N(0, r), -2 r, 2 r).
        rotation: probability of rotating at all.
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
        angle = float(np.clip(rng.normal(0, 1), -2, 2) * augment.rotation_deg)
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


def sample_crop(
    image: Image, matrix: NDArray[np.float64], size_wh: tuple[int, int], augment: Augment, rng: np.random.Generator
) -> Image:
    """Warp the image into a crop, at times at a lower resolution that is then enlarged."""
    if rng.random() >= augment.low_resolution:
        return warp(image, matrix, size_wh)
    factor = rng.uniform(1.5, 4)
    small = (max(round(size_wh[0] / factor), 8), max(round(size_wh[1] / factor), 8))
    ratio = np.array(small) / np.array(size_wh)
    # Pixel areas, not centres, are scaled: x + 0.5 -> ratio (x + 0.5); cv2.resize enlarges by the same rule.
    coarse = matrix * ratio[:, None]
    coarse[:, 2] += (ratio - 1) / 2
    picture = warp(image, coarse, small)
    # The exact one: INTER_NEAREST rounds down, and shifts the picture by up to half a coarse pixel against its joints.
    enlarge = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(picture, size_wh, interpolation=enlarge), np.uint8)


def change_colour(image: Image, augment: Augment, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation, hue, channel gains and gamma."""
    saturation = 1.0
    if rng.random() < augment.grey:
        saturation = 0.0
    jitter = rng.random() < augment.colour
    if not jitter and saturation:
        return image
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
    changed = cv2.transform(image, np.concatenate([linear, offset[:, None]], axis=1))
    if jitter and augment.gamma:
        exponent = 2 ** rng.uniform(-augment.gamma, augment.gamma)
        table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
        changed = cv2.LUT(changed, table)
    return np.asarray(changed, np.uint8)


def degrade(image: Image, augment: Augment, rng: np.random.Generator) -> Image:
    """Blur at times, and compress at times."""
    if rng.random() < augment.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2)), np.uint8)
    if rng.random() < augment.jpeg:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return image


def erase_patches(image: Image, augment: Augment, rng: np.random.Generator) -> Image:
    """Hide 1 to 3 rectangles behind one colour, noise, or another part of the picture; changes ``image`` itself."""
    if rng.random() >= augment.erase:
        return image
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        w, h = (rng.uniform(0.08, 0.35, 2) * (width, height)).astype(int) + 1
        x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        kind = rng.integers(3)
        if kind == 0:
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        elif kind == 1:
            image[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
        else:
            x2, y2 = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            image[y : y + h, x : x + w] = image[y2 : y2 + h, x2 : x2 + w].copy()
    return image
