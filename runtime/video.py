"""Videos decoded frame by frame with exact timestamps, upright, and with a word on what was missing at the end."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.runtime.missing_end import missing_end, no_frame

Opener = Callable[[], InputContainer]
#: A clock that goes back further than this was set anew; less is a frame out of order.
CLOCK_JUMP_S = 1.0
#: Places to skip to, in seconds before the one asked for, until a key frame lies before it.
_SKIP_BACK_S = (0.0, 3.0, 30.0)
#: Number of BT.709 among the matrices, primaries and transfer functions (ISO/IEC 23091-2), and of "not said".
BT709, _UNSAID = 1, 2
#: FFmpeg's number of the colour range in which Y goes from 0 to 255.
_FULL = 2
#: Containers in which a place is not found again by its time: these are decoded from the beginning.
_NOT_TO_SKIP = frozenset({"mpeg", "h264", "hevc", "m4v", "mpegvideo"})


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        image: ``(H, W, 3)`` uint8 BGR, as players show it: upright, not mirrored, with square pixels.
        index: number in the source, from 0.
        time_s: seconds from the source's start; None for separate images.
        pts: the container's own timestamp in units of ``time_base``.
        time_base: seconds per unit of ``pts``.
        name: the file of a separate image.
        stem: of a separate image's output files, unique within a run.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float | None = None
    pts: int | None = None
    time_base: Fraction | None = None
    name: str | None = None
    stem: str | None = None

    @property
    def image_id(self) -> int:
        """Return COCO's number: the one at the end of a separate image's file name, else that of the frame."""
        found = re.search(r"(\d+)$", Path(self.name).stem) if self.name else None
        return int(found[1]) if found else self.index

    @property
    def size_wh(self) -> tuple[int, int]:
        """Return width and height."""
        return self.image.shape[1], self.image.shape[0]


class VideoReader:
    """A video file, iterated once for its frames.

    Args:
        path: file; with ``reopened``, only what it is called in messages.
        start_s: skip what comes before.
        end_s: stop there.
        stride: take every n-th frame.
        reopened: opens the video from its beginning, if it is no file of this machine.

    Attributes:
        name: of the video, for messages.
        fps: average frames per second.
        duration_s: as far as the file says; None if it does not.
        frame_count: how many frames will come, as far as the file says; None if it does not.
        has_audio: whether there is sound beside the pictures.
        problem: after the last frame, what was wrong with the file, as a sentence; None if it was whole.

    Raises:
        MediaError: the file is missing, empty, damaged from the start, or has no picture.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        stride: int = 1,
        reopened: Opener | None = None,
    ) -> None:
        self.name = str(path)
        self.start_s, self.end_s, self.stride = start_s, end_s, stride
        self._distant = reopened is not None
        self._open = reopened or partial(_opened, Path(path))
        self._orientation = Orientation()
        self._take(self._open())
        self.fps = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.duration_s = self._duration()
        self._promised = self._frames_shown()
        self.frame_count = self._expected()
        self.has_audio = bool(self._container.streams.audio)
        self._heard_s = 0.0  # the time of the last sound, by the container's clock
        self.problem: str | None = None

    def _take(self, container: InputContainer) -> None:
        """Read from this container from now on."""
        known = [stream for stream in container.streams.video if getattr(stream, "codec_context", None)]  # a decoder
        if not known:
            kinds = sorted({str(s.type) for s in container.streams} - {"video"}) or ["what FFmpeg cannot decode"]
            container.close()
            raise MediaError(f"{self.name}: has no pictures, only {', '.join(kinds)}. Give a file with a video stream.")
        self._container = container
        self._is_avi = container.format.name == "avi"
        self._stream = known[0]
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = 0  # the decoder's own choice

    def _duration(self) -> float | None:
        if self._stream.duration and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1_000_000 if self._container.duration else None

    def _frames_shown(self) -> int:
        """Return how many frames the file names, 0 if it does not; those that an edit list cuts away do not count."""
        named, whole_s = int(self._stream.frames), (self._container.duration or 0) / 1_000_000
        shown = round(whole_s * float(self.fps))
        return shown if shown and named > shown * 1.02 + 2 else named

    def _expected(self) -> int | None:
        """Return how many frames will come, by what the file says."""
        total = self._promised or (round(self.duration_s * self.fps) if self.duration_s else 0)
        if not total:
            return None
        first = round(self.start_s * self.fps)
        last = total if self.end_s is None else min(total, int(self.end_s * self.fps) + 1)
        return max(0, -(-last // self.stride) - -(-first // self.stride))  # every n-th counts from the file's start

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._frames()
        finally:
            self.close()

    def _frames(self) -> Iterator[Frame]:
        time_base = self._stream.time_base or 1 / self.fps
        origin = self._origin()
        half_frame_s = float(1 / self.fps) / 2
        count, index, last_s, later_s = 0, -1, 0.0, 0.0
        for decoded, stamp in self._from_start(origin, time_base):
            if not count and stamp is not None and self._is_avi and not self.start_s:
                origin = stamp
            pts = stamp if stamp is not None else origin + round((index + 1) / self.fps / time_base)
            time_s = float((pts - origin) * time_base) + later_s
            if time_s < last_s - CLOCK_JUMP_S:  # files joined end to end, a recorder that was started anew
                later_s += last_s + 2 * half_frame_s - time_s
                time_s = last_s + 2 * half_frame_s
            index = round(time_s * self.fps) if index < 0 and self.start_s > 0 else index + 1
            count, last_s = count + 1, max(last_s, time_s)
            if self.end_s is not None and time_s > self.end_s:
                return
            if time_s < self.start_s - half_frame_s or index % self.stride:
                continue
            image = as_shown(decoded, self._stream.sample_aspect_ratio, self._orientation)
            yield Frame(image, index, time_s, pts, time_base)
        self._judge(count, last_s, float(origin * time_base))

    def _origin(self) -> int:
        """Return the timestamp from which times and numbers count.

        AVI has no times to show a picture, only an order to decode: the first is late by the decoder's delay. A part's
        numbers would be, too, so the first picture is looked at.
        """
        origin = self._stream.start_time or 0
        if not self._is_avi or not self.start_s:
            return origin
        first = next(self._timed(), None)
        self._container.close()
        self._take(self._open())
        return origin if first is None or first[1] is None else first[1]

    def _from_start(self, origin: int, time_base: Fraction) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Decode with timestamps from a key frame before ``start_s``; what lies between the caller drops.

        Containers without an index (MPEG-TS, some AVI) are skipped to a place after the one asked for: then the place
        before is asked for, and at last all is decoded.
        """
        asked = False
        if self.start_s > 0 and self._container.format.name not in _NOT_TO_SKIP:
            for back_s in _SKIP_BACK_S:
                target_s, asked = max(0.0, self.start_s - back_s), True
                try:
                    self._container.seek(origin + int(target_s / time_base), stream=self._stream)
                except (FFmpegError, OSError):
                    break  # a server that cannot skip, a bare bit stream
                frames = self._timed()
                first = next(frames, None)
                stamp = None if first is None else first[1]
                if first is not None and stamp is not None and (stamp - origin) * time_base <= self.start_s:
                    yield first
                    yield from frames
                    return
                if not target_s:
                    break
        if asked:  # a server without ranges may say only now that it cannot skip
            self._container.close()
            self._take(self._open())
        self.problem = None
        yield from self._timed()

    def _timed(self) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Decode with timestamps that players trust: some AVI files give those of the B frames in the wrong order.

        As FFmpeg's ``guess_correct_pts``: the time to decode counts as soon as the time to show has run backwards
        more often.
        """
        backwards = {"pts": int(self._is_avi), "dts": 0}  # AVI has no times to show a picture: they are guesses
        last: dict[str, int] = {}
        ahead: int | None = None
        given, step = 0, 0
        for decoded in self._decoded():
            stamps = {"pts": decoded.pts, "dts": decoded.dts}
            for name, stamp in stamps.items():
                if stamp is not None:
                    backwards[name] += stamp < last.get(name, stamp)
                    last[name] = stamp
            pts, dts = stamps["pts"], stamps["dts"]
            if ahead is None and pts is not None and dts is not None:
                ahead = pts - dts
            if dts is not None and (pts is None or backwards["pts"] > backwards["dts"]):
                pts = dts + (ahead or 0)
            elif backwards["pts"] > backwards["dts"]:  # the last frames come without a packet of their own
                pts = given + step
            if pts is not None:
                given, step = pts, pts - given
            yield decoded, pts

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Decode to the end; a packet or file that breaks off is noted, and what can still be decoded is."""
        try:
            packets: Iterator[Any] = self._container.demux(self._stream, *self._container.streams.audio)
            for packet in packets:
                if packet.stream.index != self._stream.index:
                    if packet.pts and packet.time_base:
                        self._heard_s = max(self._heard_s, float(packet.pts * packet.time_base))
                    continue
                try:
                    yield from packet.decode()
                except FFmpegError as error:
                    self.problem = f"{self.name}: a part of it could not be decoded ({reason_of(error)})."
        except (FFmpegError, OSError) as error:
            self.problem = f"{self.name}: could not be read to its end ({reason_of(error)})."

    def _judge(self, count: int, last_s: float, origin_s: float) -> None:
        """Compare what came with what the file promised."""
        if not count and self.problem is None and self.start_s > (self.duration_s or 0):
            return  # nothing is wrong with the file
        if not count:
            met = (self.problem or "no data").removeprefix(f"{self.name}: ").rstrip(".")
            raise MediaError(f"{self.name}: {no_frame(met, distant=self._distant)}")
        judged = self.start_s == 0 or not self._promised
        if not self._stream.duration or self._is_avi:  # by the container's clock, of all streams: sound may go on alone
            last_s = max(last_s + origin_s, self._heard_s)
        if judged and (missing := missing_end(count, self._promised, last_s, self.duration_s or 0)):
            self.problem = f"{self.name}: {missing}"

    def close(self) -> None:
        """Close the file; may be called more than once."""
        self._container.close()


class Orientation:
    """How the frames of one stream are turned or mirrored; read anew when their rotation or their size changes.

    Not of every frame: PyAV ties a frame whose side data were read to these in a cycle, so that its picture and the
    threads which converted it stay until Python's collector comes by. Of HD that was 0.5 GB and hundreds of threads.
    """

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._matrix: list[int] | None = None

    def matrix_of(self, decoded: av.VideoFrame) -> list[int] | None:
        """Return a, b, 0, c, d of a frame's display matrix, x' = a x + c y, y' = b x + d y; None where it has none."""
        seen = decoded.rotation, decoded.width, decoded.height
        if seen != self._seen:
            matrix: Any = decoded.side_data.get("DISPLAYMATRIX")
            self._seen = seen
            self._matrix = None if matrix is None else np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        return self._matrix


def as_shown(
    decoded: av.VideoFrame, sample_aspect_ratio: Fraction | None, orientation: Orientation
) -> NDArray[np.uint8]:
    """Return a frame as players show it, ``(H, W, 3)`` BGR: with square pixels, upright, not mirrored.

    Args:
        decoded: the frame.
        sample_aspect_ratio: width over height of its pixels, as the stream says; None for square ones.
        orientation: of its stream.
    """
    image = np.asarray(decoded.to_ndarray(format="bgr24", src_colorspace=_guessed_matrix(decoded)), np.uint8)
    aspect = float(sample_aspect_ratio or 1)
    if aspect != 1 and 0.3 < aspect < 3:  # DV, DVD, HDV; the longer way, so that nothing is lost
        height, width = image.shape[:2]
        size_wh = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        image = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)
    a, b, _, c, d = orientation.matrix_of(decoded) or (1, 0, 0, 0, 1)
    if a * d - b * c < 0:  # mirrored, by a selfie camera
        image = image if a else image.transpose(1, 0, 2)
        image = image[:: -1 if (d or b) < 0 else 1, :: -1 if (a or c) < 0 else 1]
        return np.ascontiguousarray(image)
    turns = round(decoded.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _guessed_matrix(decoded: av.VideoFrame) -> int | None:
    """Return the matrix of a frame's colours where players guess another than FFmpeg's BT.601; None to take its own."""
    high = decoded.height > 576 or decoded.width >= 1280
    unsaid = decoded.colorspace == _UNSAID and decoded.color_range != _FULL  # Motion JPEG is BT.601 at every size
    return BT709 if high and unsaid and decoded.format.name.startswith("yuv4") else None


def _opened(path: Path) -> InputContainer:
    if not path.is_file():
        raise MediaError(f"No video {str(path)!r}. Give an existing file.")
    if not path.stat().st_size:
        raise MediaError(f"{path}: the file is empty (0 bytes); expected a video.")
    try:
        return av.open(str(path.absolute()))  # FFmpeg takes "12:30.mp4" for a protocol
    except (FFmpegError, OSError) as error:
        raise MediaError(
            f"{path}: cannot be opened as a video ({reason_of(error)}). It is damaged, cut off, or no video."
        ) from None


def reason_of(error: Exception) -> str:
    """Return what an error of FFmpeg says, without a full stop."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
