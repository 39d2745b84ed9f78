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
from pathlib import Path
from typing import Any

import numpy as np

from autopose.console import progress
from autopose.data.coco_file import read_coco
from autopose.image_files import read_image
from autopose.runtime.boxes import box_iou, contained
from autopose.runtime.detector import AdjustableDetector, open_detector
from autopose.training.sources import in_tune

APART_IOU, WITHIN = 0.1, 1 / 3


def opened_detector(name: str) -> AdjustableDetector:
    detector = open_detector(name, device="cpu", threads=1)
    assert isinstance(detector, AdjustableDetector)
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--second", required=True, help="ONNX file of YOLOX's layout")
    parser.add_argument("--second-score", type=float, default=0.05)
    parser.add_argument("--least-score", type=float, default=0.1)
    parser.add_argument("--detector", default="default")
    parser.add_argument("--contains", default="", help="only images whose path contains this text")
    parser.add_argument("--share", type=float, default=0.06, help="data.tune_share")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="only each Nth image")
    options = parser.parse_args()
    file = read_coco(options.annotations)
    known: dict[int, list[list[float]]] = {}
    for record in file.annotations:
        known.setdefault(record["image_id"], []).append(record["bbox"])
    numbers = [
        number
        for number in file.images
        if number in known
        and options.contains in str(file.image_path(number))
        and not in_tune(file.image_path(number).name, options.share)
    ][options.part[0] :: options.part[1]]
    first, second = (opened_detector(name) for name in (options.detector, options.second))
    records: list[dict[str, Any]] = []
    with progress(len(numbers), "images") as bar:
        for done, number in enumerate(numbers, 1):
            image = read_image(file.image_path(number), upright=False)
            labelled = np.array(known[number], np.float64).reshape(-1, 4)
            labelled[:, 2:] += labelled[:, :2]
            others = np.concatenate([labelled, second.detect(image, options.second_score)[0]])
            found, scores = first.detect(image, options.least_score)
            apart = box_iou(found, others).max(-1, initial=0) < APART_IOU
            nobody = apart & (contained(found, others).max(-1, initial=0) <= WITHIN)
            for (x0, y0, x1, y1), score in zip(found[nobody].tolist(), scores[nobody].tolist(), strict=True):
                records.append(
                    {
                        "id": len(records) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [round(v, 1) for v in (x0, y0, x1 - x0, y1 - y0)],
                        "area": round((x1 - x0) * (y1 - y0), 1),
                        "iscrowd": 0,
                        "score": round(score, 3),
                    }
                )
            bar(done)
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
