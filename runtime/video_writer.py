"""H.264 videos that every browser plays: source timestamps, source audio, readable even after a kill.

Colours are those of BT.709, and the file says so: of a video that does not, players take HD for BT.709 and the rest for
BT.601.
"""

import heapq
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.files import atomic_path
from autopose.runtime.video import BT709, reason_of

log = logging.getLogger(__name__)

#: Audio that MP4 holds as it is; other kinds become AAC.
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
#: From frame to frame, in ticks of the file: MP4 counts a frame's duration in 31 bits, and the encoder reorders frames.
_LONGEST_TICKS = 2**31 - 2**24
#: FFmpeg's number of the colour range in which Y goes from 16 to 235.
_NARROW = 1
#: FFmpeg's SWS_BILINEAR and SWS_ACCURATE_RND (libswscale/swscale.h; PyAV 17 has no name for the latter). Without it
#: grey 128 is written as red 125, green 128, blue 127: everything darker, and less red.
_EXACT = 0x2 | 0x40000
#: Samples per second that AAC knows (ISO 14496-3, table 1.16).
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


class VideoWriter:
    """Writes ``STEM.part.mp4`` (in fragments: playable up to the last two seconds whenever the run dies), then the MP4.

    The first frame gets time 0; all distances between timestamps are the source's, but for pauses of hours that MP4
    cannot hold.

    Args:
        path: destination ``.mp4``.
        size_wh: of the frames; an odd side is extended by one pixel, as H.264 with 4:2:0 colours needs.
        fps: average rate, for the rate control.
        time_base: unit of the timestamps.
        crf: quality of x264, lower is better.
        preset: of x264: the slower, the smaller the file.
        limit: bits per second and bits at once that the pictures may take, at the price of their quality; None for as
            many as ``crf`` asks for.

    Raises:
        MediaError: the encoder or the destination cannot be opened.
        OSError: there is no room for it.
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        *,
        fps: Fraction,
        time_base: Fraction,
        crf: int = 20,
        preset: str = "veryfast",
        limit: tuple[int, int] | None = None,
    ) -> None:
        self.path = path
        self.part = path.with_name(f"{path.stem}.part.mp4")
        self.size_wh = size_wh
        self.frames = 0
        self._even_wh = (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)
        self._time_base = time_base
        self._step = max(1, round(1 / (fps * time_base)))
        ticks = time_base.denominator
        while ticks < 10_000:  # as FFmpeg makes them finer (libavformat/movenc.c, mov_init)
            ticks *= 2
        self._longest = max(self._step, int(_LONGEST_TICKS / (ticks * time_base)))
        self._first: int | None = None
        self._last, self._left_out = -1, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        try:
            self._container: Any = av.open(str(self.part.absolute()), "w", format="mp4", options=fragments)
            rate = fps.limit_denominator(100_000)
            options = {"crf": str(crf), "preset": preset, "g": str(max(1, round(2 * fps)))}
            if limit is not None:
                options |= {"maxrate": str(limit[0]), "bufsize": str(limit[1])}
            self._stream: Any = self._container.add_stream("libx264", rate=rate, options=options)
        except (FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{path}: cannot write H.264 video there: {error}.") from None
        self._stream.width, self._stream.height = self._even_wh
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 0  # the encoder's own choice
        self._stream.codec_context.time_base = time_base
        for tag in ("colorspace", "color_primaries", "color_trc"):
            setattr(self._stream.codec_context, tag, BT709)
        self._stream.codec_context.color_range = _NARROW
        self._stream.time_base = time_base
        try:
            self._container.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            self._container.close()
            self.part.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise  # a full disk: the size is not to blame
            raise MediaError(
                f"{path}: pictures of {size_wh[0]}x{size_wh[1]} cannot be written as H.264 video ({reason_of(error)}). "
                "Save images instead (--save images,json), or make them smaller."
            ) from None
        self._closed = False

    def write(self, image: NDArray[np.uint8], pts: int | None = None) -> None:
        """Append a frame ``(H, W, 3)`` BGR; timestamps that are missing or do not rise follow the frame rate."""
        if (image.shape[1], image.shape[0]) != self.size_wh:  # a stream may change its size, photographs differ
            image = _fitted(image, self.size_wh)
        right, bottom = self._even_wh[0] - self.size_wh[0], self._even_wh[1] - self.size_wh[1]
        if right or bottom:
            image = np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        if self._first is None:
            self._first = pts or 0
        position = self._last + self._step if pts is None else pts - self._first - self._left_out
        if self._last < 0:
            position = 0
        elif position <= self._last:
            position = self._last + self._step
        elif position - self._last > self._longest:  # a clock that was set while the recorder ran
            pause_s = float((position - self._last) * self._time_base)
            log.warning("%s: a pause of %.0f s is longer than MP4 can hold, and left out.", self.path, pause_s)
            self._left_out += position - self._last - self._step
            position = self._last + self._step
        self._last = position
        rgb = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=BT709, interpolation=_EXACT)
        frame.pts, frame.time_base = position, self._time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self, audio_from: Path | None = None) -> Path | None:
        """Finish the MP4, index first, and remove the part file; return the MP4 (None if there was no frame).

        Args:
            audio_from: a file whose sound to take along, from the first written frame to the last.
        """
        if self._closed:
            return self.path if self.frames else None
        self._closed = True
        if self.frames:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        if self.frames:
            first_s = float((self._first or 0) * self._time_base)
            length_s = float((self._last + self._step) * self._time_base)
            try:
                _finish(self.part, self.path, audio_from, first_s, length_s)
            except (FFmpegError, ValueError) as error:
                if audio_from is None:
                    raise
                log.warning("%s: the sound of %s cannot be taken along (%s).", self.path, audio_from, error)
                _finish(self.part, self.path, None, first_s, length_s)
        self.part.unlink(missing_ok=True)
        return self.path if self.frames else None


def _fitted(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the whole image, undistorted, in the middle of a black one of the size."""
    (height, width), (wide, tall) = image.shape[:2], size_wh
    scale = min(wide / width, tall / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (wide - inner[0]) // 2, (tall - inner[1]) // 2
    edges = top, tall - inner[1] - top, left, wide - inner[0] - left
    return np.asarray(cv2.copyMakeBorder(small, *edges, cv2.BORDER_CONSTANT, value=(0, 0, 0)), np.uint8)


def _finish(part: Path, destination: Path, audio_from: Path | None, first_s: float, length_s: float) -> None:
    """Copy the fragments into a plain MP4 with its index in front, and the sound beside them."""
    sound: Any = None
    try:
        if audio_from is not None:
            sound = av.open(str(audio_from.absolute()))
        with (
            atomic_path(destination) as temporary,
            av.open(str(part.absolute())) as pictures,
            av.open(str(temporary.absolute()), "w", format="mp4", options={"movflags": "faststart"}) as out,
        ):
            stream = pictures.streams.video[0]
            target = out.add_stream_from_template(stream)
            flows = [_copied(pictures, stream, target, 0.0, None)]
            if sound is not None and sound.streams.audio and sound.streams.audio[0].codec_context is None:
                log.warning("%s: the sound of %s is of an unknown kind and left out.", destination, audio_from)
            elif sound is not None and sound.streams.audio:
                flows.append(_sound(sound, out, first_s, length_s))
            for _, packet in heapq.merge(*flows, key=lambda timed: timed[0]):
                out.mux(packet)
    finally:
        if sound is not None:
            sound.close()


def _copied(
    container: Any, stream: Any, target: Any, first_s: float, length_s: float | None
) -> Iterator[tuple[float, Any]]:
    """Yield (time, packet) of a stream: the pictures from their first frame, the sound from ``first_s`` on."""
    shift: int | None = None if length_s is None else round(first_s / stream.time_base)
    for packet in container.demux(stream):
        if packet.dts is None:
            continue
        if shift is None:  # fragments start late by the encoder's reordering delay; the first packet is the first frame
            shift = packet.pts or 0
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        time_s = float(packet.dts * stream.time_base)
        if length_s is not None and time_s < 0:
            continue
        if length_s is not None and time_s > length_s:
            return
        packet.stream = target
        yield time_s, packet


def _sound(sound: Any, out: Any, first_s: float, length_s: float) -> Iterator[tuple[float, Any]]:
    """Return the audio packets: as they are where MP4 takes them, else as AAC."""
    stream = sound.streams.audio[0]
    if stream.codec_context.name in _MP4_AUDIO:
        return _copied(sound, stream, out.add_stream_from_template(stream), first_s, length_s)
    rate = min(_AAC_RATES, key=lambda known: abs(known - stream.codec_context.sample_rate))
    target = out.add_stream("aac", rate=rate)
    return _as_aac(sound, stream, target, first_s, length_s)


def _as_aac(sound: Any, stream: Any, target: Any, first_s: float, length_s: float) -> Iterator[tuple[float, Any]]:
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=target.codec_context.sample_rate)
    time_s = 0.0
    try:
        for decoded in sound.decode(stream):
            if decoded.time is None or not first_s <= decoded.time <= first_s + length_s:
                continue
            decoded.pts = round((decoded.time - first_s) / decoded.time_base)
            for frame in resampler.resample(decoded):
                for packet in target.encode(frame):
                    time_s = float(packet.dts * packet.time_base) if packet.dts is not None else time_s
                    yield time_s, packet
    except FFmpegError as error:
        log.warning("The sound could not be decoded to its end: %s.", error)
    for packet in target.encode(None):
        yield time_s, packet
