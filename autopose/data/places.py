"""Where the files are that recipes name: below the folder of an environment variable, or here."""

import logging
import os
from functools import cache
from pathlib import Path

#: Environment variable with the folder that relative paths of recipes are looked up in.
DATA_VARIABLE = "AUTOPOSE_DATA"

log = logging.getLogger(__name__)


def places(name: str) -> list[Path]:
    """Return where a file or folder that a recipe names may be, the best first."""
    root = os.environ.get(DATA_VARIABLE)
    return [*([Path(root) / name] if root else []), Path(name)]


def find_file(name: str) -> Path | None:
    """Return the file that a recipe names; None if it is nowhere."""
    for path in places(name):
        if path.is_file():
            _tell_of_namesake(path, Path(name))
            return path
    return None


@cache
def _tell_of_namesake(taken: Path, here: Path) -> None:
    """Warn, once, that a file of the same name in the current folder is not the one that is read."""
    if here.is_file() and not here.samefile(taken):
        log.warning("Reading %s (%s goes first), not %s of this folder.", taken, DATA_VARIABLE, here)
