"""Pictures and clips of articulated figures with exact COCO-17 ground truth; the same seed gives the same pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.data.backdrop import random_backdrop
from autopose.data.composition import Actor, Truth, compose
from autopose.data.figure import Build, pose_figure
from autopose.data.posture import random_posture
from autopose.data.rendering import Outfit
from autopose.data.walkers import synthetic_clip
from autopose.errors import DataError
from autopose.files import write_atomic
from autopose.image_files import write_image
from autopose.skeleton import COCO17

__all__ = ["random_picture", "synthetic_clip", "write_synthetic"]


def random_picture(
    size_wh: tuple[int, int], persons: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Truth]:
    """Draw one picture with between ``persons[0]`` and ``persons[1]`` figures."""
    width, height = size_wh
    backdrop, horizon = random_backdrop(size_wh, rng)
    placed: list[tuple[float, Actor]] = []
    for _ in range(int(rng.integers(persons[0], persons[1] + 1))):
        figure = pose_figure(
            random_posture(rng),
            Build.random(rng),
            camera_pitch=float(rng.uniform(-5, 18)),
            sleeves=str(rng.choice(["short", "long"])),
            legs=str(rng.choice(["short", "long"], p=[0.35, 0.65])),
            hair=str(rng.choice(["short", "long", "cap"], p=[0.5, 0.3, 0.2])),
        )
        tall = height * float(rng.uniform(0.45, 0.95))
        low = max(point[1] for point in figure.joints.values()) + 0.04
        # Feet stand on the ground, lower in the picture the nearer (taller) they are.
        feet = horizon + (height - horizon) * np.clip(tall / height * rng.uniform(0.95, 1.2), 0.3, 1.08)
        pelvis = (float(rng.uniform(0.12, 0.88) * width), float(feet - low * tall))
        placed.append((tall, Actor(figure, Outfit.random(rng), pelvis, tall)))
    placed.sort(key=lambda pair: pair[0])
    picture, truth = compose(backdrop, [actor for _, actor in placed])
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.0)), np.uint8)
    return picture, truth


def write_synthetic(
    out: Path,
    *,
    images: int,
    seed: int = 0,
    size_wh: tuple[int, int] = (256, 256),
    persons: tuple[int, int] = (1, 3),
    on_image: Callable[[], None] | None = None,
) -> Path:
    """Write JPEGs and their annotations; returns the path of the annotations.

    Args:
        out: folder to write ``images/*.jpg`` and ``annotations.json`` into; the latter comes last, in one step.
        images: how many.
        seed: decides everything; image i depends on (seed, i) only.
        size_wh: width and height.
        persons: fewest and most figures per image.
        on_image: called after each, for progress.

    Raises:
        DataError: an impossible number or size.
    """
    if images < 1 or min(size_wh) < 32 or not 0 <= persons[0] <= persons[1]:
        raise DataError(
            f"Cannot draw {images} images of {size_wh[0]}x{size_wh[1]} with {persons[0]} to {persons[1]} persons: "
            "expected at least one image of at least 32x32."
        )
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        picture, truth = random_picture(size_wh, persons, np.random.default_rng([seed, number]))
        name = f"images/{number:06d}.jpg"
        write_image(out / name, picture)
        records.append({"id": number, "file_name": name, "width": size_wh[0], "height": size_wh[1], "complete": True})
        annotations += _annotations(number, len(annotations), truth)
        if on_image is not None:
            on_image()
    path = out / "annotations.json"
    content = {
        "info": {"description": f"autopose synthetic figures, seed {seed}"},
        "images": records,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
    }
    write_atomic(path, json.dumps(content))
    return path


def _annotations(image_id: int, before: int, truth: Truth) -> list[dict[str, Any]]:
    """Return COCO records of the figures of which at least 40 pixels are seen."""
    records: list[dict[str, Any]] = []
    for xy, visibility, box, area in zip(truth.xy, truth.visibility, truth.boxes, truth.area, strict=True):
        if area < 40:
            continue
        labelled = visibility > 0
        flat = np.concatenate([np.where(labelled[:, None], xy.round(2), 0), visibility[:, None]], axis=1)
        records.append(
            {
                "id": before + len(records) + 1,
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": float(area),
                "keypoints": flat.ravel().tolist(),
                "num_keypoints": int(labelled.sum()),
            }
        )
    return records
