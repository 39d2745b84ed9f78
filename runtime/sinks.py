"""What becomes of the poses: one sink per output format, any number at once, each readable after a kill."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.errors import MediaError, UsageError
from autopose.files import atomic_path
from autopose.poses import Poses
from autopose.results import frame_record, results_header
from autopose.runtime.sources import SourceSpec
from autopose.runtime.video import Frame
from autopose.runtime.video_writer import VideoWriter
from autopose.skeleton import Skeleton

Format = Literal["video", "images", "sheet", "crops", "json", "coco", "openpose", "csv", "parquet", "trc"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class SinkContext:
    """What a sink has to know about the run.

    Attributes:
        spec: the source.
        out: folder of the results.
        skeleton: meaning of the joints.
        fps: of the source; None for separate images.
        has_audio: whether the source file has sound to take along.
        model: facts about the models, for the JSON's header.
    """

    spec: SourceSpec
    out: Path
    skeleton: Skeleton
    fps: Fraction | None = None
    has_audio: bool = False
    model: dict[str, Any] = field(default_factory=dict)

    def path(self, ending: str) -> Path:
        """Return the output file of the source with an ending such as ``.json``."""
        return self.out / f"{self.spec.name}{ending}"


class Sink(ABC):
    """Takes every frame in order; makes no file before the first one."""

    #: Whether ``write`` wants the picture with skeletons.
    needs_drawing = False

    def __init__(self, context: SinkContext) -> None:
        self.context = context

    @abstractmethod
    def write(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Take a frame, its poses and, if asked for, the picture with skeletons."""

    @abstractmethod
    def close(self) -> list[Path]:
        """Finish the files and return them."""


class VideoSink(Sink):
    """Annotated H.264 with the source's timestamps and sound."""

    needs_drawing = True
    _writer: VideoWriter | None = None

    def write(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Encode the drawn frame."""
        assert drawn is not None
        if self._writer is None:
            fps = self.context.fps or Fraction(2)  # separate images: two per second
            time_base = frame.time_base or 1 / fps
            self._writer = VideoWriter(self.context.path(".mp4"), frame.size_wh, fps=fps, time_base=time_base)
        self._writer.write(drawn, frame.pts)

    def close(self) -> list[Path]:
        """Finish the MP4."""
        if self._writer is None:
            return []
        path = self._writer.close(self.context.spec.files[0] if self.context.has_audio else None)
        return [path] if path else []


class ImagesSink(Sink):
    """Annotated images: one beside the other for separate images, numbered in a folder for a video."""

    needs_drawing = True

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._written: list[Path] = []
        self._names: set[str] = set()

    def write(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Write the drawn frame as JPEG."""
        assert drawn is not None
        if self.context.spec.kind == "images":
            path = self.context.out / f"{self._unique(Path(frame.name or 'image').stem)}.jpg"
            self._written.append(path)
        else:
            folder = self.context.path("-frames")
            path = folder / f"{frame.index:06d}.jpg"
            self._written = [folder]
        write_image(path, drawn)

    def _unique(self, stem: str) -> str:
        """Return a file stem that no earlier image of the run has (photo.jpg and photo.png may lie side by side)."""
        if len(self.context.spec.files) == 1:
            return self.context.spec.name
        name, count = stem, 1
        while name.lower() in self._names:
            count += 1
            name = f"{stem}-{count}"
        self._names.add(name.lower())
        return name

    def close(self) -> list[Path]:
        """Return the images, or the folder that holds them."""
        return self._written


class JsonSink(Sink):
    """The package's own results: JSON lines (``.part.jsonl``) while the run goes on, one JSON file at its end."""

    _lines: Any = None

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self.part = context.path(".part.jsonl")

    def write(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Append a line and hand it to the system."""
        if self._lines is None:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            self._lines = self.part.open("w", encoding="utf-8")
            self._lines.write(json.dumps(self._header()) + "\n")
        record = frame_record(poses, frame.index, frame.time_s)
        if frame.name is not None:
            record["image"] = frame.name
        self._lines.write(json.dumps(record, separators=(",", ":")) + "\n")
        self._lines.flush()

    def _header(self) -> dict[str, Any]:
        spec, fps = self.context.spec, self.context.fps
        source = {"kind": spec.kind, "path": spec.location, "fps": None if fps is None else round(float(fps), 4)}
        return results_header(self.context.skeleton, source, self.context.model)

    def close(self) -> list[Path]:
        """Turn the lines into the JSON file, line by line."""
        if self._lines is None:
            return []
        self._lines.close()
        path = self.context.path(".json")
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out, self.part.open() as lines:
            header = next(lines).rstrip()
            out.write(header[:-1] + ', "frames": [\n')
            for number, line in enumerate(lines):
                out.write((",\n" if number else "") + line.rstrip())
            out.write("\n]}\n")
        self.part.unlink()
        return [path]


def write_image(path: Path, image: NDArray[np.uint8], quality: int = 92) -> None:
    """Write an image in one step.

    Raises:
        MediaError: it cannot be written there.
    """
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), image, [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise MediaError(f"{path}: the image could not be written.")


def parse_formats(text: str) -> tuple[Format, ...]:
    """Return the formats of a ``--save`` value such as ``video,json``.

    Raises:
        UsageError: a format is unknown.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise UsageError(f"--save {text!r}: {unknown or 'nothing'} is no output format. Known: {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]


def open_sink(name: Format, context: SinkContext) -> Sink:
    """Return the sink of a format."""
    match name:
        case "video":
            return VideoSink(context)
        case "images":
            return ImagesSink(context)
        case "json":
            return JsonSink(context)
        case "sheet" | "crops":
            from autopose.runtime import picture_sinks

            return (picture_sinks.SheetSink if name == "sheet" else picture_sinks.CropsSink)(context)
        case "trc":
            from autopose.runtime.trc_sink import TrcSink

            return TrcSink(context)
        case "coco" | "openpose" | "csv" | "parquet":
            from autopose.runtime import table_sinks

            return table_sinks.SINKS[name](context)
