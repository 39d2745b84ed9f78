"""COCO figures of keypoint and box results, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autopose.console import waiting
from autopose.data.categories import other_categories, person_category, person_numbers
from autopose.data.coco import BOX_SHARE, MIN_CONFIDENCE
from autopose.data.coco_file import box_numbers, box_score, need_id, number_fault, read_json
from autopose.data.posetrack import ignored_regions, is_annotated
from autopose.data.scenes import MIN_SCORE
from autopose.errors import DataError, require
from autopose.skeleton import COCO17, Skeleton

#: Order of pycocotools' ``stats`` for keypoints.
KEYPOINT_FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
#: Order of pycocotools' ``stats`` for boxes.
BOX_FIGURES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")
#: How often an interval draws the images anew.
DRAWS = 200
#: Share of the draws' APs that it holds.
LEVEL = 0.95
#: Results whose comparison takes most of a minute, or, drawn anew, several.
_MANY = 50_000

Results = Sequence[Mapping[str, Any]]


def evaluate_keypoints(
    results: Results, annotations: Path, *, skeleton: Skeleton = COCO17, draws: int = 0
) -> dict[str, float]:
    """Return the ten keypoint figures (AP, AP50, ... ARL), 0 to 1; -1 where no annotation is of that size.

    Args:
        results: COCO keypoint results; may be empty.
        annotations: COCO JSON with the ground truth; annotations without joints are ignored, crowds likewise, and
            images that say ``is_labeled: false``, with their results, are left out. A joint of a teacher's confidence
            below 0.3 is not labelled, as in training.
        skeleton: whose joints and OKS constants.
        draws: how often to draw the images anew, with replacement, for AP_low and AP_high, between which 95 % of the
            APs lie; 0: not at all.

    Raises:
        DataError: the annotation file or the results cannot be used.
        MissingDependencyError: pycocotools is not installed.
    """
    evaluation = _evaluated(results, annotations, "keypoints", skeleton)
    return _figures(evaluation, KEYPOINT_FIGURES, annotations, draws)


def mean_oks(results: Results, annotations: Path, *, skeleton: Skeleton = COCO17) -> float:
    """Return the OKS of each labelled person's best result in its image, 0 without one, averaged over persons.

    Unlike AP it has no thresholds, so that it tells poor predictions apart.

    Raises:
        DataError: the annotation file or the results cannot be used, or nobody is labelled.
    """
    evaluation = _evaluated(results, annotations, "keypoints", skeleton)
    best: list[float] = []
    for image in evaluation.params.imgIds:
        persons = evaluation._gts[image, 1]
        if not persons:
            continue
        similarity = np.asarray(evaluation.ious[image, 1]).reshape(-1, len(persons))
        best += [
            float(similarity[:, number].max()) if len(similarity) else 0.0
            for number, person in enumerate(persons)
            if not person["ignore"]
        ]
    if not best:
        raise DataError(f"{annotations}: nobody has a labelled joint, so there is no OKS.")
    return float(np.mean(best))


def evaluate_boxes(
    results: Results, annotations: Path, *, complete_only: bool = False, draws: int = 0
) -> dict[str, float]:
    """Return pycocotools' twelve box figures (AP, AP50, ... ARL), 0 to 1; -1 where no annotation is of that size.

    PoseTrack's frames that nobody annotated are left out, as by :func:`evaluate_keypoints`, and the regions that it
    names as such are crowds.

    Args:
        results: COCO box results; may be empty.
        annotations: COCO JSON with the ground truth; a teacher's box of a score below 0.3 counts neither for nor
            against a result, like a crowd, as in training.
        complete_only: only images that say ``complete: true`` (every person is annotated).
        draws: as in :func:`evaluate_keypoints`.

    Raises:
        DataError: the annotation file or the results cannot be used, or no image is complete.
        MissingDependencyError: pycocotools is not installed.
    """
    evaluation = _evaluated(results, annotations, "bbox", COCO17, complete_only)
    return _figures(evaluation, BOX_FIGURES, annotations, draws)


def _interval(evaluation: Any, annotations: Path, draws: int) -> tuple[float, float]:
    """Return percentiles of AP over evaluations of images drawn with replacement.

    Each image is matched once; only the accumulation is repeated. The evaluation's own figures are no longer to be had
    after it.
    """
    ids = list(evaluation.params.imgIds)
    matches = np.empty(len(ids), object)
    matches[:] = evaluation.evalImgs[: len(ids)]  # one category; the first size is all of them, others follow
    for settings in (evaluation.params, evaluation._paramsEval):  # AP is of all sizes and the most results per image
        settings.areaRng, settings.maxDets = settings.areaRng[:1], settings.maxDets[-1:]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        drawn = rng.integers(len(ids), size=len(ids))
        evaluation._paramsEval.imgIds = evaluation.params.imgIds = [ids[i] for i in drawn]
        evaluation.evalImgs = matches[drawn].tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, 0, 0, 0]
        if (precision > -1).any():
            values.append(float(precision[precision > -1].mean()))
    if not values:
        raise DataError(f"{annotations}: no annotation counts, so AP has no interval.")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _evaluated(
    results: Results,
    annotations: Path,
    kind: Literal["keypoints", "bbox"],
    skeleton: Skeleton,
    complete_only: bool = False,
) -> Any:
    require("pycocotools", extra="train", why="Evaluation")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = _ground_truth(Path(annotations), kind, 3 * len(skeleton))
    images = [image for image in content["images"] if is_annotated(image)]
    if not images:
        raise DataError(f"{annotations}: all images say 'is_labeled: false'; expected some that were annotated.")
    ids = sorted(image["id"] for image in images if not complete_only or image.get("complete") is True)
    if not ids:
        raise DataError(f"{annotations}: no image says 'complete: true'; leave out --complete-only.")
    needed, count = ("keypoints", 3 * len(skeleton)) if kind == "keypoints" else ("bbox", 4)
    known = {image["id"] for image in content["images"]}
    for number, result in enumerate(results):
        for key in ("image_id", "score", needed):
            if key not in result:
                raise DataError(f"results[{number}]: the key {key!r} is missing; expected COCO {kind} results.")
        for key, value, wanted in (("score", [result["score"]], 1), (needed, result[needed], count)):
            if fault := number_fault(value, wanted):
                raise DataError(f"results[{number}]: {key!r} {fault}.")
        if not isinstance(result["image_id"], int | str) or result["image_id"] not in known:
            raise DataError(
                f"results[{number}]: image_id {result['image_id']} is not in {annotations}. Are they of another set?"
            )
    # The results' other keys would change how pycocotools reads them. Other categories than persons are not scored.
    persons = person_numbers(results, content["info"]["person_category"], content["info"]["other_categories"])
    plain = [
        {"image_id": r["image_id"], "category_id": 1, "score": r["score"], needed: r[needed]}
        for r in results
        if r.get("category_id", 1) in persons
    ]
    if len(plain) >= _MANY:
        waiting(f"Comparing {len(plain):,} results with {annotations} ...")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        found = truth.loadRes(plain) if plain else COCO()
        evaluation = COCOeval(truth, found, kind)
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.params.imgIds = ids
        evaluation.params.catIds = [1]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _figures(evaluation: Any, names: Sequence[str], annotations: Path, draws: int) -> dict[str, float]:
    figures = {name: float(value) for name, value in zip(names, evaluation.stats, strict=True)}
    if draws:
        if len(evaluation.cocoDt.anns) >= _MANY:
            waiting(f"Drawing the pictures anew {draws} times ...")
        figures["AP_low"], figures["AP_high"] = _interval(evaluation, annotations, draws)
    return figures


def _ground_truth(path: Path, kind: str, keypoint_numbers: int) -> dict[str, Any]:
    """Read annotations and fill in what pycocotools insists on."""
    content = read_json(path, "annotation file")
    if (
        not isinstance(content, dict)
        or not all(isinstance(content.get(k), list) for k in ("images", "annotations"))
        or not content["images"]
    ):
        raise DataError(f"{path}: not COCO annotations: expected an object with the lists 'images' and 'annotations'.")
    if any(not isinstance(image, dict) or "id" not in image for image in content["images"]):
        raise DataError(f"{path}: an image has no 'id'.")
    if not any(all(isinstance(image["id"], kind) for image in content["images"]) for kind in (int, str)):
        raise DataError(f"{path}: the ids of its images have to be all whole numbers, or all texts.")
    records = []
    category = person_category(content, path)
    for number, record in enumerate(content["annotations"], start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}: annotations[{number - 1}] is {str(record)[:40]!r}; expected an object.")
        if record.get("category_id", category) != category:
            continue
        for key in ("image_id", "bbox"):
            if key not in record:
                raise DataError(f"{path}: annotations[{number - 1}]: the key {key!r} is missing.")
        need_id(record["image_id"], f"{path}: annotations[{number - 1}]", "image_id")
        *_, width, height = box_numbers(record["bbox"], f"{path}: annotations[{number - 1}]")
        keypoints = record.get("keypoints") or [0] * keypoint_numbers
        if kind == "bbox":
            keypoints = []
        elif fault := number_fault(keypoints, keypoint_numbers):
            raise DataError(f"{path}: annotations[{number - 1}]: 'keypoints' {fault}.")
        # CrowdPose, which has no areas, takes 0.53 of the box for OKS; for boxes the area sorts by size only.
        if record.get("area") is not None and (fault := number_fault([record["area"]], 1)):
            raise DataError(f"{path}: annotations[{number - 1}]: 'area' {fault}.")
        area = record.get("area") or width * height * (BOX_SHARE if kind == "keypoints" else 1.0)
        doubtful = [2 + 3 * joint for joint, flag in enumerate(keypoints[2::3]) if 0 < flag < MIN_CONFIDENCE]
        keypoints = [0 if place in doubtful else value for place, value in enumerate(keypoints)]
        labelled = sum(1 for flag in keypoints[2::3] if flag > 0)
        unsure = kind == "bbox" and box_score(record, f"{path}: annotations[{number - 1}]") < MIN_SCORE
        records.append(
            {
                "num_keypoints": labelled,
                "ignore": 0,
                **record,
                **({"num_keypoints": labelled} if doubtful else {}),
                "iscrowd": int(bool(record.get("iscrowd")) or unsure),
                "id": number,
                "category_id": 1,
                "keypoints": keypoints,
                "area": area,
            }
        )
    if kind == "bbox":
        records += _regions(content["images"], path, len(content["annotations"]))
    return {
        "info": {"person_category": category, "other_categories": other_categories(content, path, category)},
        "images": content["images"],
        "annotations": records,
        "categories": [{"id": 1, "name": "person"}],
    }


def _regions(images: Sequence[Mapping[str, Any]], path: Path, used: int) -> list[dict[str, Any]]:
    """Return the regions in which nobody was annotated as crowds; their ids begin after those that are used."""
    corners = [
        (image["id"], box)
        for number, image in enumerate(images)
        for box in ignored_regions(image, f"{path}: images[{number}]")
    ]
    return [
        {
            "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 1, "ignore": 0, "num_keypoints": 0,
            "keypoints": [], "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
        }
        for number, (image_id, (x0, y0, x1, y1)) in enumerate(corners, start=used + 1)
    ]  # fmt: skip
