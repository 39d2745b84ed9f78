"""Poses for other programs: CSV of joints or of angles, Parquet, COCO results, OpenPose's JSON files."""

import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from autopose.angles import angle_joints, joint_angles
from autopose.errors import UsageError, require
from autopose.files import atomic_path, replace, write_atomic
from autopose.formats import (
    PERSON_COLUMNS,
    TABLE_COLUMNS,
    coco_results,
    openpose_frame,
    person_cells,
    table_rows,
)
from autopose.poses import Poses
from autopose.runtime.sinks import Sink, SinkContext, remove_earlier
from autopose.runtime.video import Frame

log = logging.getLogger(__name__)


class TableSink(Sink):
    """CSV, one row per joint, written as the run goes on (``.part.csv``) and renamed at its end."""

    ending = ".csv"
    columns: tuple[str, ...] = TABLE_COLUMNS
    _file: IO[str]

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self.part = context.path(self._part_ending())

    def _part_ending(self) -> str:
        return ".part.csv"

    def _begin(self, frame: Frame) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.part.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(self.columns)

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Append the frame's rows."""
        self._rows.writerows(self._rows_of(poses, frame))
        self._file.flush()

    def _rows_of(self, poses: Poses, frame: Frame) -> Sequence[Sequence[str | int | float]]:
        return table_rows(poses, self._source(frame), frame.index, frame.time_s)

    def _source(self, frame: Frame) -> str:
        return frame.name or self.context.spec.public_location

    def close(self) -> list[Path]:
        """Rename the file."""
        if not self._begun:
            return []
        self._file.close()
        return [self._finished()]

    def _finished(self) -> Path:
        replace(self.part, self.destination)
        return self.destination


class AnglesSink(TableSink):
    """CSV, one row per person: the angles at their joints in degrees, with an empty cell where one is not seen."""

    ending = "-angles.csv"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        angles = tuple(angle_joints(context.skeleton))
        if not angles:
            raise UsageError(
                f"--save angles: the joints of {context.skeleton.name} make none of the known angles (left and right "
                "shoulder, elbow, hip and knee). Leave it out."
            )
        self.columns = (*PERSON_COLUMNS, *angles)

    def _part_ending(self) -> str:
        return "-angles.part.csv"

    def _rows_of(self, poses: Poses, frame: Frame) -> Sequence[Sequence[str | int | float]]:
        angles = np.stack(list(joint_angles(poses).values()), axis=1)
        return [
            (*person_cells(poses, i, self._source(frame), frame.index, frame.time_s), *_cells(angles[i]))
            for i in range(len(poses))
        ]


def _cells(values: NDArray[np.float64]) -> list[float | str]:
    return ["" if np.isnan(value) else round(float(value), 1) for value in values]


class ParquetSink(TableSink):
    """The same table as Parquet; until the end it is CSV, because a Parquet file cannot be read without its footer."""

    ending = ".parquet"

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._arrow = require("pyarrow", extra="parquet", why="Parquet output")

    def _part_ending(self) -> str:
        return ".parquet.part.csv"

    def _finished(self) -> Path:
        """Convert the CSV block by block."""
        from pyarrow import csv as arrow_csv
        from pyarrow import parquet

        arrow = self._arrow
        kinds = (arrow.string(), arrow.int64(), arrow.float64(), arrow.int64(), arrow.int32(), arrow.string(),
                 arrow.float32(), arrow.float32(), arrow.float32())  # fmt: skip
        schema = arrow.schema(list(zip(TABLE_COLUMNS, kinds, strict=True)))
        convert = arrow_csv.ConvertOptions(column_types=schema)
        path = self.destination
        with (
            atomic_path(path) as temporary,
            temporary.open("wb") as file,  # opened here: Arrow takes no names that are not UTF-8
            self.part.open("rb") as rows,
            parquet.ParquetWriter(file, schema) as out,
            arrow_csv.open_csv(rows, convert_options=convert) as blocks,
        ):
            for block in blocks:
                out.write_batch(block)
        self.part.unlink()
        return path


class CocoSink(Sink):
    """COCO keypoint results; JSON lines (``.part.coco.jsonl``) while the run goes on, one JSON list at its end.

    ``image_id`` is the number at the end of an image's file name, as in COCO, else the frame's number.
    """

    ending = "-coco.json"
    _lines: IO[str]

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self.part = context.path(".part.coco.jsonl")
        self._names: dict[int, str] = {}
        self._warned = False

    def _begin(self, frame: Frame) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._lines = self.part.open("w", encoding="utf-8")

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Append a line per person."""
        number = frame.image_id
        if frame.name and (other := self._names.setdefault(number, frame.name)) != frame.name and not self._warned:
            log.warning("%s: %s and %s both have the image_id %d.", self.destination, other, frame.name, number)
            self._warned = True
        for entry in coco_results(poses, number):
            self._lines.write(json.dumps(entry, separators=(",", ":")) + "\n")
        self._lines.flush()

    def close(self) -> list[Path]:
        """Turn the lines into a list."""
        if not self._begun:
            return []
        self._lines.close()
        path = self.destination
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out, self.part.open() as lines:
            out.write("[")
            for number, line in enumerate(lines):
                out.write((",\n" if number else "\n") + line.rstrip())
            out.write("\n]\n")
        self.part.unlink()
        return [path]


class OpenPoseSink(Sink):
    """A folder with one file per frame, named and filled as OpenPose's ``--write_json`` does."""

    ending = "-openpose"

    def _begin(self, frame: Frame) -> None:
        remove_earlier(self.destination, r".+_keypoints\.json")

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Write the frame's file."""
        stem = frame.stem or f"{self.context.spec.name}_{frame.index:012d}"
        write_atomic(self.destination / f"{stem}_keypoints.json", json.dumps(openpose_frame(poses)))

    def close(self) -> list[Path]:
        """Return the folder."""
        return [self.destination] if self._begun else []
