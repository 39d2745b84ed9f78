"""Poses as other tools read them: COCO results, OpenPose JSON, long tables; and ``Poses.save``."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from autopose.errors import MediaError, require
from autopose.files import on_one_line, write_atomic
from autopose.image_files import small_jpeg, write_image
from autopose.poses import Poses
from autopose.results import frame_record, results_header

#: OpenPose's BODY_25 order, as indices or pairs (a mean of two) of COCO joints; None where COCO has no such joint.
BODY_25: tuple[tuple[str, ...] | None, ...] = (
    ("nose",), ("left_shoulder", "right_shoulder"), ("right_shoulder",), ("right_elbow",), ("right_wrist",),
    ("left_shoulder",), ("left_elbow",), ("left_wrist",), ("left_hip", "right_hip"), ("right_hip",), ("right_knee",),
    ("right_ankle",), ("left_hip",), ("left_knee",), ("left_ankle",), ("right_eye",), ("left_eye",), ("right_ear",),
    ("left_ear",), None, None, None, None, None, None,
)  # fmt: skip

#: What tables say of each person, and the columns of the long one (CSV and Parquet): one row per joint.
PERSON_COLUMNS = ("source", "frame", "time_s", "id", "person")
TABLE_COLUMNS = (*PERSON_COLUMNS, "joint", "x", "y", "score")

#: The longer side in pixels of pictures in notebooks, which keep them in their file.
NOTEBOOK_SIDE = 1024


def save_poses(poses: Poses, path: Path) -> None:
    """Write poses by the suffix: ``.json`` (results of one frame), ``.csv``, or an image with the skeletons.

    Raises:
        MediaError: nothing is known to write such a suffix, or the poses carry no image.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        source = {"kind": "image", "path": poses.source} if poses.source else {}
        content = {**results_header(poses.skeleton, source), "frames": [frame_record(poses)]}
        write_atomic(path, json.dumps(content, indent=1) + "\n")
        return
    if suffix == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([TABLE_COLUMNS, *table_rows(poses)])
        write_atomic(path, text.getvalue())
        return
    if not suffix.isascii() or not cv2.haveImageWriter(f"x{suffix}"):
        raise MediaError(
            f"{path}: cannot write poses as {suffix!r}. Give .json, .csv or an image such as .jpg or .png."
        )
    if poses.image is None:
        raise MediaError(f"{path}: these poses carry no image to draw on. Write .json, or draw: poses.plot(image).")
    write_image(path, poses.plot())


def notebook_picture(poses: Poses) -> bytes | None:
    """Return the JPEG that notebooks show for poses, with skeletons; None where they carry no image."""
    return None if poses.image is None else small_jpeg(poses.plot(), NOTEBOOK_SIDE)


def table_rows(poses: Poses, source: str | None = None, frame: int = 0, time_s: float | None = None) -> list[
    tuple[str | int | float, ...]
]:  # fmt: skip
    """Return the rows of the long table (see ``TABLE_COLUMNS``)."""
    rows: list[tuple[str | int | float, ...]] = []
    for i in range(len(poses)):
        who = person_cells(poses, i, source, frame, time_s)
        for k, joint in enumerate(poses.skeleton.joints):
            x, y = poses.keypoints[i, k]
            score = round(float(poses.keypoint_scores[i, k]), 4)
            rows.append((*who, joint, round(float(x), 2), round(float(y), 2), score))
    return rows


def person_cells(
    poses: Poses, index: int, source: str | None, frame: int, time_s: float | None
) -> tuple[str | int | float, ...]:
    """Return what tables say of a person (see ``PERSON_COLUMNS``); an unknown id or time is an empty cell."""
    name = on_one_line(str(source if source is not None else (poses.source or "")))
    track: int | str = "" if poses.ids is None else int(poses.ids[index])
    return name, frame, "" if time_s is None else round(time_s, 6), track, index


def data_frame(poses: Poses, frame: int = 0, time_s: float | None = None) -> Any:
    """Return the long table as a pandas DataFrame; ``id`` is nullable.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    pandas = require("pandas", extra="parquet", why="Poses.to_df()")
    table = pandas.DataFrame(table_rows(poses, None, frame, time_s), columns=list(TABLE_COLUMNS))
    table["time_s"] = pandas.to_numeric(table["time_s"])
    table["id"] = pandas.to_numeric(table["id"]).astype("Int64")
    # Said, since a table without rows has nothing to tell them by.
    kinds = {"str": ("source", "joint"), "int64": ("frame", "person"), "float64": ("time_s", "x", "y", "score")}
    return table.astype({column: kind for kind, columns in kinds.items() for column in columns})


def supervision_key_points(poses: Poses) -> Any:
    """Return ``supervision.KeyPoints``.

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    supervision = require("supervision", extra="supervision", why="Poses.to_supervision()")
    data: dict[str, Any] = {"box": poses.boxes, "box_score": poses.box_scores}
    if poses.ids is not None:
        data["tracker_id"] = poses.ids
    return supervision.KeyPoints(
        xy=poses.keypoints,
        keypoint_confidence=poses.keypoint_scores,
        class_id=np.zeros(len(poses), int),
        data=data,
    )


def coco_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Return COCO keypoint results (what ``pycocotools`` ``loadRes`` takes); ``track_id`` is added where known."""
    results = []
    for i in range(len(poses)):
        x0, y0, x1, y1 = (float(v) for v in poses.boxes[i])
        triples = np.concatenate([poses.keypoints[i], poses.keypoint_scores[i][:, None]], -1)
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": [round(float(v), 3) for v in triples.ravel()],
            "score": round(float(poses.scores[i]), 5),
            "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
        }
        if poses.ids is not None:
            entry["track_id"] = int(poses.ids[i])
        results.append(entry)
    return results


def openpose_frame(poses: Poses) -> dict[str, Any]:
    """Return one frame as OpenPose writes it (``--write_json``, BODY_25); joints that COCO lacks are 0, 0, 0."""
    people = []
    for i in range(len(poses)):
        flat: list[float] = []
        for names in BODY_25:
            flat += _openpose_joint(poses, i, names)
        track = -1 if poses.ids is None else int(poses.ids[i])
        empty: dict[str, list[float]] = {
            f"{part}_keypoints_{dims}": []
            for dims in ("2d", "3d")
            for part in ("face", "hand_left", "hand_right", "pose")
        }
        people.append({"person_id": [track], **empty, "pose_keypoints_2d": flat})
    return {"version": 1.3, "people": people}


def _openpose_joint(poses: Poses, index: int, names: Sequence[str] | None) -> list[float]:
    known = set(poses.skeleton.joints)
    if not names or not set(names) <= known:
        return [0.0, 0.0, 0.0]
    at = [poses.skeleton.index(name) for name in names]
    x, y = poses.keypoints[index, at].mean(0)
    return [round(float(x), 3), round(float(y), 3), round(float(poses.keypoint_scores[index, at].min()), 4)]
