"""Write the boxes in which the detector sees a person where neither the labels nor a second detector do.

    python benchmarks/nobody_boxes.py ANNOTATIONS.json OUT.json --second YOLOX.onnx [--detector NAME]

Crops of them teach the pose network which maps to leave empty (``nobody = true`` of a source of training). A box is
written if the detector gives it ``--least-score`` or more, if it overlaps no labelled box of any score, nor any box
that the second detector gives ``--second-score``, by an IoU of 0.1, nor by a third of the smaller of both boxes.
Images without any label are left out, so that false persons can be counted on them; so are those of the tune split.
Each record has the detector's ``score``. Paths in OUT are absolute. Some persons whom nobody labelled are left: drop
the boxes in which a pose teacher is sure of its joints (teacher_labels.py ``--nobody``), and look at the rest.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.boxes import box_iou, contained
from autopose.commands.scored_models import run_detector
from autopose.data.coco_file import read_coco
from autopose.training.sources import in_tune

APART_IOU, WITHIN = 0.1, 1 / 3


def by_image(records: Iterable[Mapping[str, Any]]) -> dict[int, NDArray[np.float64]]:
    """Return the boxes' corners and scores ``(n, 5)`` of each image."""
    grouped: dict[int, list[list[float]]] = {}
    for record in records:
        x, y, width, height = record["bbox"]
        grouped.setdefault(record["image_id"], []).append([x, y, x + width, y + height, record.get("score", 1.0)])
    return {number: np.array(rows, np.float64) for number, rows in grouped.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--second", required=True, help="ONNX file of YOLOX's layout")
    parser.add_argument("--second-score", type=float, default=0.05)
    parser.add_argument("--least-score", type=float, default=0.1)
    parser.add_argument("--detector", default="default")
    parser.add_argument("--share", type=float, default=0.06, help="data.tune_share")
    options = parser.parse_args()
    file = read_coco(options.annotations)
    labels = by_image(file.annotations)
    first, second = (
        by_image(run_detector(name, options.annotations, device="cpu", threads=1, min_score=least))
        for name, least in ((options.detector, options.least_score), (options.second, options.second_score))
    )
    numbers = [
        number
        for number in file.images
        if number in labels and not in_tune(file.image_path(number).name, options.share)
    ]
    records: list[dict[str, Any]] = []
    nothing = np.zeros((0, 5))
    for number in numbers:
        found = first.get(number, nothing)
        others = np.concatenate([labels[number], second.get(number, nothing)])[:, :4]
        apart = box_iou(found[:, :4], others).max(-1, initial=0) < APART_IOU
        nobody = apart & (contained(found[:, :4], others).max(-1, initial=0) <= WITHIN)
        for x0, y0, x1, y1, score in found[nobody].tolist():
            box = [round(value, 1) for value in (x0, y0, x1 - x0, y1 - y0)]
            record = {"id": len(records) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            records.append({**record, "bbox": box, "area": round(box[2] * box[3], 1), "score": round(score, 3)})
    shown = {record["image_id"] for record in records}
    content = {
        "info": {"description": f"{options.annotations.name}: boxes of {options.detector} that show nobody"},
        "images": [
            {**file.images[n], "file_name": str(file.image_path(n).resolve())} for n in file.images if n in shown
        ],
        "annotations": records,
        "categories": [{"id": 1, "name": "person"}],
    }
    options.out.write_text(json.dumps(content))
    print(f"{len(records)} boxes that show nobody in {len(shown)} of {len(numbers)} images; written {options.out}")


if __name__ == "__main__":
    main()
