"""The command line as a whole: every verb explains itself, and bad input ends in one sentence and the right code."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from autopose.cli import app


def _verbs(group: Any, *path: str) -> list[tuple[str, ...]]:
    """Return the words of every command below a group: ("infer",), ("data", "check"), ..."""
    found: list[tuple[str, ...]] = []
    for name, command in sorted(group.commands.items()):
        found += _verbs(command, *path, name) if hasattr(command, "commands") else [(*path, name)]
    return found


VERBS = _verbs(typer.main.get_command(app))


def _autopose(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own, as a user does."""
    command = [sys.executable, "-m", "autopose", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_two_examples(verb: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0, result.output
    examples = result.output.partition("Examples")[2]
    assert len(re.findall(r"autopose\s+" + r"\s+".join(verb), examples)) >= 2


def test_help_lists_every_verb() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
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
def test_refuses_wrong_usage_with_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    result = _autopose(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stdout + result.stderr


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
        (["train", "reference", "--set", "no.such.key=1"], "no"),
        (["train", "reference", "--config", "no-such-config"], "no-such-config"),
    ],
)
def test_refuses_bad_input_with_one_sentence_and_exit_code_1(arguments: list[str], named: str, tmp_path: Path) -> None:
    for name in ("empty.jpg", "empty.mp4", "foreign.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "wrong.json").write_text('{"kind": "sculpture"}')
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    result = _autopose(*arguments, cwd=tmp_path)
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stdout + result.stderr
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 4  # what happened, what was expected, how to mend it
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert left == []  # nothing half-written
