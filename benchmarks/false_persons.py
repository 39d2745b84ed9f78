"""True and false persons among the detections of held-out photographs, by least box score and least evidence.

    AUTOPOSE_DATA=FOLDER python benchmarks/false_persons.py [--model default] [--detector default] [--share 0.06]
        [--pictures DIR]

Photographs of ``scenes/teacher.json`` and every fourth of ``pose/stanford40.json`` that were held out of the training
of the bundled models (``--share`` is ``data.tune_share``). A detection that overlaps a labelled box of score >= 0.3 by
an IoU of 0.5 or more, one to one in falling order of scores, is true; one that overlaps no labelled box of any score by
0.3 is false; the rest counts for neither. After that come the persons found, with the runtime's own limits, in images
without any label, and the evidence above which there is one in 100 images: those held out of the training of both
models, then those that the detector was trained on (the pose network sees no image without a label). Then the same in
parts of the held-out photographs (all, not every fourth), and of those of ``pose/val.json`` in which everybody is
annotated: the largest part that no box of any score reaches into, where it has a quarter of the picture. Nothing was
trained on these, but people whom nobody labelled are in some: look at them (``--pictures DIR``). The last lines of all
give the least evidence from which at most one in 20, and one in 50, of both sets' detections is false: what the tracker
asks of several sightings, and of one. Most boxes are a teacher's, so that all figures are estimates.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose import Estimator
from autopose.boxes import box_iou
from autopose.data.coco_file import read_coco
from autopose.data.images import DiskReader
from autopose.runtime.detector import DEFAULT_THRESHOLD
from autopose.runtime.evidence import LEAST_EVIDENCE, evidence
from autopose.training.sources import in_tune

SETS = {"scenes/teacher.json": 1, "pose/stanford40.json": 4}
BOX_SCORES = (0.2, 0.25, 0.3)
EVIDENCE = (0.0, 0.25, 0.3, 0.33, 0.36, 0.38, 0.4, 0.42, 0.43, 0.44, 0.45, 0.46, 0.48, 0.5, 0.51, 0.52, 0.53, 0.55)
FALSE_SHARES = (0.05, 0.02)
LABELLED, SAME, APART = 0.3, 0.5, 0.3


def in_empty_images(estimator: Estimator, content: dict[str, Any], folder: Path, share: float) -> list[str]:
    """Return sentences on the persons found in images without any label."""
    labelled = {record["image_id"] for record in content["annotations"]}
    empty = [image["file_name"] for image in content["images"] if image["id"] not in labelled]
    lines = []
    for kind, names in (
        ("held out", [name for name in empty if in_tune(name, share)]),
        ("trained on by the detector, not by the pose network", [name for name in empty if not in_tune(name, share)]),
    ):
        if not names:
            continue
        found: list[float] = []
        for name in names:
            poses = estimator.predict(folder / name)
            found += list(evidence(poses)[poses.box_scores >= DEFAULT_THRESHOLD])
        values = np.sort(np.array(found))[::-1]
        allowed = len(names) // 100
        limit = values[allowed] if len(values) > allowed else 0.0
        lines.append(
            f"{len(names)} images that show nobody, {kind}: {(values >= LEAST_EVIDENCE).sum()} persons; "
            f"{allowed} above an evidence of {limit:.2f}"
        )
    return lines


def empty_part(width: int, height: int, boxes: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of the largest part of a picture that no box ``(N, 4)`` (x, y, w, h) reaches into."""
    x0, y0 = np.floor(boxes[:, :2]).T
    x1, y1 = np.ceil(boxes[:, :2] + boxes[:, 2:]).T
    columns, rows = (
        {0, size, *edges[(edges > 0) & (edges < size)].astype(int)}
        for size, edges in ((width, np.concatenate([x0, x1])), (height, np.concatenate([y0, y1])))
    )
    best, area = (0, 0, 0, 0), 0
    for left, right in combinations(sorted(columns), 2):
        beside = (x0 < right) & (x1 > left)
        for top, bottom in combinations(sorted(rows), 2):
            size = (right - left) * (bottom - top)
            if size > area and not (beside & (y0 < bottom) & (y1 > top)).any():
                best, area = (left, top, right, bottom), size
    return best


def in_empty_parts(
    estimator: Estimator, annotations: Path, chosen: Callable[[Mapping[str, Any]], bool], pictures: Path | None
) -> str:
    """Return a sentence on the persons found in the parts of the chosen photographs that show nobody.

    Args:
        estimator: with a least evidence of 0.
        annotations: COCO JSON.
        chosen: whether a record of an image is of the set.
        pictures: folder for drawn pictures of the parts in which somebody was found; None = none.
    """
    file = read_coco(annotations)
    boxes: dict[int, list[list[float]]] = {}
    for record in file.annotations:
        boxes.setdefault(record["image_id"], []).append(record["bbox"])
    found, parts = 0, 0
    for number, image in file.images.items():
        if number not in boxes or not chosen(image):
            continue
        left, top, right, bottom = empty_part(image["width"], image["height"], np.array(boxes[number], np.float64))
        if (right - left) * (bottom - top) < image["width"] * image["height"] / 4:
            continue
        parts += 1
        poses = estimator.predict(DiskReader().read(file.image_path(number))[top:bottom, left:right])
        kept = poses[(poses.box_scores >= DEFAULT_THRESHOLD) & (evidence(poses) >= LEAST_EVIDENCE)]
        found += len(kept)
        if pictures is not None and len(kept):
            pictures.mkdir(parents=True, exist_ok=True)
            kept.save(pictures / f"{annotations.stem}-{number}.jpg")
    return f"{parts} parts that show nobody: {found} persons"


def judged(estimator: Estimator, content: dict[str, Any], folder: Path, share: float, step: int) -> NDArray[np.float64]:
    """Return rows of box score, evidence, whether true, whether false."""
    labels: dict[int, list[tuple[list[float], float]]] = {}
    for record in content["annotations"]:
        labels.setdefault(record["image_id"], []).append((record["bbox"], record.get("score", 1.0)))
    rows: list[tuple[float, float, bool, bool]] = []
    for image in [image for image in content["images"] if in_tune(image["file_name"], share)][::step]:
        poses = estimator.predict(folder / image["file_name"])
        known = labels.get(image["id"], [])
        truth = np.array([box for box, _ in known], np.float64).reshape(-1, 4)
        truth[:, 2:] += truth[:, :2]
        overlap = np.zeros((len(poses), len(known) + 1))  # one more column: of nobody
        if len(poses) and len(known):
            overlap[:, :-1] = box_iou(poses.boxes, truth)
        usable = np.array([*(score >= LABELLED for _, score in known), False])
        for row in np.argsort(-poses.box_scores):
            column = int(overlap[row].argmax())
            true = bool(usable[column] and overlap[row, column] >= SAME)
            usable[column] &= not true
            false = bool(overlap[row].max() < APART)
            rows.append((float(poses.box_scores[row]), float(evidence(poses)[row]), true, false))
    return np.array(rows, np.float64).reshape(-1, 4)


def least_evidence_for(share: float, rows: NDArray[np.float64]) -> float:
    """Return the least evidence from which on no more than this share of the detections judged is false."""
    for limit in np.arange(0, 1, 0.01):
        true, false = rows[rows[:, 1] >= limit][:, 2:4].sum(0)
        if false <= share * (true + false):
            return float(limit)
    return 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="default")
    parser.add_argument("--share", type=float, default=0.06)
    parser.add_argument("--pictures", type=Path, help="folder for the parts in which somebody was found")
    options = parser.parse_args()
    data = os.environ.get("AUTOPOSE_DATA")
    if not data:
        parser.error("AUTOPOSE_DATA is not set; expected the folder that holds scenes/ and pose/.")
    folder = Path(data)
    every: list[NDArray[np.float64]] = []
    with Estimator(
        options.model, options.detector, detector_threshold=min(BOX_SCORES), least_evidence=0, threads=1
    ) as estimator:
        for name, step in SETS.items():
            content = json.loads((folder / name).read_bytes())
            rows = judged(estimator, content, folder, options.share, step)
            every.append(rows[rows[:, 0] >= DEFAULT_THRESHOLD])
            for least_score in BOX_SCORES:
                found = rows[rows[:, 0] >= least_score]
                print(f"{name}: box score >= {least_score}: {len(found)} detections; evidence: true, false")
                for least in EVIDENCE:
                    true, false = found[found[:, 1] >= least][:, 2:4].sum(0)
                    print(f"  {least:.2f}: {true:.0f}, {false:.0f}")
            for line in in_empty_images(estimator, content, folder, options.share):
                print(f"{name}: {line}")

        def held_out(image: Mapping[str, Any]) -> bool:
            return in_tune(image["file_name"], options.share)

        def complete(image: Mapping[str, Any]) -> bool:
            return image.get("complete") is True

        for name, chosen in (*((name, held_out) for name in SETS), ("pose/val.json", complete)):
            print(f"{name}: {in_empty_parts(estimator, folder / name, chosen, options.pictures)}")
    both = np.concatenate(every)
    for share in FALSE_SHARES:
        print(f"at most {share:.0%} false from evidence {least_evidence_for(share, both):.2f}")


if __name__ == "__main__":
    main()
