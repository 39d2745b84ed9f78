"""Webcams and network streams: always the newest frame, reconnecting when the source goes away."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.runtime.feeds import Feed, open_feed
from autopose.runtime.sources import Selection, Source, SourceSpec
from autopose.runtime.video import Frame

log = logging.getLogger(__name__)

#: Timestamps of live frames are wall time in this unit, as RTP's video clock.
LIVE_TIME_BASE = Fraction(1, 90_000)


@dataclass(frozen=True)
class Reconnect:
    """How to come back after a loss.

    Attributes:
        first_s: wait before the first attempt; doubled after each one that gave no frame.
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
        connect: opens a feed.
        feed: the first one, where it is open already.

    Raises:
        MediaError: it cannot be opened to begin with.
    """

    def __init__(
        self,
        spec: SourceSpec,
        selection: Selection,
        reconnect: Reconnect | None = None,
        connect: Callable[[str], Feed] | None = None,
        feed: Feed | None = None,
    ) -> None:
        super().__init__(spec)
        self._selection, self._reconnect = selection, reconnect or Reconnect()
        self._connect = connect or open_feed
        self._feed: Feed | None = feed or self._connect(spec.location)
        # Cameras report 0, -1 or worse where they do not know.
        known = math.isfinite(self._feed.fps) and 0 < self._feed.fps < 1000
        self.fps = Fraction(self._feed.fps if known else 25).limit_denominator(1001) / selection.stride
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
        end = None if self._selection.end_s is None else begin + self._selection.end_s
        try:
            while (taken := self._take(end)) is not None:
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

    def _take(self, end: float | None) -> tuple[NDArray[np.uint8], float, int] | None:
        """Wait for a frame until ``end`` on the clock; None then, and after the last one."""
        left = None if end is None else max(0.0, end - time.monotonic())
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended or self._stopped, timeout=left)
            taken, self._newest = self._newest, None
            return None if self._stopped else taken

    def _read(self) -> None:
        """Fill the one place for the newest frame until told to stop."""
        try:
            self._read_on()
        except Exception as error:  # of a camera's driver, say: whoever waits for a frame must hear of it
            log.debug("%s", self.spec.location, exc_info=error)
            self.problem = f"{self.spec.location}: ended: {type(error).__name__}: {error}."
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._hang_up()

    def _read_on(self) -> None:
        last, lost, wait_s = time.monotonic(), False, self._reconnect.first_s
        while not self._stopped:
            image = None if self._feed is None else self._feed.read()
            if image is None:  # also of a feed that was opened again: a camera that starts gives no picture yet
                if not lost:
                    log.warning("%s: the connection was lost; trying again.", self.spec.location)
                lost = True
                if not self._tried_again(last, wait_s):
                    return
                wait_s = min(2 * wait_s, self._reconnect.longest_s)
                continue
            gap, last = time.monotonic() - last, time.monotonic()
            if lost:
                self.gaps, self.gap_s = self.gaps + 1, self.gap_s + gap
                log.warning("%s: back after %.1f s without a frame.", self.spec.location, gap)
            lost, wait_s = False, self._reconnect.first_s
            with self._changed:
                self.dropped += self._newest is not None
                self._newest = image, last, self.received
                self.received += 1
                self._changed.notify_all()

    def _tried_again(self, last: float, wait_s: float) -> bool:
        """Wait and try to connect again, with or without success; return False when it is time to end."""
        self._hang_up()
        if time.monotonic() - last >= self._reconnect.give_up_s:
            self.problem = f"{self.spec.location}: ended: no frame for {self._reconnect.give_up_s:g} s."
            return False
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, timeout=wait_s)
        if self._stopped:
            return False
        try:
            self._feed = self._connect(self.spec.location)
        except MediaError as error:
            log.info("%s", error)
        return True

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

    def interrupt(self) -> None:
        """End the wait for the next frame and the iteration, from any thread; the connection is closed by its own."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading and end the thread."""
        self.interrupt()
        if self._thread.is_alive():
            self._thread.join()
        self._hang_up()
