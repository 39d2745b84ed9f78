"""What the command line shows while it works: progress bars on a terminal, nothing elsewhere, errors as sentences."""

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_state = {"quiet": False}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
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

    def of(self, done: int, total: int | None, note: str = "") -> None:
        """Show both, as a library's callbacks tell them; None: nobody knows the total (yet)."""
        ...


class _OnStandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the time: while a bar is shown, lines go above it, and not behind it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)  # that nobody reads it any more is no reason to end the work

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Printable:
    """A text stream that writes what is :func:`printable`; for the rest it is the stream given."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text."""
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


def printable(text: str) -> str:
    r"""Return a text with control characters but tabs and line ends as ``\x1b``: in a name they move the cursor."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


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
        sys.stderr.write(printable(text) + "\n")


def waiting(text: str) -> None:
    """Say what is being waited for, on the command line only: of the library's users nobody asked."""
    _waits.info(text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with what it counts: ``1 frame``, ``1,200 frames``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


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
        TextColumn("{task.fields[to_go]}"),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", markup=False),
    )
    disable = is_quiet() or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disable) as bar:
        task = bar.add_task(printable(what), total=total, note="", to_go=_to_go(total))
        yield _RichBar(bar, task)


class _RichBar:
    def __init__(self, bar: "Progress", task: "TaskID") -> None:
        self.bar, self.task = bar, task
        self._total: int | None = None

    def __call__(self, done: int, note: str = "") -> None:
        self.bar.update(self.task, completed=done, note=note)

    def advance(self, count: int = 1) -> None:
        self.bar.advance(self.task, count)

    def resize(self, total: int) -> None:
        self.bar.update(self.task, total=total, to_go=_to_go(total))

    def of(self, done: int, total: int | None, note: str = "") -> None:
        if total is not None and total != self._total:
            self._total = total
            self.resize(total)
        self(done, note)


def _to_go(total: int | None) -> str:
    """Return what stands between the time gone by and the time to go; without a total there is only the former."""
    return "" if total is None else "to go"
