"""How to go on in a run folder, as a command to copy."""

import os
from pathlib import Path

import pytest

from autopose.commands.run_folder import resume_command
from autopose.console import command_line


def test_the_command_suits_the_systems_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("my runs")
    assert resume_command(["train", "small"], folder) == (
        f"autopose train small --config 'my runs{os.sep}config.toml' -o 'my runs' --resume"
    )
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        there = command_line(["autopose", "-o", r"runs\a", r"my runs\b"])
    assert there == r'autopose -o runs\a "my runs\b"'
