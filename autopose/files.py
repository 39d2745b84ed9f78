"""Write files beside their destination and rename, so that no reader ever sees half a file."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def path_from(folder: Path, path: Path) -> str:
    """Return a path relative to a folder; the absolute one where Windows has none, from drive to drive."""
    try:
        return os.path.relpath(os.path.abspath(path), folder)
    except ValueError:
        return os.path.abspath(path)


@contextmanager
def atomic_path(destination: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the destination's folder; rename it over the destination if the block succeeds.

    The suffix is kept, because writers such as OpenCV and PyAV choose the format by it. Parent folders are made. A link
    is followed, and a device or pipe (``/dev/stdout``) is written into, not replaced.

    Raises:
        IsADirectoryError: the destination is a folder.
    """
    destination = Path(destination)
    if destination.is_symlink():
        destination = destination.resolve()
    if destination.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected the name of a file", str(destination))
    special = destination.exists() and not destination.is_file()
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{destination.stem}.", suffix=destination.suffix, dir=None if special else destination.parent
    )
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        if special:
            with temporary.open("rb") as content, destination.open("wb") as target:
                shutil.copyfileobj(content, target)
            return
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are ordinary ones
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


#: For text that holds file names: bytes of a name that are no UTF-8 are written as ``\udcXX``, as JSON writes them.
NAMES_AS_TEXT = "backslashreplace"


def write_atomic(destination: Path | str, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8, see ``NAMES_AS_TEXT``) to ``destination`` in one step."""
    with atomic_path(destination) as temporary:
        temporary.write_bytes(content.encode(errors=NAMES_AS_TEXT) if isinstance(content, str) else content)
