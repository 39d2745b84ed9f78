"""The package's own results file, written line by line while the run goes on."""

import json
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from autopose.files import atomic_path
from autopose.poses import Poses
from autopose.results import frame_record, results_header
from autopose.runtime.sinks import Sink, SinkContext
from autopose.runtime.video import Frame


class JsonSink(Sink):
    """The package's own results: JSON lines (``.part.jsonl``) while the run goes on, one JSON file at its end."""

    ending = ".json"
    _lines: IO[str]

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self.part = context.path(".part.jsonl")

    def _begin(self, frame: Frame) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        self._lines = self.part.open("w", encoding="utf-8")
        self._lines.write(json.dumps(self._header()) + "\n")

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Append a line and hand it to the system."""
        record = frame_record(poses, frame.index, frame.time_s)
        if frame.name is not None:
            record["image"] = str(Path(frame.name).absolute())
        self._lines.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._lines.flush()

    def _header(self) -> dict[str, Any]:
        spec, fps = self.context.spec, self.context.fps
        # Absolute, or a page made later in another folder may take the annotated video for the source.
        path = str(spec.files[0].absolute()) if spec.kind == "video" else spec.public_location
        source = {"kind": spec.kind, "path": path, "fps": None if fps is None else round(float(fps), 4)}
        return results_header(self.context.skeleton, source, self.context.model)

    def close(self) -> list[Path]:
        """Turn the lines into the JSON file, line by line."""
        if not self._begun:
            return []
        self._lines.close()
        path = self.destination
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out, self.part.open() as lines:
            header = next(lines).rstrip()
            out.write(header[:-1] + ', "frames": [\n')
            for number, line in enumerate(lines):
                out.write((",\n" if number else "") + line.rstrip())
            out.write("\n]}\n")
        self.part.unlink()
        return [path]
