"""The log of a run, ``log.jsonl``: one JSON object per line."""

import json
from pathlib import Path
from typing import Any


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
