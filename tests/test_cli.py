"""The command line as a whole: every verb explains itself, and bad input ends in one sentence and the right code."""

import json
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from autopose.cli import app, main


def _verbs(group: Any, *path: str) -> list[tuple[str, ...]]:
    """Return the words of every command below a group: ("infer",), ("data", "check"), ..."""
    found: list[tuple[str, ...]] = []
    for name, command in sorted(group.commands.items()):
        found += _verbs(command, *path, name) if hasattr(command, "commands") else [(*path, name)]
    return found


VERBS = _verbs(typer.main.get_command(app))
Command = Callable[..., "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    exit_code: int
    out: str
    err: str


@pytest.fixture
def autopose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command line in an empty folder, in this process: what it imports is loaded once for all cases."""
    handlers, level = logging.root.handlers[:], logging.root.level  # -q and -v set up logging anew
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["autopose", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    yield command
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_two_examples(verb: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0, result.output
    lines = result.output.partition("Examples:\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) >= 2
    command: Any = typer.main.get_command(app)
    for word in verb:
        command = command.commands[word]
    for line in lines:  # to be copied as they stand, so nothing may be wrapped onto the next one
        words = shlex.split(line)
        assert words[: len(verb) + 1] == ["autopose", *verb]
        command.make_context(verb[-1], words[len(verb) + 1 :])


def test_help_lists_every_verb() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert CliRunner().invoke(app, ["-h"]).output == result.output
    assert [verb[0] for verb in VERBS if not re.search(rf"\b{verb[0]}\b", result.output)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["infer"],
        ["infer", "video.mp4", "--no-such-option"],
        ["infer", "video.mp4", "--smooth", "sometimes"],
        ["eval"],
        ["show"],
    ],
)
def test_refuses_wrong_usage_with_exit_code_2(arguments: list[str], autopose: Command) -> None:
    result = autopose(*arguments)
    assert result.exit_code == 2, result
    assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["infer", "missing.mp4"], "missing.mp4"),
        (["infer", "empty.jpg"], "empty.jpg"),
        (["infer", "empty.mp4"], "empty.mp4"),
        (["infer", "folder"], "folder"),
        (["infer", "empty.jpg", "--model", "no-such-model"], "no-such-model"),
        (["infer", "empty.jpg", "--model", "foreign.onnx"], "foreign.onnx"),
        (["show", "no-such-genotype"], "no-such-genotype"),
        (["show", "wrong.json"], "kind"),
        (["models", "no-such-model"], "no-such-model"),
        (["eval", "default", "missing.json"], "missing.json"),
        (["export", "no-such-run"], "no-such-run"),
        (["train", "no-such-genotype"], "no-such-genotype"),
        (["train", "reference", "--set", "no.such.key=1"], "unknown key 'no'"),
        (["train", "reference", "--config", "no-such-config"], "no-such-config"),
    ],
)
def test_refuses_bad_input_with_one_sentence_and_exit_code_1(
    arguments: list[str], named: str, tmp_path: Path, autopose: Command
) -> None:
    for name in ("empty.jpg", "empty.mp4", "foreign.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "wrong.json").write_text('{"kind": "sculpture"}')
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    result = autopose(*arguments)
    assert result.exit_code == 1, result
    assert named in result.err
    assert len(result.err.strip().splitlines()) <= 4  # what happened, what was expected, how to mend it
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert left == []  # nothing half-written


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, autopose: Command) -> None:
    (tmp_path / "folder").mkdir()
    result = autopose("models", "--json", "folder")
    assert result.exit_code == 1
    assert result.err == "autopose: folder: is a folder; expected the name of a file\n"
    one = autopose("models", "fast", "--json", "fast.json")
    assert one.exit_code == 0
    assert [entry["name"] for entry in json.loads((tmp_path / "fast.json").read_text())] == ["fast"]
    alone = autopose("models", "fast", "--json", "-")
    assert (alone.exit_code, alone.out) == (0, (tmp_path / "fast.json").read_text())
    assert not (tmp_path / "-").exists()


def test_names_with_escape_sequences_reach_no_terminal(tmp_path: Path, autopose: Command) -> None:
    name = "a\x1b[31mb"
    for words in (["show", "small", "-o", f"{name}.svg"], ["infer", f"{name}.svg"], ["view", f"{name}.json"]):
        outcome = autopose(*words)
        assert "a\\x1b[31mb" in outcome.out + outcome.err, words
        assert "\x1b" not in outcome.out + outcome.err, words
    assert (
        autopose("data", "synthetic", "c\x1b[31md", "--images", "1").out == "c\\x1b[31md/annotations.json: 1 picture\n"
    )


def test_module_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autopose", "infer", "missing.mp4"]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("autopose: ")
    assert "Traceback" not in result.stderr


def test_of_a_damaged_picture_only_our_sentence_is_shown(tmp_path: Path) -> None:
    """OpenCV would print lines of its own."""
    picture = tmp_path / "half.bmp"
    whole = cv2.imencode(".bmp", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    picture.write_bytes(whole[: len(whole) // 2])
    command = [sys.executable, "-m", "autopose", "infer", str(picture), "-o", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        f"autopose: {picture}: cannot be decoded as an image ({len(whole) // 2} bytes). It is damaged or no image."
    ]


def test_a_full_gpu_is_a_sentence(autopose: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfMemoryError(RuntimeError):
        """As ``torch.OutOfMemoryError``."""

    def fail() -> None:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nC++ stack trace")

    monkeypatch.setattr("autopose.cli.app", fail)
    outcome = autopose("train")
    assert outcome.exit_code == 1
    assert re.fullmatch(r"autopose: CUDA out of memory\. .* 2\.00 GiB\.\n.*train\.batch=N.*--batch N.*\n", outcome.err)
