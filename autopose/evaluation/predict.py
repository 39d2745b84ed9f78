"""Run a model over a dataset: persons to COCO keypoint results, images to COCO box results.

The model is any callable on a batch of uint8 pictures, so torch networks and exported models are scored alike.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, invert, letterbox_matrix, transform, warp
from autopose.boxes import box_area, keep_best_boxes
from autopose.data.coco_file import read_coco
from autopose.data.images import DiskReader, ImageReader
from autopose.heatmap import Codec
from autopose.poses import (
    BOX_POWER,
    SAME_PERSON_IOU,
    SAME_PERSON_OKS,
    VISIBLE_SCORE,
    Person,
    person_scores,
)
from autopose.skeleton import COCO17, Skeleton

#: Crops ``(N, h, w, 3)`` uint8 BGR -> joints ``(N, K, 2)`` in crop pixels, scores ``(N, K)``.
PosePredictor = Callable[[NDArray[np.uint8]], tuple[NDArray[np.floating], NDArray[np.floating]]]
#: Letterboxed images ``(N, h, w, 3)`` uint8 BGR -> boxes ``(N, D, 4)`` xyxy in input pixels, scores ``(N, D)``.
BoxPredictor = Callable[[NDArray[np.uint8]], tuple[NDArray[np.floating], NDArray[np.floating]]]
#: Image ``(H, W, 3)`` uint8 BGR -> boxes ``(D, 4)`` xyxy in image pixels, scores ``(D,)``.
ImageDetector = Callable[[NDArray[np.uint8]], tuple[NDArray[np.floating], NDArray[np.floating]]]
#: Called with how many more persons or images are done.
Advance = Callable[[int], None]


def predict_persons(
    predict: PosePredictor,
    persons: Sequence[Person],
    codec: Codec,
    *,
    batch_size: int = 32,
    reader: ImageReader | None = None,
    advance: Advance | None = None,
    visible_score: float = VISIBLE_SCORE,
    box_power: float = BOX_POWER,
) -> list[dict[str, Any]]:
    """Return one COCO keypoint result per person, in their order.

    A result's ``score`` is that of :func:`~autopose.poses.person_scores`, and its ``area`` that of the cropped region
    (HRNet ``lib/dataset/coco.py``).

    Args:
        predict: the model.
        persons: whose boxes to crop.
        codec: the model's input size.
        batch_size: persons per call.
        reader: source of the pictures; None: the files.
        advance: called with the number of persons done, for progress.
        visible_score: joint scores above this count towards the person's; the papers say 0.2. With 0 all that are
            positive do, which ranks the poses of networks that have hardly learnt anything better.
        box_power: power of the box score in the person's; the papers say 1.

    Raises:
        MediaError: a picture is missing or cannot be decoded.
    """
    reader = reader if reader is not None else DiskReader()
    size_wh = codec.input_size_wh
    results: list[dict[str, Any]] = []
    for start in range(0, len(persons), batch_size):
        batch = persons[start : start + batch_size]
        crops = np.empty((len(batch), size_wh[1], size_wh[0], 3), np.uint8)
        matrices, areas = [], []
        for i, person in enumerate(batch):
            center, region = center_scale_from_box(person.box_xyxy, size_wh[0] / size_wh[1])
            matrices.append(crop_matrix(center, region, size_wh))
            areas.append(float(region.prod()))
            crops[i] = warp(reader.read(person.image_path), matrices[i], size_wh)
        xy_crop, scores = predict(crops)
        xy = transform(xy_crop, invert(np.stack(matrices)))
        ranks = person_scores(np.array([person.score for person in batch]), scores, visible_score, box_power)
        for person, points, joint_scores, area, rank in zip(batch, xy, scores, areas, ranks, strict=True):
            results.append(_result(person, points, joint_scores, area, float(rank)))
        if advance is not None:
            advance(len(batch))
    return results


def _result(
    person: Person, xy: NDArray[np.floating], scores: NDArray[np.floating], area: float, rank: float
) -> dict[str, Any]:
    return {
        "image_id": person.image_id,
        "category_id": 1,
        "keypoints": np.concatenate([xy, scores[:, None]], axis=1).ravel().astype(float).tolist(),
        "score": rank,
        "area": area,
    }


def suppress_poses(results: Sequence[dict[str, Any]], *, skeleton: Skeleton = COCO17) -> list[dict[str, Any]]:
    """Drop results that repeat a better one of the same image (OKS above ``SAME_PERSON_OKS``).

    Source: HRNet ``lib/nms/nms.py``, ``oks_nms``: all joints count, the area is the mean of both.
    """
    variance = (2 * np.array(skeleton.sigmas)) ** 2
    by_image: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    kept: list[dict[str, Any]] = []
    for group in by_image.values():
        group.sort(key=lambda result: -float(result["score"]))
        xy = np.array([result["keypoints"] for result in group]).reshape(len(group), -1, 3)[..., :2]
        area = np.array([result["area"] for result in group])
        distance = ((xy[:, None] - xy[None]) ** 2).sum(-1)
        mean_area = (area[:, None] + area[None]) / 2 + np.spacing(1)
        oks = np.exp(-distance / (2 * variance * mean_area[..., None])).mean(-1)
        alive: list[int] = []
        for i in range(len(group)):
            if not (oks[i, alive] > SAME_PERSON_OKS).any():
                alive.append(i)
        kept.extend(group[i] for i in alive)
    return kept


def predict_boxes(
    detect: BoxPredictor,
    annotations: Path,
    input_size_wh: tuple[int, int],
    *,
    images: Path | None = None,
    batch_size: int = 8,
    min_score: float = 0.01,
    reader: ImageReader | None = None,
    advance: Advance | None = None,
) -> list[dict[str, Any]]:
    """Return COCO box results of all images of an annotation file, each person once, as the runtime does.

    Args:
        detect: the detector.
        annotations: COCO JSON that lists the images.
        input_size_wh: the detector's input.
        images: folder of the images, see :func:`autopose.data.coco_file.read_coco`.
        batch_size: images per call.
        min_score: boxes below are left out.
        reader: source of the pictures, which then need not be there as files; None: the files.
        advance: called with the number of images done, for progress.

    Raises:
        DataError: the annotation file cannot be used.
        MediaError: a picture is missing or cannot be decoded.
    """
    file = read_coco(annotations, images=images, look=reader is None)
    reader = reader if reader is not None else DiskReader()
    ids = list(file.images)
    results: list[dict[str, Any]] = []
    for start in range(0, len(ids), batch_size):
        batch = ids[start : start + batch_size]
        inputs = np.empty((len(batch), input_size_wh[1], input_size_wh[0], 3), np.uint8)
        sizes, scales = [], []
        for i, image_id in enumerate(batch):
            image = reader.read(file.image_path(image_id))
            matrix = letterbox_matrix((image.shape[1], image.shape[0]), input_size_wh)
            inputs[i] = warp(image, matrix, input_size_wh)
            sizes.append((image.shape[1], image.shape[0]))
            scales.append(matrix[0, 0])
        boxes, scores = detect(inputs)
        for i, image_id in enumerate(batch):
            # Boxes are pixel edges; the letterbox starts at the top left edge, so scaling is the whole map.
            limit = np.array([*sizes[i], *sizes[i]], np.float64)
            xyxy = np.clip(boxes[i] / scales[i], 0, limit)
            kept = np.flatnonzero((scores[i] >= min_score) & (box_area(xyxy) > 0))
            kept = kept[keep_best_boxes(xyxy[kept], scores[i][kept], SAME_PERSON_IOU)]
            results += box_results(image_id, xyxy[kept], scores[i][kept])
        if advance is not None:
            advance(len(batch))
    return results


def detect_images(
    detector: ImageDetector,
    annotations: Path,
    *,
    images: Path | None = None,
    advance: Advance | None = None,
) -> list[dict[str, Any]]:
    """Return COCO box results of a detector that takes one image of any size, such as the runtime's.

    Raises:
        DataError: the annotation file cannot be used.
        MediaError: a picture is missing or cannot be decoded.
    """
    reader, file = DiskReader(), read_coco(annotations, images=images)
    results: list[dict[str, Any]] = []
    for image_id in file.images:
        boxes, scores = detector(reader.read(file.image_path(image_id)))
        results += box_results(image_id, boxes, scores)
        if advance is not None:
            advance(1)
    return results


def box_results(image_id: int, boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> list[dict[str, Any]]:
    """Return one image's boxes xyxy ``(D, 4)`` as COCO box results."""
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
            "score": float(score),
        }
        for (x0, y0, x1, y1), score in zip(boxes, scores, strict=True)
    ]
