"""What the command line shows beside its results: on a terminal a bar, with -q hardly anything, with -v more."""

import io
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from autopose.commands.infer import _bar
from autopose.console import Printable, counted, printable, progress, remark, set_verbosity, waiting
from autopose.runtime.sources import SourceSpec


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    set_verbosity()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, ["remark", "warning", "foreign warning"]),
        ({"quiet": True}, ["foreign warning"]),
        ({"verbose": True}, ["remark", "warning", "detail", "foreign warning"]),
    ],
)
def test_what_is_said(
    words: dict[str, bool], said: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "")
    monkeypatch.delenv("OPENCV_LOG_LEVEL")
    set_verbosity(**words)
    remark("remark")
    for name, prefix in (("autopose.runtime.module", ""), ("another", "foreign ")):
        log = logging.getLogger(name)
        log.warning("%swarning", prefix)
        log.debug("%sdetail", prefix)
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()) == ("", said)
    waiting("what is waited for")
    assert capsys.readouterr().err == ("" if "quiet" in words else "what is waited for\n")
    monkeypatch.setenv("RANK", "1")
    set_verbosity(**words)
    waiting("what rank 0 says already")
    assert not capsys.readouterr().err
    assert os.environ.get("OPENCV_LOG_LEVEL") == (None if "verbose" in words else "SILENT")


@pytest.mark.parametrize(
    ("stream", "quiet", "shown"), [(Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)]
)
def test_a_bar_is_for_terminals(
    stream: io.StringIO, quiet: bool, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    set_verbosity(quiet=quiet)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress(1, "pictures") as bar:
        bar.resize(8)
        bar(2, "a note")
        bar.advance(3)
    for words in ("pictures", "5/8", "a note"):
        assert (words in stream.getvalue()) == shown
    assert not capsys.readouterr().out.strip()


def test_without_a_total_the_time_gone_by_is_not_called_the_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    set_verbosity()
    with progress(None, "pictures") as bar:
        bar.advance(3)
    assert "3/?" in stream.getvalue()
    assert "to go" not in stream.getvalue()
    with progress(None, "pictures") as bar:
        bar.resize(8)
    assert "to go" in stream.getvalue()


def test_a_long_name_leaves_room_for_the_bar_and_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    set_verbosity()
    with progress(90_000, "a name that phones and cameras make, and nobody would type by hand, 2026-11-30.mp4") as bar:
        bar(45_000, "loss 0.0123")
    assert "45000/90000" in stream.getvalue()
    assert "━" in stream.getvalue()
    assert "loss 0.0123" in stream.getvalue()


def test_a_bar_takes_what_a_librarys_callbacks_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    set_verbosity()
    with progress(None, "frames") as bar:
        bar.of(3, None)
        bar.of(4, 9, "a note")
    assert "4/9" in stream.getvalue()
    assert "a note" in stream.getvalue()


def test_one_is_no_plural() -> None:
    assert [counted(n, "frame") for n in (0, 1, 1200)] == ["0 frames", "1 frame", "1,200 frames"]
    assert [counted(n, "box", "boxes") for n in (1, 2)] == ["1 box", "2 boxes"]


def test_names_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert printable("a\x1b[31m\r\x9b\x7f\tß\n") == "a\\x1b[31m\\x0d\\x9b\\x7f\tß\n"
    stream = io.StringIO()
    Printable(stream).writelines(["a\x1b", "b\n"])
    assert stream.getvalue() == "a\\x1bb\n"
    set_verbosity()
    remark("a\x1b[31mb")
    logging.getLogger("autopose.runtime.module").warning("%s", "c\x1b[31md")
    assert capsys.readouterr().err.splitlines() == ["a\\x1b[31mb", "c\\x1b[31md"]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(2, "e\x1b[31mf") as bar:
        bar(1)
    assert "e\\x1b[31mf" in terminal.getvalue()


def test_a_log_line_that_nobody_reads_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    set_verbosity()
    logging.getLogger("autopose.module").warning("a warning")


def test_without_a_total_the_bar_is_never_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream nobody knows the end; with a full bar the clock stops."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with _bar(SourceSpec("webcam-0", "live", "0")) as bar:
        bar(12, None)
    assert "12/?" in stream.getvalue()


def test_log_lines_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    set_verbosity()
    with progress(4, "clip.mp4") as bar:
        bar(1)
        logging.getLogger("autopose.module").warning("a warning")
    before = stream.getvalue().partition("a warning\n")[0]
    assert before.endswith("\r\x1b[2K")  # the bar's line was emptied
