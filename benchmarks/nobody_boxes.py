"""Write the boxes in which the detector sees a person where neither the labels nor a second detector do.

    python benchmarks/nobody_boxes.py ANNOTATIONS.json OUT.json --second YOLOX.onnx [--detector NAME] [--model NAME]

Crops of them teach the pose network which maps to leave empty (``nobody = true`` of a source of training). A box is
written if the detector gives it ``--least-score`` or more, if it overlaps no labelled box of any score, nor any box
that the second detector gives ``--second-score``, by an IoU of 0.1, nor by a third of the smaller of both boxes.
Images without any label are left out, so that false persons can be counted on them; so are those of the tune split.
Each record has the detector's ``score`` and the pose network's mean joint score, ``joints``. Paths in OUT are absolute.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from autopose import Estimator
from autopose.console import progress
from autopose.data.coco_file import read_coco
from autopose.image_files import read_image
from autopose.runtime.boxes import box_iou, contained
from autopose.runtime.detector import AdjustableDetector, open_detector
from autopose.training.sources import in_tune

APART_IOU, WITHIN = 0.1, 1 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--second", required=True, help="ONNX file of YOLOX's layout")
    parser.add_argument("--second-score", type=float, default=0.05)
    parser.add_argument("--least-score", type=float, default=0.1)
    parser.add_argument("--detector", default="default")
    parser.add_argument("--model", default="default")
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
    second = open_detector(options.second, device="cpu", threads=1)
    assert isinstance(second, AdjustableDetector)
    records: list[dict[str, Any]] = []
    with (
        Estimator(
            options.model, options.detector, detector_threshold=options.least_score, least_evidence=0, threads=1
        ) as estimator,
        progress(len(numbers), "images") as bar,
    ):
        for done, number in enumerate(numbers, 1):
            image = read_image(file.image_path(number), upright=False)
            poses = estimator.predict(image)
            boxes = np.array(known[number], np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            boxes = np.concatenate([boxes, second.detect(image, options.second_score)[0]])
            apart = box_iou(poses.boxes, boxes).max(-1, initial=0) < APART_IOU
            nobody = apart & (contained(poses.boxes, boxes).max(-1, initial=0) <= WITHIN)
            for pose in poses[nobody]:
                x0, y0, x1, y1 = pose.boxes[0].astype(float)
                records.append(
                    {
                        "id": len(records) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "bbox": [round(v, 1) for v in (x0, y0, x1 - x0, y1 - y0)],
                        "area": round((x1 - x0) * (y1 - y0), 1),
                        "iscrowd": 0,
                        "score": round(float(pose.box_scores[0]), 3),
                        "joints": round(float(pose.keypoint_scores.mean()), 3),
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
