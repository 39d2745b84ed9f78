"""Check a person detector beside YOLOX: box AP, keypoint AP with its boxes, recall on a video, false persons.

    AUTOPOSE_DATA=FOLDER python benchmarks/detector_check.py --yolox FILE [--detector default] [--model default]
        [--parts a b c d] [--video FILE] [--stride N] [--threshold 0.25] [--share 0.06] [--json OUT]

a  AP and AP50 of both on the images of ``pose/val.json`` that say ``complete: true``.
b  Keypoint AP of one pose model with either's boxes on these images, and the ratio.
c  Recall at IoU 0.5, one to one, against YOLOX's boxes of score >= 0.5 and height >= 60 px on a video.
d  False persons per 100 images on held-back photographs of ``scenes/teacher.json`` without a teacher's box: those in
   which the teacher found nobody at a score >= 0.15. The split is training's own (``--share`` is ``data.tune_share``);
   images of a larger share were trained on.

Parts c and d are told for several thresholds. YOLOX (any ONNX file of its layout) is not part of this project; its
boxes are no truth, so that a person whom only the other detector sees counts for nobody in c.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.boxes import box_iou
from autopose.commands.scored_models import PERSONS_PER_IMAGE, open_pose_model, run_detector
from autopose.data.coco import load_coco, persons_from_detections
from autopose.data.coco_file import read_coco
from autopose.evaluation.coco import DRAWS, evaluate_boxes, evaluate_keypoints
from autopose.evaluation.predict import predict_persons, suppress_poses
from autopose.files import write_atomic
from autopose.runtime.assignment import assign
from autopose.runtime.detector import DEFAULT_THRESHOLD, AdjustableDetector, open_detector
from autopose.runtime.video import VideoReader
from autopose.training.sources import in_tune

#: Scores from which a box counts, in parts c and d, besides ``--threshold``.
THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
REFERENCE_SCORE, REFERENCE_HEIGHT = 0.5, 60
#: Least score of the boxes given to the pose network, as ``autopose eval --boxes detector`` has it.
POSE_BOX_SCORE = 0.1

Results = list[dict[str, Any]]


def complete_images(annotations: Path, folder: Path) -> Path:
    """Write the images that say ``complete: true`` with their annotations as a file of their own and return it."""
    content = json.loads(annotations.read_bytes())
    file = read_coco(annotations)
    content["images"] = [
        {**image, "file_name": str(file.image_path(image["id"]).resolve())}
        for image in content["images"]
        if image.get("complete") is True
    ]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] in kept]
    out = folder / "complete.json"
    out.write_text(json.dumps(content))
    return out


def box_figures(found: Results, annotations: Path) -> dict[str, Any]:
    """Return AP, AP50 and the interval of AP."""
    figures = evaluate_boxes(found, annotations, draws=DRAWS)
    return {key: figures[key] for key in ("AP", "AP50", "AP_low", "AP_high")}


def best_boxes(found: Results) -> Results:
    """Return the boxes that are worth a pose: the best of each image."""
    count: Counter[int] = Counter()
    chosen: Results = []
    for result in sorted(found, key=lambda result: -float(result["score"])):
        count[result["image_id"]] += result["score"] >= POSE_BOX_SCORE
        if result["score"] >= POSE_BOX_SCORE and count[result["image_id"]] <= PERSONS_PER_IMAGE:
            chosen.append(result)
    return chosen


def keypoint_figures(model: str, boxes: dict[str, Results], annotations: Path) -> dict[str, Any]:
    """Return keypoint AP, with flip averaging, per source of boxes, and with the annotated ones."""
    file = read_coco(annotations)
    rows: dict[str, Any] = {}
    with open_pose_model(model, flip=True, device="cpu", threads=1) as opened:
        for name, found in boxes.items():
            persons = persons_from_detections(best_boxes(found), file, opened.skeleton, name)
            poses = suppress_poses(predict_persons(opened.predict, persons, opened.codec), skeleton=opened.skeleton)
            rows[name] = {"AP": evaluate_keypoints(poses, annotations)["AP"], "boxes": len(persons)}
        persons = load_coco(annotations)
        poses = predict_persons(opened.predict, persons, opened.codec)
        rows["annotated boxes"] = {"AP": evaluate_keypoints(poses, annotations)["AP"], "boxes": len(persons)}
    return rows


def recall(
    ours: AdjustableDetector, theirs: AdjustableDetector, video: Path, stride: int, thresholds: list[float]
) -> dict[str, Any]:
    """Return the share of the reference's boxes that are found, per threshold, and how many boxes were found."""
    matched: Counter[float] = Counter()
    given: Counter[float] = Counter()
    frames, references = 0, 0
    for frame in VideoReader(video, stride=stride):
        boxes, _ = theirs.detect(frame.image, REFERENCE_SCORE)
        boxes = boxes[boxes[:, 3] - boxes[:, 1] >= REFERENCE_HEIGHT]
        found, scores = ours.detect(frame.image, min(thresholds))
        frames, references = frames + 1, references + len(boxes)
        for threshold in thresholds:
            # Suppression goes by falling score, so a higher threshold gives the same boxes without the lower ones.
            overlaps = box_iou(boxes, found[scores >= threshold])
            given[threshold] += overlaps.shape[1]
            # Pairs below 0.5 cost as much as none, so that as many boxes as can be are matched above it.
            pairs = assign(np.where(overlaps >= 0.5, 1 - overlaps, 2.0))
            matched[threshold] += sum(bool(overlaps[row, column] >= 0.5) for row, column in pairs)
    rows = {f"{t:g}": {"recall": matched[t] / max(references, 1), "boxes": given[t]} for t in thresholds}
    return {"frames": frames, "reference_boxes": references, "thresholds": rows}


def empty_scenes(annotations: Path, share: float) -> list[Path]:
    """Return the held-back images without any record."""
    file = read_coco(annotations)
    shown = {record["image_id"] for record in file.annotations}
    paths = [file.image_path(number) for number in file.images if number not in shown]
    return [path for path in paths if in_tune(path.name, share)]


def false_persons(detector: AdjustableDetector, paths: list[Path], thresholds: list[float]) -> dict[str, Any]:
    """Return persons found per 100 images, per threshold, and the images with the worst."""
    found: list[tuple[float, str]] = []
    for path in paths:
        image: NDArray[np.uint8] = cv2.imread(str(path))  # type: ignore[assignment]
        found += [(float(score), path.name) for score in detector.detect(image, min(thresholds))[1]]
    rows = {
        f"{t:g}": {
            "persons": sum(score >= t for score, _ in found),
            "per_100": 100 * sum(score >= t for score, _ in found) / max(len(paths), 1),
        }
        for t in thresholds
    }
    worst = [{"score": round(score, 3), "image": name} for score, name in sorted(found, reverse=True)[:8]]
    return {"images": len(paths), "thresholds": rows, "worst": worst}


def opened_detector(name: str) -> AdjustableDetector:
    """Open a detector whose threshold can be chosen."""
    detector = open_detector(name, device="cpu", threads=1)
    assert isinstance(detector, AdjustableDetector)
    return detector


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="default", help="bundled name or exported file")
    parser.add_argument("--yolox", required=True, help="ONNX file of YOLOX's layout")
    parser.add_argument("--model", default="default", help="pose model of part b")
    parser.add_argument("--data", type=Path, default=os.environ.get("AUTOPOSE_DATA"), help="else AUTOPOSE_DATA")
    parser.add_argument("--parts", nargs="+", choices=list("abcd"), default=list("abcd"))
    parser.add_argument("--video", type=Path, help="of part c; video/vtest.avi of the data if not given")
    parser.add_argument("--stride", type=int, default=1, help="take every n-th frame in part c")
    parser.add_argument(
        "--threshold", type=float, default=DEFAULT_THRESHOLD, help="the one that is asked of in parts c and d"
    )
    parser.add_argument("--share", type=float, default=0.06, help="of the scenes, held back")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.data is None:
        parser.error("set AUTOPOSE_DATA or give --data")
    names = {options.detector: "ours", options.yolox: "yolox"}
    thresholds = sorted({*THRESHOLDS, options.threshold})
    report: dict[str, Any] = {"detector": options.detector, "model": options.model, "yolox": Path(options.yolox).name}
    if {"a", "b"} & set(options.parts):
        with tempfile.TemporaryDirectory() as folder:
            annotations = complete_images(options.data / "pose/val.json", Path(folder))
            images = len(read_coco(annotations).images)
            found = {
                short: run_detector(name, annotations, device="cpu", threads=1, min_score=0.01)
                for name, short in names.items()
            }
            if "a" in options.parts:
                report["a"] = {short: box_figures(results, annotations) for short, results in found.items()}
                print(f"a  boxes, {images} complete images of pose/val.json")
                for short, row in report["a"].items():
                    interval = f"(AP 95 % interval {row['AP_low']:.3f} to {row['AP_high']:.3f})"
                    print(f"   {short:8} AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}  {interval}")
            if "b" in options.parts:
                rows = keypoint_figures(options.model, found, annotations)
                ratio = rows["ours"]["AP"] / rows["yolox"]["AP"]
                report["b"] = {**rows, "ratio": ratio}
                print(f"b  keypoints by {options.model!r} with flip, {images} complete images, boxes of")
                for short, row in rows.items():
                    print(f"   {short:16} AP {row['AP']:.3f}  ({row['boxes']} boxes)")
                print(f"   AP with our boxes is {ratio:.3f} x that with YOLOX's")
    ours = opened_detector(options.detector)
    if "c" in options.parts:
        video = options.video or options.data / "video/vtest.avi"
        report["c"] = recall(ours, opened_detector(options.yolox), video, options.stride, thresholds)
        frames, references = report["c"]["frames"], report["c"]["reference_boxes"]
        print(f"c  recall on {video.name}, {frames} frames (stride {options.stride}), {references} boxes of YOLOX")
        for threshold, row in report["c"]["thresholds"].items():
            mark = "*" if float(threshold) == options.threshold else " "
            print(f"  {mark}score >= {threshold:5} recall {row['recall']:.3f}  ({row['boxes']} boxes found)")
    if "d" in options.parts:
        paths = empty_scenes(options.data / "scenes/teacher.json", options.share)
        report["d"] = {"share": options.share, **false_persons(ours, paths, thresholds)}
        print(f"d  false persons, {len(paths)} scenes without a teacher's box (share {options.share:g})")
        for threshold, row in report["d"]["thresholds"].items():
            mark = "*" if float(threshold) == options.threshold else " "
            print(f"  {mark}score >= {threshold:5} {row['persons']:4} persons, {row['per_100']:.1f} per 100 images")
        print(f"   worst: {', '.join('{image} {score}'.format(**row) for row in report['d']['worst'])}")
    if options.json:
        write_atomic(options.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
