"""Pictures on which artefacts are compared and calibrated: synthetic ones, a folder's, or annotated persons'."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, letterbox_matrix, warp
from autopose.console import counted
from autopose.data.synthetic import random_picture
from autopose.errors import DataError, MediaError
from autopose.image_files import IMAGE_SUFFIXES, read_image
from autopose.manifest import Manifest
from autopose.skeleton import COCO17, Skeleton

#: Images at most for calibration and for the parity gate; synthetic ones for the gate.
CALIBRATION_IMAGES = 32
CHECK_IMAGES = 64
SYNTHETIC_CHECK = 16
T = TypeVar("T")


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


def spread(items: Sequence[T], limit: int, *, rest_of: int = 0) -> list[T]:
    """Return up to ``limit`` items, evenly spread; none of those that ``spread(items, rest_of)`` returns."""
    taken = set(_places(len(items), rest_of))
    left = [item for place, item in enumerate(items) if place not in taken]
    return [left[place] for place in _places(len(left), limit)]


def _places(total: int, limit: int) -> list[int]:
    count = min(limit, total)
    return [int(place) for place in np.linspace(0, total - 1, count)] if count else []


def crops_from_folder(
    folder: Path, size_wh: tuple[int, int], limit: int, *, letterbox: bool, rest_of: int = 0
) -> NDArray[np.uint8]:
    """Return up to ``limit`` pictures of a folder (and those below it) as network inputs ``(n, h, w, 3)`` uint8 BGR.

    Args:
        folder: of images.
        size_wh: input size.
        limit: pictures at most, spread over the folder's sorted list.
        letterbox: fit the whole image into the top left, as for detectors; else crop it centred, as one person.
        rest_of: leave out the pictures that a limit of this would take.

    Raises:
        DataError: there is no readable image.
    """
    if not folder.is_dir():
        raise DataError(f"No folder {str(folder)!r}. Give a folder of images like those that the model will see.")
    paths = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES)
    images = []
    for path in spread(paths, limit, rest_of=rest_of):
        with suppress(MediaError):
            images.append(read_image(path))
    if not images:
        raise DataError(f"{folder}: holds no image that can be read ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return np.stack([_as_input(image, size_wh, letterbox) for image in images])


def _as_input(image: NDArray[np.uint8], size_wh: tuple[int, int], letterbox: bool) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if letterbox:
        return warp(image, letterbox_matrix((width, height), size_wh), size_wh)
    center, region = center_scale_from_box(np.array([0, 0, width, height]), size_wh[0] / size_wh[1], padding=1.0)
    return warp(image, crop_matrix(center, region, size_wh), size_wh)


def crops_from_annotations(
    annotations: Path,
    size_wh: tuple[int, int],
    limit: int,
    *,
    skeleton: Skeleton = COCO17,
    images: Path | None = None,
    rest_of: int = 0,
) -> NDArray[np.uint8]:
    """Return the crops ``(n, h, w, 3)`` of annotated persons, as the evaluation makes them.

    Args:
        annotations: COCO keypoint file.
        size_wh: input size.
        limit: persons at most, spread over the file.
        skeleton: of the file.
        images: folder that ``file_name`` is relative to.
        rest_of: leave out the persons that a limit of this would take.

    Raises:
        DataError: there is no such person.
    """
    from autopose.data.coco import load_coco
    from autopose.data.pose_dataset import PoseDataset
    from autopose.heatmap import Codec

    persons = load_coco(annotations, images=images, skeleton=skeleton)
    chosen = spread(persons, limit, rest_of=rest_of)
    if not chosen:
        raise DataError(f"{annotations}: holds no person with keypoints.")
    dataset = PoseDataset(chosen, Codec(input_size_wh=size_wh))
    rng = np.random.default_rng(0)
    return np.stack([dataset.sample(index, rng).crop for index in range(len(chosen))])


def refuse_missing(option: str, source: Path | None) -> None:
    """Refuse pictures that are not there.

    Raises:
        DataError: it names nothing that exists.
    """
    if source is not None and not source.exists():
        raise DataError(f"{option} {source}: no such folder or annotation file.")


def check_images(
    check: Path | None, manifest: Manifest, *, images: Path | None = None, calibration: Path | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Return the inputs of the parity gate ``(N, H, W, 3)`` uint8 BGR, and what they are in words.

    Args:
        check: COCO keypoint annotations, a folder of images, or None for those of ``calibration`` on which no ranges
            were taken; without these, or with fewer than ``SYNTHETIC_CHECK``, synthetic figures.
        manifest: of the model.
        images: folder of the annotations' images, of either.
        calibration: as given to :func:`calibration_images`.

    Raises:
        DataError: nothing usable there.
    """
    letterbox = manifest.task == "detector"
    if check is None:
        rest = _not_calibrated_on(calibration, manifest, images)
        if len(rest) >= SYNTHETIC_CHECK:
            return rest, f"{counted(len(rest), 'picture')} of {calibration} that were not calibrated on"
        return synthetic_inputs(SYNTHETIC_CHECK, manifest), f"{SYNTHETIC_CHECK} synthetic pictures"
    if check.is_file() and letterbox:
        raise DataError(f"--check {check}: a detector is checked on a folder of images.")
    found = _inputs(check, manifest, CHECK_IMAGES, images=images)
    return found, f"{counted(len(found), 'picture')} of {check}"


def calibration_images(folder: Path | None, manifest: Manifest, *, images: Path | None = None) -> NDArray[np.uint8]:
    """Return the inputs ``(N, H, W, 3)`` uint8 BGR on which ranges are taken.

    Args:
        folder: of images, or COCO annotations whose persons are cropped; None: synthetic figures.
        manifest: of the model.
        images: folder of the annotations' images.
    """
    if folder is None:
        return synthetic_inputs(CALIBRATION_IMAGES, manifest, seed=1)
    return _inputs(folder, manifest, CALIBRATION_IMAGES, images=images)


def _not_calibrated_on(calibration: Path | None, manifest: Manifest, images: Path | None) -> NDArray[np.uint8]:
    """Return inputs of the same source that :func:`calibration_images` leaves; empty where it leaves none."""
    nothing = np.zeros((0, 0, 0, 3), np.uint8)
    if calibration is None:
        return nothing
    refuse_missing("--calibration", calibration)
    try:
        return _inputs(calibration, manifest, CHECK_IMAGES, images=images, rest_of=CALIBRATION_IMAGES)
    except DataError:  # none is left, or calibration_images says what is wrong with them
        return nothing


def _inputs(
    source: Path, manifest: Manifest, limit: int, *, images: Path | None = None, rest_of: int = 0
) -> NDArray[np.uint8]:
    """Return inputs of a model from a folder of images or, for pose models, from annotated persons."""
    size_wh, letterbox = manifest.codec.input_size_wh, manifest.task == "detector"
    if source.is_file() and not letterbox:
        skeleton = manifest.keypoint_skeleton
        return crops_from_annotations(source, size_wh, limit, skeleton=skeleton, images=images, rest_of=rest_of)
    return crops_from_folder(source, size_wh, limit, letterbox=letterbox, rest_of=rest_of)
