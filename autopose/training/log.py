"""The log of a run: ``log.jsonl``, one JSON object per line, and TensorBoard events."""

import json
from pathlib import Path
from typing import Any

from autopose.errors import UsageError
from autopose.files import write_atomic


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's log; a last line that was cut short is dropped."""
    path = folder / "log.jsonl"
    entries: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return entries


def refuse_other_run(folder: Path, counter: str) -> None:
    """Refuse the folder of a search for a training run, and the reverse, before anything in it is overwritten.

    Args:
        folder: to be written into.
        counter: what the entries of this kind of run count by.

    Raises:
        UsageError: it is so.
    """
    if any(counter not in entry for entry in read_log(folder)[:1]):
        raise UsageError(f"{folder}: holds a run of another kind. Choose another folder with -o.")


def rewind_log(folder: Path, counter: str, last: int) -> Path:
    """Drop the entries whose ``counter`` is after ``last``, which a resumed run writes again; return the file."""
    path = folder / "log.jsonl"
    kept = [entry for entry in read_log(folder) if entry[counter] <= last]
    write_atomic(path, "".join(json.dumps(entry) + "\n" for entry in kept))
    return path


def summary_writer(folder: Path, last: int) -> Any:
    """Return a writer of TensorBoard events into a run's folder; None where TensorBoard is not installed.

    Args:
        folder: of the run.
        last: events after this step, or epoch, are dropped: a resumed run writes them again.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None  # the JSON lines have everything
    return SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1)
