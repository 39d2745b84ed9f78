"""Stages in threads, joined by bounded queues: order kept, errors named after their stage, nothing left running."""

import atexit
import logging
import os
import threading
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from autopose.errors import AutoposeError, BackendError

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Items whose times a stage keeps.
TIMED = 100_000
#: Seconds that the program's end waits for the threads of the pipelines that it left unfinished.
_LAST_WAIT_S = 10.0
#: What stops each pipeline under way, within so many seconds (None: without a limit).
_under_way: "set[Callable[[float | None], None]]" = set()
if hasattr(os, "register_at_fork"):  # a forked process has none of these threads
    os.register_at_fork(after_in_child=_under_way.clear)


@atexit.register
def _stop_all() -> None:
    """End what an iterator that was kept, half used, would leave running: Python kills such threads at its own end.

    If one is inside of FFmpeg or ONNX Runtime then, the C++ runtime aborts the whole program.
    """
    for stop in tuple(_under_way):
        stop(_LAST_WAIT_S)


class Aborted(Exception):  # noqa: N818 - not an error: the order to stop
    """The channel was given up by its other end."""


class Channel(Generic[T]):
    """A bounded queue between two threads that can be ended by the writer and given up by either side."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._ended = False
        self._aborted = False

    def put(self, item: T) -> None:
        """Append an item; wait while the queue is full.

        Raises:
            Aborted: nobody will take it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or len(self._items) < self._capacity)
            if self._aborted:
                raise Aborted
            self._items.append(item)
            self._changed.notify_all()

    def take(self, limit: int = 1) -> list[T]:
        """Return the next items, at most ``limit``, as many as are there; wait for the first; empty at the end.

        Raises:
            Aborted: the writer failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._items or self._ended)
            if self._aborted:
                raise Aborted
            taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            self._changed.notify_all()
            return taken

    def end(self) -> None:
        """Say that no item follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Wake both sides with ``Aborted``."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()


@runtime_checkable
class Interruptible(Protocol):
    """A source whose wait for the next item can be ended from another thread."""

    def interrupt(self) -> None:
        """End the wait and the iteration; may be called more than once, and after the end."""
        ...


@dataclass
class Stage:
    """One step of a pipeline.

    Attributes:
        name: for errors and timings.
        work: maps items to items; it may return fewer or more than it got (a smoother waits for later frames).
        flush: returns what is still held at the end.
        batch: how many waiting items ``work`` gets at once, at most.
        seconds: per item, measured: of the latest, at least :data:`TIMED` of them.
        total_s: seconds of all items.
    """

    name: str
    work: Callable[[list[Any]], Sequence[Any]]
    flush: Callable[[], Sequence[Any]] | None = None
    batch: int = 1
    seconds: "array[float]" = field(default_factory=lambda: array("f"), repr=False)
    total_s: float = field(default=0.0, repr=False)

    def took(self, seconds: float, items: int = 1) -> None:
        """Count items that took so many seconds together."""
        self.total_s += seconds
        self.seconds.extend([seconds / items] * items)
        if len(self.seconds) > 2 * TIMED:  # a stream may run for weeks
            del self.seconds[:-TIMED]

    def timings(self) -> dict[str, float]:
        """Return total seconds and milliseconds per item: ``p50_ms``, ``p95_ms``."""
        return {"total_s": self.total_s, **percentiles(self.seconds)}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 95th percentile in milliseconds, ``p50_ms`` and ``p95_ms``; 0 of nothing."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3 if len(seconds) else (0, 0)
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


class TimedSource(Generic[T]):
    """The items of a source, wrapped; the time to get each goes to a clock.

    Args:
        source: iterated once, and closed with this iteration if it is a generator.
        wrap: makes what the stages get.
        clock: stage that counts it.
    """

    def __init__(self, source: Iterable[Any], wrap: Callable[[Any], T], clock: Stage) -> None:
        self._source, self._wrap, self._clock = source, wrap, clock

    def __iter__(self) -> Iterator[T]:
        iterator = iter(self._source)
        begin = perf_counter()
        try:
            for item in iterator:
                self._clock.took(perf_counter() - begin)
                yield self._wrap(item)
                begin = perf_counter()
        finally:
            _close(iterator)

    def interrupt(self) -> None:
        """End the wait of a source that can wait for long."""
        if isinstance(self._source, Interruptible):
            self._source.interrupt()


class _Failure:
    """The first error of a pipeline and the stage that raised it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.stage = ""
        self._lock = threading.Lock()

    def set(self, stage: str, error: BaseException) -> None:
        with self._lock:
            if self.error is None:
                self.error, self.stage = error, stage


def run_stages(source: Iterable[Any], stages: Sequence[Stage], *, capacity: int = 4) -> Generator[Any]:
    """Send the items of a source through the stages, each in its own thread, and yield what comes out, in order.

    The source is read in a thread as well. When a stage fails, all others stop, the threads end, and its error is
    raised here: as it is where it is one of the package's own, else as a BackendError that names the stage. Closing
    the iterator early stops everything.

    Args:
        source: iterable of items; interrupted, if it is ``Interruptible``, when the stages stop before its end.
        stages: in order.
        capacity: items between two stages, at most.
    """
    channels: list[Channel[Any]] = [Channel(capacity) for _ in range(len(stages) + 1)]
    failure = _Failure()

    def abort_all() -> None:
        for channel in channels:
            channel.abort()
        if isinstance(source, Interruptible):  # a camera that is away would keep its reader waiting
            source.interrupt()

    def guarded(name: str, body: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                body()
            except Aborted:
                pass
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                failure.set(name, error)
                abort_all()

        return run

    def read() -> None:
        iterator = iter(source)
        try:
            for item in iterator:
                channels[0].put(item)
        finally:
            _close(iterator)
        channels[0].end()

    def drive(stage: Stage, inbox: Channel[Any], outbox: Channel[Any]) -> Callable[[], None]:
        def loop() -> None:
            while items := inbox.take(stage.batch):
                begin = perf_counter()
                results = stage.work(items)
                stage.took(perf_counter() - begin, len(items))
                for result in results:
                    outbox.put(result)
            for result in stage.flush() if stage.flush else ():
                outbox.put(result)
            outbox.end()

        return loop

    threads = [threading.Thread(target=guarded("decode", read), name="autopose-decode", daemon=True)]
    for i, stage in enumerate(stages):
        body = guarded(stage.name, drive(stage, channels[i], channels[i + 1]))
        threads.append(threading.Thread(target=body, name=f"autopose-{stage.name}", daemon=True))

    def stop(limit_s: float | None = None) -> None:
        abort_all()
        end = None if limit_s is None else monotonic() + limit_s
        for thread in threads:
            if thread.ident is not None:  # was started
                thread.join(None if end is None else max(0.0, end - monotonic()))

    _under_way.add(stop)
    try:
        for thread in threads:  # the system may refuse one: then those before it end, too
            thread.start()
        while items := channels[-1].take():
            yield from items
    except Aborted:
        pass
    finally:
        if stop in _under_way:  # not in a forked process: it has none of the threads, but the locks that they held
            stop()
            _under_way.discard(stop)
    if failure.error is not None:
        raise _named(failure.stage, failure.error)


def _close(iterator: Iterator[Any]) -> None:
    """End a generator now, so that it frees what it holds in this thread."""
    close = getattr(iterator, "close", None)
    if callable(close):
        close()


def _named(stage: str, error: BaseException) -> BaseException:
    """Return the error to raise in the caller's thread."""
    if isinstance(error, AutoposeError) or not isinstance(error, Exception):
        error.add_note(f"in the stage '{stage}'")
        return error
    named = BackendError(f"The stage '{stage}' failed: {type(error).__name__}: {error}")
    named.__cause__ = error
    return named
