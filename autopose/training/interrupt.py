"""SIGTERM and Ctrl-C as a wish to stop after the current step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield the question whether a signal came; handlers are put back at the end.

    Outside of the main thread signals cannot be handled: the answer is then always no.
    """
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    previous = {}
    try:
        for kind in (signal.SIGTERM, signal.SIGINT):
            previous[kind] = signal.signal(kind, ask)
    except ValueError:
        pass
    try:
        yield lambda: asked
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
