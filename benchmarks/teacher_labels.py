"""Label the joints that nobody labelled with a MoveNet teacher, weighted by how often it is right.

Usage: python benchmarks/teacher_labels.py TEACHER.onnx ANNOTATIONS.json OUT.json [--without-joints | --check]
                                                [--relabel | --refine] [--contains TEXT] [--nobody CERTAINTY]

The teacher sees each person six times: narrower and wider crops, turned ones, mirrored ones (``VIEWS``). A joint lies
at the geometric median of the six, each weighted by the square of its score, so that a view that is wrong altogether
does not move it; its certainty is the mean score times the share of the views (by the same weights) that lie within 5 %
of the box's longer side of it.

Joints that an annotation has are kept as they are; a joint without a label gets the teacher's, and as third value,
which becomes the joint's loss weight, the square of the similarity to COCO's annotators that this certainty has on
average (``SIMILARITY``; nothing below ``--min-certainty``). Image paths in OUT are absolute. ``--refine`` also moves
labelled joints onto the teacher's where both agree (for labels that scatter more than the teacher does) and halves the
weight of those on which they disagree. ``--relabel`` forgets the labels that there are. ``--nobody`` labels nothing: of
boxes that are to show nobody (nobody_boxes.py) it drops those in which the teacher is this certain of its joints in the
mean. ``--check`` writes nothing and prints the teacher's own AP on the annotations instead.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, invert, transform, warp
from autopose.console import progress
from autopose.data.coco_file import CocoFile, read_coco
from autopose.data.images import DiskReader
from autopose.evaluation.coco import evaluate_keypoints
from autopose.runtime.ort_session import open_ort
from autopose.skeleton import COCO17

#: How a person is shown to the teacher: the region's side relative to the box's longer one, degrees, mirrored or not.
VIEWS = (
    (1.0, 0.0, False),
    (1.0, 0.0, True),
    (1.35, 0.0, False),
    (1.35, 0.0, True),
    (1.15, -15.0, True),
    (1.15, 15.0, False),
)

#: Certainty of a joint, and the mean similarity (OKS of the joint alone) of MoveNet Thunder's to the annotators' of the
#: 2,910 joints of the COCO train2017 subset.
SIMILARITY = np.array(
    [
        [0.025, 0.16],
        [0.075, 0.22],
        [0.15, 0.4],
        [0.25, 0.55],
        [0.35, 0.65],
        [0.45, 0.74],
        [0.55, 0.82],
        [0.65, 0.9],
        [0.8, 0.94],
    ]
)


class Teacher:
    """MoveNet single pose: int32 RGB ``(1, S, S, 3)`` to ``(1, 1, 17, 3)`` y, x, score relative to the crop."""

    def __init__(self, model: Path) -> None:
        self.session: Any = open_ort(model, device="cpu", threads=1)
        self.input = self.session.get_inputs()[0]
        self.size = int(self.input.shape[1])

    def crop(self, crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return ``(17, 3)`` x, y in crop pixels and the score of an RGB crop."""
        out = self.session.run(None, {self.input.name: crop[None].astype(np.int32)})[0].reshape(17, 3)
        return np.stack([out[:, 1] * self.size - 0.5, out[:, 0] * self.size - 0.5, out[:, 2]], -1).astype(np.float64)

    def views(self, image: NDArray[np.uint8], bbox: list[float]) -> NDArray[np.float64]:
        """Return ``(6, 17, 3)`` x, y in image pixels and the score, in each of :data:`VIEWS`."""
        x, y, w, h = bbox
        center, region = center_scale_from_box(np.array([x, y, x + w, y + h]), 1.0, padding=1.0)
        seen = []
        for side, degrees, mirrored in VIEWS:
            matrix = crop_matrix(center, region * side, (self.size, self.size), degrees)
            crop = np.ascontiguousarray(warp(image, matrix, (self.size, self.size))[..., ::-1])
            if mirrored:
                found = self.crop(np.ascontiguousarray(crop[:, ::-1]))[COCO17.flip_order]
                found[:, 0] = self.size - 1 - found[:, 0]
            else:
                found = self.crop(crop)
            seen.append(np.concatenate([transform(found[:, :2], invert(matrix)), found[:, 2:]], -1))
        return np.stack(seen)

    def person(self, image: NDArray[np.uint8], bbox: list[float]) -> NDArray[np.float64]:
        """Return ``(17, 3)`` x, y in image pixels and the certainty of each joint."""
        return agreed(self.views(image, bbox), max(bbox[2:]))


def agreed(seen: NDArray[np.float64], longer_side: float) -> NDArray[np.float64]:
    """Return ``(17, 3)``: where ``(V, 17, 3)`` views agree (a weighted geometric median), and the joints' certainty."""
    points, trust = seen[..., :2], np.maximum(seen[..., 2:], 1e-3) ** 2
    median = (points * trust).sum(0) / trust.sum(0)
    for _ in range(20):  # Weiszfeld; the addend keeps the weight of a view that the median has met finite
        weight = trust / (np.linalg.norm(points - median, axis=-1, keepdims=True) + 0.001 * longer_side)
        median = (points * weight).sum(0) / weight.sum(0)
    near = np.linalg.norm(points - median, axis=-1, keepdims=True) < 0.05 * longer_side
    certainty = seen[..., 2:].mean(0) * (trust * near).sum(0) / trust.sum(0)
    return np.concatenate([median, certainty], -1)


def fill(record: dict[str, Any], found: NDArray[np.float64], min_certainty: float) -> int:
    """Complete a record's joints in place and return how many were added."""
    joints = np.array(record.get("keypoints") or np.zeros(51), np.float64).reshape(17, 3)
    trusted = (joints[:, 2] == 0) & (found[:, 2] >= min_certainty)
    joints[trusted, :2] = found[trusted, :2].round(1)
    joints[trusted, 2] = (np.interp(found[trusted, 2], *SIMILARITY.T) ** 2).round(3)
    record["keypoints"] = joints.ravel().tolist()
    record["num_keypoints"] = int((joints[:, 2] > 0).sum())
    return int(trusted.sum())


def refine(record: dict[str, Any], found: NDArray[np.float64], min_certainty: float) -> int:
    """Move a record's labelled joints onto the teacher's where they agree, in place, and return how many were moved.

    They agree within 9 % of the longer side of the box (a third of a standing person's trunk). A joint that a sure
    teacher sees elsewhere counts half: one of both is wrong. The others stay as they are.
    """
    joints = np.array(record["keypoints"], np.float64).reshape(17, 3)
    sure = (joints[:, 2] > 0) & (found[:, 2] >= min_certainty)
    near = np.linalg.norm(joints[:, :2] - found[:, :2], axis=-1) <= 0.09 * max(record["bbox"][2:])
    joints[sure & near, :2] = found[sure & near, :2].round(1)
    joints[sure & ~near, 2] = 0.5
    record["keypoints"] = joints.ravel().tolist()
    record["pseudo"] = [k for k in record.get("pseudo", ()) if not sure[k]]
    return int((sure & near).sum())


def records_of(file: CocoFile) -> list[dict[str, Any]]:
    return sorted((dict(a) for a in file.annotations if not a.get("iscrowd")), key=lambda a: a["image_id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--min-certainty", type=float, default=0.25)
    parser.add_argument("--limit", type=int, help="only the first persons")
    parser.add_argument("--without-joints", action="store_true", help="only persons who have no labelled joint yet")
    parser.add_argument("--relabel", action="store_true", help="label all joints anew")
    parser.add_argument("--refine", action="store_true", help="move labelled joints to the teacher's where they agree")
    parser.add_argument("--contains", default="", help="only persons whose image's path contains this text")
    parser.add_argument("--nobody", type=float, metavar="CERTAINTY", help="drop boxes in which it is this sure")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    teacher, file = Teacher(arguments.teacher), read_coco(arguments.annotations)
    records = records_of(file)
    records = [record for record in records if arguments.contains in file.image_path(record["image_id"]).as_posix()]
    if arguments.without_joints:
        records = [record for record in records if not record.get("num_keypoints")]
    records = records[: arguments.limit]
    if arguments.check:
        records = [record for record in records if record.get("num_keypoints")]
    reader, image, shown, added, moved, results = DiskReader(), np.zeros((1, 1, 3), np.uint8), None, 0, 0, []
    with progress(len(records), "persons") as bar:
        for number, record in enumerate(records, 1):
            if record["image_id"] != shown:
                image, shown = reader.read(file.image_path(record["image_id"])), record["image_id"]
            found = teacher.person(image, record["bbox"])
            if arguments.check:
                joints = np.concatenate([found[:, :2], np.ones((17, 1))], -1).ravel().tolist()
                score = float(found[:, 2].mean())
                results.append({"image_id": record["image_id"], "category_id": 1, "keypoints": joints, "score": score})
            elif arguments.nobody is not None:
                record["teacher"] = round(float(found[:, 2].mean()), 3)
            else:
                if arguments.relabel:
                    record["keypoints"] = []
                if arguments.refine and record.get("num_keypoints"):
                    moved += refine(record, found, max(arguments.min_certainty, 0.35))
                added += fill(record, found, arguments.min_certainty)
            bar(number)
    if arguments.check:
        print({name: round(value, 4) for name, value in evaluate_keypoints(results, arguments.annotations).items()})
        return
    if arguments.nobody is not None:
        records = [record for record in records if record["teacher"] < arguments.nobody]
    what = "missing joints" if arguments.nobody is None else "boxes of nobody"
    images = [{**image, "file_name": str(file.image_path(number).resolve())} for number, image in file.images.items()]
    content = {
        "info": {"description": f"{arguments.annotations.name}, {what} by {arguments.teacher.name}"},
        "images": images,
        "annotations": records,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
    }
    arguments.out.write_text(json.dumps(content))
    print(f"{len(records)} persons, {added} joints added, {moved} moved; written {arguments.out}")


if __name__ == "__main__":
    main()
