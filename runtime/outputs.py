"""The output formats by name: what ``--save`` takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from autopose.errors import UsageError
from autopose.runtime.arguments import check_choice
from autopose.runtime.json_sink import JsonSink
from autopose.runtime.picture_sinks import CropsSink, ImagesSink, SheetSink, VideoSink
from autopose.runtime.sinks import Sink, SinkContext, output_path
from autopose.runtime.sources import SourceSpec
from autopose.runtime.table_sinks import AnglesSink, CocoSink, OpenPoseSink, ParquetSink, TableSink
from autopose.runtime.trc_sink import TrcSink

Format = Literal["video", "images", "sheet", "crops", "json", "coco", "openpose", "csv", "parquet", "angles", "trc"]
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
    "angles": AnglesSink,
    "trc": TrcSink,
}

#: The formats that show the source's pictures.
PICTURES: frozenset[Format] = frozenset({"video", "images", "sheet", "crops"})
#: Endings that somebody gives ``-o`` who takes it for a file.
_FILE_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".jpg", ".png", ".json", ".csv", ".parquet", ".trc"})


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


def formats_of(spec: SourceSpec, save: Sequence[Format] | None) -> Sequence[Format]:
    """Return what a run writes for a source: as asked for, or its pictures with skeletons and the JSON.

    Raises:
        ValueError: a format is unknown.
    """
    for name in save or ():
        check_choice("save", name, Format)
    return save or ("images" if spec.kind == "images" else "video", "json")


def refuse_overwriting(
    specs: Sequence[SourceSpec], out: Path, save: Sequence[Format] | None, boxes: Path | None = None
) -> None:
    """Make sure that no output takes the place of a source, and none goes into a folder of numbered files with sources.

    Args:
        specs: the sources.
        out: folder of the results.
        save: formats; None for the default.
        boxes: a file that is read besides.

    Raises:
        UsageError: one would, or the folder is a file, or called like one.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out}: is a file; expected a folder for the results, which need not exist.")
    if not out.exists() and out.suffix.lower() in _FILE_SUFFIXES:
        raise UsageError(
            f"-o {out}: looks like a file; expected a folder for the results, in which files are called as their "
            f"sources. Give -o {out.with_suffix('')}."
        )
    sources = {_identity(place): path for spec in specs for path in spec.files for place in (path, path.parent)}
    if boxes is not None:
        sources[_identity(boxes)] = boxes
    for spec in specs:
        for name in formats_of(spec, save):
            for path in _destinations(spec, out, name):
                identity = _identity(path)
                if identity is not None and identity in sources:
                    raise UsageError(
                        f"{sources[identity]}: is read by this run, and --save {name} would write over it ({path}). "
                        "Choose another folder with -o."
                    )


def _destinations(spec: SourceSpec, out: Path, name: Format) -> Iterator[Path]:
    if name == "images" and spec.kind == "images":
        yield from (out / f"{stem}{ImagesSink.image_ending}" for stem in spec.stems)
    else:
        yield output_path(out, spec, _SINKS[name].ending)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others, however its name is written; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_sink(name: Format, context: SinkContext) -> Sink:
    """Return the sink of a format."""
    return _SINKS[name](context)
