"""Pictures on which artefacts are compared and calibrated: synthetic ones, a folder's, or annotated persons'."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, letterbox_matrix, warp
from autopose.data.synthetic import random_picture
from autopose.errors import DataError
from autopose.manifest import Manifest

#: Images at most for calibration and for the parity gate; synthetic ones for the gate.
CALIBRATION_IMAGES = 32
CHECK_IMAGES = 64
SYNTHETIC_CHECK = 16
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def synthetic_inputs(count: int, manifest: Manifest, seed: int = 0) -> NDArray[np.uint8]:
    """Return ``(count, h, w, 3)`` uint8 BGR inputs of drawn figures for a model: crops, or letterboxed pictures."""
    size_wh = manifest.codec.input_size_wh
    return synthetic_crops(count, size_wh, seed) if manifest.task == "pose" else synthetic_scenes(count, size_wh, seed)


def synthetic_crops(count: int, size_wh: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Return ``(count, h, w, 3)`` uint8 BGR crops of drawn figures, fixed by the seed."""
    rng = np.random.default_rng(seed)
    crops: list[NDArray[np.uint8]] = []
    while len(crops) < count:
        picture, truth = random_picture((2 * size_wh[0], 2 * size_wh[1]), (1, 2), rng)
        for box, area in zip(truth.boxes, truth.area, strict=True):
            if area > 0 and len(crops) < count:
                center, region = center_scale_from_box(box, size_wh[0] / size_wh[1])
                crops.append(warp(picture, crop_matrix(center, region, size_wh), size_wh))
    return np.stack(crops)


def synthetic_scenes(count: int, size_wh: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Return ``(count, h, w, 3)`` uint8 BGR pictures of a few drawn figures, fixed by the seed."""
    rng = np.random.default_rng(seed)
    return np.stack([random_picture(size_wh, (1, 4), rng)[0] for _ in range(count)])


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


def check_images(
    check: Path | None, manifest: Manifest, *, images: Path | None = None
) -> tuple[NDArray[np.uint8], str]:  # fmt: skip
    """Return the inputs of the parity gate ``(N, H, W, 3)`` uint8 BGR, and what they are in words.

    Args:
        check: COCO keypoint annotations, a folder of images, or None for synthetic figures.
        manifest: of the model.
        images: folder of the annotations' images.

    Raises:
        DataError: nothing usable there.
    """
    size_wh, letterbox = manifest.codec.input_size_wh, manifest.task == "detector"
    if check is None:
        return synthetic_inputs(SYNTHETIC_CHECK, manifest), f"{SYNTHETIC_CHECK} synthetic pictures"
    if check.is_dir() or not check.exists():
        found = crops_from_folder(check, size_wh, CHECK_IMAGES, letterbox=letterbox)
    elif letterbox:
        raise DataError(f"--check {check}: a detector is checked on a folder of images.")
    else:
        found = crops_from_annotations(check, size_wh, CHECK_IMAGES, images=images)
    return found, f"{len(found)} pictures of {check}"


def calibration_images(folder: Path | None, manifest: Manifest) -> NDArray[np.uint8]:
    """Return the inputs ``(N, H, W, 3)`` uint8 BGR on which ranges are taken.

    Args:
        folder: of images, or COCO annotations whose persons are cropped; None: synthetic figures.
        manifest: of the model.
    """
    if folder is None:
        return synthetic_inputs(CALIBRATION_IMAGES, manifest, seed=1)
    size_wh, letterbox = manifest.codec.input_size_wh, manifest.task == "detector"
    if folder.is_file() and not letterbox:
        return crops_from_annotations(folder, size_wh, CALIBRATION_IMAGES)
    return crops_from_folder(folder, size_wh, CALIBRATION_IMAGES, letterbox=letterbox)
