"""How to go on in a run folder, as a command to copy."""

import os
from pathlib import Path

import pytest

from autopose.commands.run_folder import own_file, resume_command
from autopose.console import command_line


def test_the_command_suits_the_systems_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("my runs")
    assert resume_command("train", folder) == "autopose train -o 'my runs' --resume"
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        there = command_line(["autopose", "-o", r"runs\a", r"my runs\b"])
    assert there == r'autopose -o runs\a "my runs\b"'


def test_a_resumed_run_has_its_own_recipe(tmp_path: Path) -> None:
    def named(given: str | None, *, resume: bool) -> str:
        return own_file(given, "small", "config.toml", tmp_path, resume=resume)

    assert named(None, resume=True) == "small"  # there is no run; what is said of that comes later
    (tmp_path / "config.toml").touch()
    assert named(None, resume=True) == str(tmp_path / "config.toml")
    assert named(None, resume=False) == "small"
    assert named("mine.toml", resume=True) == "mine.toml"
    assert own_file(None, "small", "config.toml", None, resume=True) == "small"
