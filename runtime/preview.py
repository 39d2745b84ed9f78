"""Smaller copies of a source as data URLs, for pages that hold everything they show."""

import base64
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory

import numpy as np

from autopose.console import counted
from autopose.errors import MediaError
from autopose.image_files import read_image, reduced, small_jpeg
from autopose.results import Results
from autopose.runtime.video import VideoReader
from autopose.runtime.video_writer import VideoWriter

#: The longer side of embedded pictures in pixels: of separate ones and whole videos, and of videos with frames left
#: out, whose frames resemble each other less and so take more bytes each.
PREVIEW_SIDE, SPARSE_SIDE = 960, 640
#: Characters that a frame of a video takes at least, as Base64: of all frames, and where frames are left out.
#: Measured with clips of a fixed and of a moving camera.
DENSE_FRAME, SPARSE_FRAME = 3_400, 8_000
#: Separate pictures that would have to become smaller than this are not embedded.
LEAST_SIDE = 200
#: From so many pictures the size of all is estimated.
_SAMPLE = 40

#: Is told how many frames or pictures have been gone through.
Passed = Callable[[int], None]


def located_sources(results: Results, results_path: Path) -> list[Path]:
    """Return the video, or the picture of every frame.

    Raises:
        MediaError: it is not there any more, or was never kept.
    """
    kind = results.header.get("source", {}).get("kind")
    if kind == "video":
        named = results.header["source"].get("path")
        if not named:
            raise MediaError("the results do not name their video.")
        return [_located(str(named), results_path)]
    names = [entry.poses.source for entry in results.frames]
    if kind in ("images", "image") and all(names):
        return [_located(str(name), results_path) for name in names]
    raise MediaError("a live source is not kept.")


def _located(name: str, results_path: Path) -> Path:
    """Return where a source lies: where the run read it, else beside the results, as when both were moved."""
    recorded, folder = Path(name), results_path.parent
    if recorded.is_absolute() and recorded.is_file():
        return recorded
    for path in (recorded, folder / name, folder / PureWindowsPath(name).name):  # which knows both kinds of slashes
        if path.is_file() and not _may_be_output(path, results_path):
            return path
    raise MediaError(f"{name} is not there any more.")


def _may_be_output(path: Path, results_path: Path) -> bool:
    """Tell whether a file may be a picture with skeletons of the same run, which bears the name of its source."""
    if path.resolve().parent != results_path.resolve().parent:
        return False
    return path.suffix == ".jpg" or path.name == f"{results_stem(results_path)}.mp4"


def results_stem(results_path: Path) -> str:
    """Return what the run called the source: its name may hold dots."""
    for ending in (".part.jsonl", ".json"):
        if results_path.name.endswith(ending):
            return results_path.name.removesuffix(ending)
    return results_path.stem


def preview_images(paths: Sequence[Path], room: int | None, passed: Passed) -> tuple[list[str], int]:
    """Return the pictures as data URLs and their longest side.

    Args:
        paths: of the pictures.
        room: characters that all may take, about; None for as many as they like.
        passed: is told how many are done.

    Raises:
        MediaError: they would become too small to see anything.
    """
    side = PREVIEW_SIDE if room is None else _side_that_fits(paths, room)
    urls = []
    for number, path in enumerate(paths, 1):
        urls.append("data:image/jpeg;base64," + base64.b64encode(small_jpeg(read_image(path), side)).decode())
        passed(number)
    return urls, side


def _side_that_fits(paths: Sequence[Path], room: int) -> int:
    """Return the longest side with which pictures fit, judged by some of them."""
    sample = [reduced(read_image(path), PREVIEW_SIDE) for path in paths[:: -(-len(paths) // _SAMPLE)]]
    side = PREVIEW_SIDE
    while True:
        mean = sum(len(small_jpeg(image, side)) for image in sample) / len(sample) * 4 / 3
        if mean * len(paths) <= room:
            return side
        side = round(side * min(0.95, max(0.5, float(np.sqrt(max(room, 0) / (mean * len(paths)))))))
        if side < LEAST_SIDE:
            count = counted(len(paths), "picture")
            raise MediaError(f"{count}: more than it holds. 'autopose view --stride N' keeps every n-th.")


def preview_video(path: Path, wanted: set[float], longest: int, room: int | None, passed: Passed) -> str:
    """Return a smaller H.264 copy of some frames of a video as a data URL.

    Args:
        path: of the video.
        wanted: times of the frames in seconds, rounded to six places. Not numbers: after ``--start`` they are computed
            from the average rate, which frames need not keep to.
        longest: side in pixels.
        room: characters that it may take, about; None for as many as it likes.
        passed: is told how many are written.
    """
    with TemporaryDirectory() as folder:
        writer: VideoWriter | None = None
        first, last = min(wanted), max(wanted)
        for frame in VideoReader(path):
            if round(frame.time_s or 0, 6) in wanted:
                small = reduced(frame.image, longest)
                if writer is None:
                    most = None if room is None else round(room * 3 / 4)  # bytes, of their Base64
                    writer = VideoWriter(
                        Path(folder) / "preview.mp4",
                        (small.shape[1], small.shape[0]),
                        fps=Fraction(25),
                        time_base=frame.time_base or Fraction(1, 90_000),
                        crf=27,
                        limit=None if most is None else limit_of(most, len(wanted), last - first),
                    )
                writer.write(small, frame.pts)
                passed(writer.frames)
            if (frame.time_s or 0) >= last:
                break
        video = None if writer is None else writer.close()
        if video is None:
            raise MediaError(f"{path} holds none of the frames.")
        return "data:video/mp4;base64," + base64.b64encode(video.read_bytes()).decode()


def limit_of(most: int, frames: int, seconds: float) -> tuple[int, int]:
    """Return bits per second and bits at once with which so many frames take no more bytes than ``most``."""
    # The encoder counts by the times of the frames; what may come at once is left for them to vary by.
    at_once = round(most * 8 * min(25, max(1, frames / 10)) / frames)
    return max(1000, round((most * 8 - at_once) / max(seconds, 0.04))), max(1000, at_once)
