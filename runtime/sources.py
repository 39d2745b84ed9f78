"""What a user may give as SOURCE: image, folder, glob, list file, video, webcam number, stream address."""

import glob
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autopose.errors import MediaError, UsageError
from autopose.image_files import IMAGE_SUFFIXES, begins_as_image, read_image
from autopose.runtime.source_names import OUTPUT_MARKS, address_stem, as_one, public_address, unique_stem
from autopose.runtime.video import Frame, Opener, VideoReader

if TYPE_CHECKING:
    from autopose.runtime.feeds import Feed

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".avi",
        ".mov",
        ".mkv",
        ".webm",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
        ".gif",
    }
)
#: Seconds.
_CENTURY_S = 100 * 365.25 * 86400
#: Not every number: one that long is a file's name that was mistyped.
_WEBCAM = re.compile(r"\d{1,4}")
_ADDRESS = re.compile(r"^(rtsps?|rtmps?|https?|udp|tcp|srt|mms)://", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """Which part of a source to take.

    Attributes:
        start_s: skip what comes before (videos).
        end_s: stop there (videos and streams).
        stride: take every n-th frame or image.
        max_frames: stop after so many.
    """

    start_s: float = 0.0
    end_s: float | None = None
    stride: int = 1
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if self.end_s == math.inf:
            object.__setattr__(self, "end_s", None)  # to the end, as not given
        # Written so that nan fails too; a century is beyond every recording, and within what timestamps can count.
        if not 0 <= self.start_s < _CENTURY_S or not (self.end_s is None or self.start_s < self.end_s < _CENTURY_S):
            raise UsageError(f"--start {self.start_s:g} --end {self.end_s}: expected 0 <= start < end, in seconds.")
        if self.stride < 1 or (self.max_frames is not None and self.max_frames < 1):
            raise UsageError(f"--stride {self.stride} --max-frames {self.max_frames}: expected 1 or more.")


@dataclass(frozen=True)
class SourceSpec:
    """One source, not opened yet.

    Attributes:
        name: stem of its output files, unique within a run.
        kind: ``images`` (one or more separate ones), ``video`` or ``live``.
        location: as the user gave it; may hold a password.
        files: the images, or the video.
        stems: of the output files of each image, unique within a run.
    """

    name: str
    kind: Literal["images", "video", "live"]
    location: str
    files: tuple[Path, ...] = ()
    stems: Sequence[str] = ()

    @property
    def public_location(self) -> str:
        """Return the location for people and files to read: that of a stream without its password."""
        return public_address(self.location) if self.kind == "live" else self.location


class Source(ABC):
    """An opened source, iterated once.

    Attributes:
        spec: what it was opened from.
        fps: frames per second; None for separate images.
        frame_count: how many will come, if known.
        problem: after the last frame, what was wrong, as a sentence.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self.fps: Fraction | None = None
        self.frame_count: int | None = None
        self.problem: str | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def report(self) -> dict[str, float | int]:
        """Return figures of a live source: dropped frames, gaps; nothing for files."""
        return {}

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Free what is open; iteration ends."""


class ImagesSource(Source):
    """Separate images; one of several that cannot be read is reported and left out."""

    def __init__(self, spec: SourceSpec, selection: Selection) -> None:
        super().__init__(spec)
        stems = spec.stems or [path.stem for path in spec.files]
        numbered = list(zip(range(len(spec.files)), spec.files, stems, strict=True))
        self._files = numbered[:: selection.stride][: selection.max_frames]
        self.frame_count = len(self._files)

    def __iter__(self) -> Iterator[Frame]:
        for number, path, stem in self._files:
            try:
                image = read_image(path)
            except MediaError as error:
                if len(self._files) == 1:
                    raise
                self.problem = str(error)
                log.warning("%s", error)
                continue
            yield Frame(image, number, name=str(path), stem=stem)


class VideoSource(Source):
    """A video file.

    Args:
        spec: of the file; of an address, with ``reopened``.
        selection: part of it.
        reopened: opens a file on a server.
    """

    def __init__(self, spec: SourceSpec, selection: Selection, reopened: Opener | None = None) -> None:
        super().__init__(spec)
        self._reader = VideoReader(
            spec.files[0] if reopened is None else spec.location,
            start_s=selection.start_s,
            end_s=selection.end_s,
            stride=selection.stride,
            reopened=reopened,
        )
        self._selection = selection
        self._limit = selection.max_frames
        self.fps = self._reader.fps / selection.stride
        known = self._reader.frame_count
        self.frame_count = known if self._limit is None or known is None else min(known, self._limit)
        self.has_audio = self._reader.has_audio and reopened is None  # sound is copied from files only

    def __iter__(self) -> Iterator[Frame]:
        count = 0
        try:
            for count, frame in enumerate(self._reader, start=1):
                yield frame
                if count == self._limit:
                    return
        finally:
            self.problem = self._reader.problem
            self._reader.close()
        if not count and self.problem is None:
            self.problem = self._empty_selection()

    def _empty_selection(self) -> str:
        start_s, end_s = self._selection.start_s, self._selection.end_s
        until = "its end" if end_s is None else f"--end {end_s:g}"
        lasts = "" if self._reader.duration_s is None else f"; the video lasts {self._reader.duration_s:.1f} s"
        return f"{self._reader.name}: no frame between --start {start_s:g} and {until}{lasts}. Choose another part."

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


def open_source(spec: SourceSpec, selection: Selection | None = None) -> Source:
    """Open a source.

    Raises:
        MediaError: it cannot be read.
    """
    selection = selection or Selection()
    match spec.kind:
        case "images":
            return ImagesSource(spec, selection)
        case "video":
            return VideoSource(spec, selection)
        case "live":
            return _open_live(spec, selection)


def _open_live(spec: SourceSpec, selection: Selection) -> Source:
    """Open a webcam, a stream, or a file on a server, which is a video.

    The source knows its public location only, so that no message and no file can hold the password.
    """
    from autopose.runtime.feeds import open_feed, open_recording
    from autopose.runtime.live import LiveSource

    def connect(public: str) -> "Feed":
        with _naming(spec.location, public):
            return open_feed(spec.location)

    shown = replace(spec, location=spec.public_location)
    feed = connect(shown.location)
    if not feed.finite:
        if selection.start_s:
            log.warning("%s: --start is of recordings: of a stream nothing is skipped.", shown.location)
        return LiveSource(shown, selection, connect=connect, feed=feed)
    feed.close()
    reopened = _naming(spec.location, shown.location)(partial(open_recording, spec.location))
    return VideoSource(shown, selection, reopened)


@contextmanager
def _naming(location: str, public: str) -> Iterator[None]:
    """Exchange a location in errors for the one to be read."""
    try:
        yield
    except MediaError as error:
        raise MediaError(str(error).replace(location, public)) from None


def find_sources(given: Sequence[str | Path | int]) -> list[SourceSpec]:
    """Return the sources that a user's words stand for; videos one by one, images of a folder or glob together.

    Raises:
        MediaError: a word stands for nothing that exists, or for a folder without images and videos.
    """
    found: list[SourceSpec] = []
    for text in given:
        found += _sources_of(str(text))
    return _uniquely_named(found)


def _sources_of(text: str, *, lists: bool = True) -> list[SourceSpec]:
    if not text.strip():
        raise MediaError("A source is empty: expected an image, video, folder or address. Is a variable not set?")
    path = Path(text)
    if _WEBCAM.fullmatch(text) and not path.exists():
        return [SourceSpec(f"webcam-{text}", "live", text)]
    if _ADDRESS.match(text):
        stem = Path(address_stem(text))
        is_file = stem.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES
        return [SourceSpec(stem.stem if is_file else stem.name, "live", text)]
    if path.is_dir():
        return _of_files(
            sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")), path.resolve().name, text
        )
    if path.is_file():
        if path.suffix.lower() in (".txt", ".lst"):
            if not lists:
                raise MediaError(f"{path}: is a list of sources in a list (or in itself). Name its sources there.")
            return _of_list(path)
        kind: Literal["images", "video"] = "images" if _is_image(path) else "video"
        return [SourceSpec(path.stem, kind, text, (path,))]
    if any(sign in text for sign in "*?["):
        matches = sorted(Path(name) for name in glob.glob(text, recursive=True) if Path(name).is_file())
        return _of_files(matches, re.sub(r"[*?]", "", Path(text).parent.name) or "images", text)
    raise MediaError(f"No source {text!r}: no such file or folder, and no pattern, webcam number or stream address.")


def _of_files(files: Sequence[Path], name: str, text: str) -> list[SourceSpec]:
    images = tuple(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    found = [SourceSpec(path.stem, "video", str(path), (path,)) for path in videos]
    if images:
        found.insert(0, SourceSpec(images[0].stem if len(images) == 1 else name, "images", text, images))
    if not found:
        raise MediaError(
            f"{text}: holds no images and no videos. Known are {' '.join(sorted(IMAGE_SUFFIXES))} and more."
        )
    return found


def _of_list(path: Path) -> list[SourceSpec]:
    """Return the sources of a text file: one per line, relative to the file; ``#`` starts a comment line."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise MediaError(f"{path}: is no list of sources: it is not UTF-8 text.") from None
    words = [line for line in lines if line and not line.startswith("#")]
    if not words:
        raise MediaError(f"{path}: lists no source. Expected one image, video, folder or address per line.")
    found: list[SourceSpec] = []
    images: list[Path] = []
    for word in words:
        local = _WEBCAM.fullmatch(word) or _ADDRESS.match(word) or Path(word).is_absolute()
        for spec in _sources_of(word if local else str(path.parent / word), lists=False):
            if spec.kind == "images":
                images += spec.files
            else:
                found.append(spec)
    return [*([SourceSpec(path.stem, "images", str(path), tuple(images))] if images else []), *found]


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES or (suffix not in VIDEO_SUFFIXES and begins_as_image(path))


def _uniquely_named(specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    """Number the later ones of equal names, of sources and of images, so that no output overwrites another."""
    names: set[str] = set()
    numbers: dict[str, int] = {}
    named = [replace(spec, name=unique_stem(spec.name, names, OUTPUT_MARKS, numbers)) for spec in specs]
    stems = {as_one(spec.name) for spec in named if _is_one_image(spec)}
    stems |= {as_one(f"{spec.name}-sheet") for spec in named}  # lies beside the images of a folder
    counts: dict[str, int] = {}
    return [_with_stems(spec, stems, counts) for spec in named]


def _with_stems(spec: SourceSpec, taken: set[str], counts: dict[str, int]) -> SourceSpec:
    if spec.kind != "images":
        return spec
    if _is_one_image(spec):  # called as its source is
        return replace(spec, stems=(spec.name,))
    return replace(spec, stems=tuple(unique_stem(path.stem, taken, (), counts) for path in spec.files))


def _is_one_image(spec: SourceSpec) -> bool:
    return spec.kind == "images" and len(spec.files) == 1
