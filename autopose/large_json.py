"""What reading JSON of hundreds of megabytes needs: time and memory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Number = TypeVar("Number", int, float)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the garbage collector rest while much is read: it would walk all of it, again and again, for nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def own(number: Number) -> Number:
    """Return a number as an object of its own, for what outlives the file that it was read from.

    The file's own object lies among the rest of its content, and would keep all of that from being given back to the
    system: a gigabyte for COCO's, in each process of a run.
    """
    return number * 1
