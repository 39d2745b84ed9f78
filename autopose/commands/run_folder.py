"""The run folder of ``autopose train`` and ``autopose search``: which it is, and how to go on in it."""

import os
import time
from pathlib import Path

from autopose.console import command_line
from autopose.errors import UsageError
from autopose.training.distributed import world


def chosen_folder(out: Path | None, kind: str, *, resume: bool) -> Path:
    """Return the run folder: the one given, else ``runs/KIND-TIME``.

    Raises:
        UsageError: none was given, and the run is an old one or that of several processes.
    """
    if out is not None:
        return out
    if resume:
        raise UsageError("--resume needs the run folder: add -o RUN.")
    if world() > 1:
        raise UsageError("Several processes write one run folder: add -o RUN.")
    return Path("runs") / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"


def own_file(given: str | None, default: str, name: str, out: Path | None, *, resume: bool) -> str:
    """Return what was given, else the run's own copy of it if a run is resumed, else the default."""
    own = None if out is None else out / name
    return given or (str(own) if resume and own is not None and own.is_file() else default)


def stopped_code() -> int:
    """Return the exit code of a run that was stopped before its end, and saved: who waits for its result shall know.

    Under ``torchrun`` it is 0: that takes any other for a crash, and prints its traceback.
    """
    return 0 if "WORLD_SIZE" in os.environ else 3


def resume_command(verb: str, folder: Path) -> str:
    """Return the command that goes on: the run has its genotype and recipe itself."""
    # Several processes have to be as many again.
    start = ["torchrun", "--nproc-per-node", str(world()), "-m"] if world() > 1 else []
    return command_line([*start, "autopose", verb, "-o", str(folder), "--resume"])
