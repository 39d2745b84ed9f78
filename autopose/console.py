"""What the command line shows while it works: progress bars on a terminal, nothing elsewhere, errors as sentences."""

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_state = {"quiet": False}
_waits = logging.getLogger("autopose.waits")


class Bar(Protocol):
    """A progress bar."""

    def __call__(self, done: int, note: str = "") -> None:
        """Show that ``done`` of the total is done, with a short note behind."""
        ...

    def advance(self, count: int = 1) -> None:
        """Show that so many more are done."""
        ...

    def resize(self, total: int) -> None:
        """Set the total, when it becomes known later."""
        ...


class _OnStandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the time: while a bar is shown, lines go above it, and not behind it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)  # that nobody reads it any more is no reason to end the work


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
    """Choose what the command line prints: ``quiet`` hides progress and remarks, ``verbose`` shows log messages."""
    _state["quiet"] = quiet
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_OnStandardError()], force=True)
    logging.getLogger("autopose").setLevel(level)
    alone = os.environ.get("RANK", "0") == "0"  # of the processes of a training one says it
    _waits.setLevel(logging.INFO if alone and not quiet else logging.WARNING)
    if not verbose:  # OpenCV, not yet imported: what it says of a damaged picture is in our own sentence
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def is_quiet() -> bool:
    """Return whether remarks are to be left out."""
    return _state["quiet"]


def remark(text: str) -> None:
    """Print a line to standard error unless quiet."""
    if not is_quiet():
        sys.stderr.write(text + "\n")


def waiting(text: str) -> None:
    """Say what is being waited for, on the command line only: of the library's users nobody asked."""
    _waits.info(text)


def command_line(words: Sequence[str]) -> str:
    """Return a command to copy into this system's shell: those of Windows do not know single quotes."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Bar]:
    """Show a bar with the time to go on standard error, if that is a terminal; None: nobody knows the total (yet)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    console = Console(stderr=True)
    # In a narrow window the bar becomes shorter, not the figures; a long file name would push both out of the line.
    whole = Column(no_wrap=True)
    short = Column(no_wrap=True, overflow="ellipsis", max_width=max(10, console.width // 4))
    columns = (
        TextColumn("{task.description}", markup=False, table_column=short),  # a file name may hold braces and brackets
        BarColumn(),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TextColumn("to go"),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", markup=False),
    )
    disable = is_quiet() or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disable) as bar:
        task = bar.add_task(what, total=total, note="")
        yield _RichBar(bar, task)


class _RichBar:
    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self.bar, self.task = bar, task

    def __call__(self, done: int, note: str = "") -> None:
        self.bar.update(self.task, completed=done, note=note)

    def advance(self, count: int = 1) -> None:
        self.bar.advance(self.task, count)

    def resize(self, total: int) -> None:
        self.bar.update(self.task, total=total)
