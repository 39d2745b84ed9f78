"""The output formats by name: what ``--save`` takes."""

from typing import Literal, get_args

from autopose.errors import UsageError
from autopose.runtime.json_sink import JsonSink
from autopose.runtime.picture_sinks import CropsSink, ImagesSink, SheetSink, VideoSink
from autopose.runtime.sinks import Sink, SinkContext
from autopose.runtime.table_sinks import CocoSink, OpenPoseSink, ParquetSink, TableSink
from autopose.runtime.trc_sink import TrcSink

Format = Literal["video", "images", "sheet", "crops", "json", "coco", "openpose", "csv", "parquet", "trc"]
FORMATS: tuple[Format, ...] = get_args(Format)

_SINKS: dict[Format, type[Sink]] = {
    "video": VideoSink,
    "images": ImagesSink,
    "sheet": SheetSink,
    "crops": CropsSink,
    "json": JsonSink,
    "coco": CocoSink,
    "openpose": OpenPoseSink,
    "csv": TableSink,
    "parquet": ParquetSink,
    "trc": TrcSink,
}


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
    return _SINKS[name](context)
