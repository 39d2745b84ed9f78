"""Connections to webcams and network streams, which give one image after the other until they break."""

from collections.abc import Iterator
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.runtime.video import Orientation, as_shown, reason_of

#: FFmpeg's options against delay. What is read to find out the format is thrown away, so that a file on a server would
#: lose its first group of pictures.
AT_ONCE = {"fflags": "nobuffer", "flags": "low_delay"}
#: A server that says nothing for so long, when it is called or later, is dead.
TIMEOUT_S = 5.0


class Feed(Protocol):
    """A connection that gives images until it breaks.

    Attributes:
        fps: frames per second.
        finite: it is a file on a server, to be read as a video (:func:`open_recording`).
    """

    fps: float
    finite: bool

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next image ``(H, W, 3)`` BGR, or None when the connection has ended."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class StreamFeed:
    """A network stream through FFmpeg, with time limits, so that a dead server is noticed."""

    def __init__(self, address: str) -> None:
        self._container = _opened(address, AT_ONCE)
        # A picture on a server has no length, and FFmpeg reads it with jpeg_pipe, png_pipe and the like.
        self.finite = bool(self._container.duration) or self._container.format.name.endswith("_pipe")
        self._stream = self._container.streams.video[0]
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        self._orientation = Orientation()
        self._frames = self._decoded()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for packet in self._container.demux(self._stream):
            try:
                yield from packet.decode()
            except InvalidDataError:
                continue  # damaged on its way; the next ones may be whole

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next frame; None when the stream has broken off or is over."""
        try:
            frame = next(self._frames, None)
        except (FFmpegError, OSError):
            return None
        return None if frame is None else as_shown(frame, self._stream.sample_aspect_ratio, self._orientation)

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


def open_recording(address: str) -> InputContainer:
    """Open a file on a server for :class:`~autopose.runtime.video.VideoReader`.

    Raises:
        MediaError: it cannot be opened.
    """
    return _opened(address, {})


def _opened(address: str, options: dict[str, str]) -> InputContainer:
    """Open a stream that has pictures."""
    transport = {"rtsp_transport": "tcp"} if address.lower().startswith("rtsp") else {}
    try:
        container = av.open(address, timeout=(TIMEOUT_S, TIMEOUT_S), options=transport | options)
    except (FFmpegError, OSError) as error:
        hint = "Is the server running?"
        if isinstance(error, InvalidDataError):  # it answered, with something else
            hint = "A page that shows a video is none: give the address of the stream or file itself."
        raise MediaError(f"{address}: the stream cannot be opened ({reason_of(error)}). {hint}") from None
    if not container.streams.video:
        container.close()
        raise MediaError(f"{address}: the stream has no pictures.")
    return container


class WebcamFeed:
    """A camera of this machine, through OpenCV."""

    finite = False

    def __init__(self, number: int) -> None:
        logging_of = cv2.utils.logging  # OpenCV would print its own lines about a missing camera
        level = logging_of.getLogLevel()
        logging_of.setLogLevel(logging_of.LOG_LEVEL_SILENT)
        self._capture: Any = cv2.VideoCapture(number)
        logging_of.setLogLevel(level)
        if not self._capture.isOpened():
            self._capture.release()
            raise MediaError(f"No webcam {number}. Count starts at 0; is it plugged in, and not in use elsewhere?")
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS) or 30)

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next frame; None when the camera is gone."""
        found, image = self._capture.read()
        return np.asarray(image, np.uint8) if found else None

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def open_feed(location: str) -> Feed:
    """Open a webcam (a number) or a stream (an address).

    Raises:
        MediaError: it cannot be opened.
    """
    return WebcamFeed(int(location)) if location.isdecimal() else StreamFeed(location)
