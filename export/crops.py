"""Pictures on which artefacts are compared and calibrated: synthetic ones, a folder's, or annotated persons'."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, letterbox_matrix, warp
from autopose.errors import DataError

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def synthetic_crops(count: int, size_wh: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Return ``(count, h, w, 3)`` uint8 BGR pictures of drawn figures on textured ground, fixed by the seed."""
    rng = np.random.default_rng(seed)
    return np.stack([_figure(rng, size_wh) for _ in range(count)])


def _figure(rng: np.random.Generator, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    width, height = size_wh
    coarse = rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC), np.uint8)
    scale = np.array([width, height])
    skin, shirt, trousers = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(3))
    thick = max(2, int(rng.uniform(0.05, 0.09) * width))

    def point(x: float, y: float) -> tuple[int, int]:
        jitter = rng.normal(0, 0.04, 2)
        px, py = (np.array([x, y]) + jitter) * scale
        return int(px), int(py)

    head, neck, hip = point(0.5, 0.15), point(0.5, 0.28), point(0.5, 0.55)
    cv2.line(image, neck, hip, shirt, 3 * thick)
    for side in (-1, 1):
        elbow, wrist = point(0.5 + 0.22 * side, 0.4), point(0.5 + 0.25 * side, 0.54)
        knee, ankle = point(0.5 + 0.1 * side, 0.74), point(0.5 + 0.11 * side, 0.93)
        cv2.line(image, neck, elbow, shirt, thick)
        cv2.line(image, elbow, wrist, skin, thick)
        cv2.line(image, hip, knee, trousers, thick + 2)
        cv2.line(image, knee, ankle, trousers, thick)
    cv2.circle(image, head, int(0.11 * width), skin, -1)
    noisy = cv2.GaussianBlur(image, (3, 3), 0) + rng.normal(0, 6, image.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def crops_from_folder(folder: Path, size_wh: tuple[int, int], limit: int, *, letterbox: bool) -> NDArray[np.uint8]:
    """Return up to ``limit`` pictures of a folder (and those below it) as network inputs ``(n, h, w, 3)`` uint8 BGR.

    Args:
        folder: of images.
        size_wh: input size.
        limit: pictures at most, spread over the folder's sorted list.
        letterbox: fit the whole image into the top left, as for detectors; else crop it centred, as one person.

    Raises:
        DataError: there is no readable image.
    """
    if not folder.is_dir():
        raise DataError(f"No folder {str(folder)!r}. Give a folder of images like those that the model will see.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(limit, len(paths))).astype(int)] if paths else []
    images = [image for path in chosen if (image := cv2.imread(str(path), cv2.IMREAD_COLOR)) is not None]
    if not images:
        raise DataError(f"{folder}: holds no image that can be read ({', '.join(sorted(SUFFIXES))}).")
    return np.stack([_as_input(np.asarray(image, np.uint8), size_wh, letterbox) for image in images])


def _as_input(image: NDArray[np.uint8], size_wh: tuple[int, int], letterbox: bool) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if letterbox:
        return warp(image, letterbox_matrix((width, height), size_wh), size_wh)
    center, region = center_scale_from_box(np.array([0, 0, width, height]), size_wh[0] / size_wh[1], padding=1.0)
    return warp(image, crop_matrix(center, region, size_wh), size_wh)


def crops_from_annotations(
    annotations: Path, size_wh: tuple[int, int], limit: int, *, images: Path | None = None
) -> NDArray[np.uint8]:
    """Return the crops ``(n, h, w, 3)`` of annotated persons, as the evaluation makes them.

    Args:
        annotations: COCO keypoint file.
        size_wh: input size.
        limit: persons at most, spread over the file.
        images: folder that ``file_name`` is relative to.
    """
    from autopose.data.coco import load_coco
    from autopose.data.pose_dataset import PoseDataset
    from autopose.heatmap import Codec

    persons = load_coco(annotations, images=images)
    if not persons:
        raise DataError(f"{annotations}: holds no person with keypoints.")
    chosen = [persons[i] for i in np.linspace(0, len(persons) - 1, min(limit, len(persons))).astype(int)]
    dataset = PoseDataset(chosen, Codec(input_size_wh=size_wh))
    rng = np.random.default_rng(0)
    return np.stack([dataset.sample(index, rng).crop for index in range(len(chosen))])
