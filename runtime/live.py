"""Webcams and network streams: always the newest frame, reconnecting when the source goes away."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.runtime.sources import Selection, Source, SourceSpec
from autopose.runtime.video import Frame

log = logging.getLogger(__name__)

#: Timestamps of live frames are wall time in this unit, as RTP's video clock.
LIVE_TIME_BASE = Fraction(1, 90_000)


class Feed(Protocol):
    """A connection that gives images until it breaks, or until its end if it is ``finite``."""

    fps: float
    finite: bool

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next image ``(H, W, 3)`` BGR, or None when the connection has ended."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


@dataclass(frozen=True)
class Reconnect:
    """How to come back after a loss.

    Attributes:
        first_s: wait before the first attempt; doubled after each failure.
        longest_s: longest wait between attempts.
        give_up_s: end the source after this long without a frame.
    """

    first_s: float = 0.5
    longest_s: float = 10.0
    give_up_s: float = 60.0


class LiveSource(Source):
    """Reads a live source in its own thread and hands out the newest frame; older ones are dropped and counted.

    Args:
        spec: webcam number or stream address.
        selection: ``end_s`` and ``max_frames`` end it, ``stride`` thins it; there is no ``start_s``.
        reconnect: what to do when it goes away.
        connect: opens a feed, for tests.

    Raises:
        MediaError: it cannot be opened to begin with.
    """

    def __init__(
        self,
        spec: SourceSpec,
        selection: Selection,
        reconnect: Reconnect | None = None,
        connect: Callable[[str], Feed] | None = None,
    ) -> None:
        super().__init__(spec)
        self._selection, self._reconnect = selection, reconnect or Reconnect()
        self._connect = connect or open_feed
        self._feed: Feed | None = self._connect(spec.location)
        self.fps = Fraction(self._feed.fps).limit_denominator(1001)
        self.has_audio = False
        self.dropped = self.received = self.gaps = 0
        self.gap_s = self.oldest_shown_s = 0.0
        self._newest: tuple[NDArray[np.uint8], float, int] | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="autopose-live", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        begin, shown = time.monotonic(), 0
        try:
            while (taken := self._take()) is not None:
                image, received, number = taken
                self.oldest_shown_s = max(self.oldest_shown_s, time.monotonic() - received)
                time_s = max(0.0, received - begin)
                if self._selection.end_s is not None and time_s > self._selection.end_s:
                    return
                if number % self._selection.stride:
                    continue
                yield Frame(image, number, time_s, round(time_s / LIVE_TIME_BASE), LIVE_TIME_BASE)
                shown += 1
                if shown == self._selection.max_frames:
                    return
        finally:
            self.close()

    def _take(self) -> tuple[NDArray[np.uint8], float, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended or self._stopped)
            taken, self._newest = self._newest, None
            return None if self._stopped else taken

    def _read(self) -> None:
        """Fill the one place for the newest frame until told to stop."""
        last = time.monotonic()
        while not self._stopped:
            image = None if self._feed is None else self._feed.read()
            if image is not None:
                gap, last = time.monotonic() - last, time.monotonic()
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = image, last, self.received
                    self.received += 1
                    self._changed.notify_all()
                continue
            if (self._feed is not None and self._feed.finite) or not self._come_back(last):
                break
            gap = time.monotonic() - last
            self.gaps, self.gap_s = self.gaps + 1, self.gap_s + gap
            log.warning("%s: back after %.1f s without a frame.", self.spec.location, gap)
        self._hang_up()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _come_back(self, last: float) -> bool:
        """Try to connect again, waiting longer each time; return whether it worked."""
        self._hang_up()
        wait = self._reconnect.first_s
        log.warning("%s: the connection was lost; trying again.", self.spec.location)
        while not self._stopped and time.monotonic() - last < self._reconnect.give_up_s:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, timeout=wait)
            if self._stopped:
                return False
            try:
                self._feed = self._connect(self.spec.location)
            except MediaError as error:
                log.info("%s", error)
                wait = min(2 * wait, self._reconnect.longest_s)
            else:
                return True
        if not self._stopped:
            self.problem = f"{self.spec.location}: ended: no frame for {self._reconnect.give_up_s:g} s."
        return False

    def _hang_up(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def report(self) -> dict[str, float | int]:
        """Return frames received and dropped, gaps and their seconds, and the greatest age of a frame handed out."""
        return {
            "received": self.received,
            "dropped": self.dropped,
            "gaps": self.gaps,
            "gap_s": round(self.gap_s, 2),
            "oldest_frame_s": round(self.oldest_shown_s, 3),
        }

    def close(self) -> None:
        """Stop reading and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._hang_up()


class StreamFeed:
    """A network stream through FFmpeg, with time limits, so that a dead server is noticed."""

    def __init__(self, address: str, timeout_s: float = 5.0) -> None:
        options = {"rtsp_transport": "tcp"} if address.lower().startswith("rtsp") else {}
        options |= {"fflags": "nobuffer", "flags": "low_delay"}
        try:
            self._container = av.open(address, timeout=(timeout_s, timeout_s), options=options)
        except (FFmpegError, OSError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            raise MediaError(f"{address}: the stream cannot be opened ({reason}). Is the server running?") from None
        if not self._container.streams.video:
            self._container.close()
            raise MediaError(f"{address}: the stream has no pictures.")
        stream = self._container.streams.video[0]
        self.fps = float(stream.average_rate or stream.guessed_rate or 25)
        self.finite = bool(self._container.duration)  # a file on a server: its end is no loss
        self._frames = self._container.decode(stream)

    def read(self) -> NDArray[np.uint8] | None:
        """Return the next frame; None when the stream has broken off."""
        try:
            frame = next(self._frames, None)
        except (FFmpegError, OSError):
            return None
        return None if frame is None else np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


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
