"""Write files beside their destination and rename, so that no reader ever sees half a file."""

import errno
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath


def path_from(folder: Path, path: Path) -> str:
    """Return a path relative to a folder, with slashes everywhere; the absolute one from drive to drive of Windows."""
    try:
        return os.path.relpath(os.path.abspath(path), folder).replace(os.sep, "/")
    except ValueError:
        return os.path.abspath(path)


def with_slashes(name: str) -> str:
    """Return a path that a file names, which may have been written on Windows, with slashes."""
    return PureWindowsPath(name).as_posix() if "\\" in name else name


def _new_file_beside(destination: Path) -> Path:
    """Make an empty file with a name of its own. An ordinary one, as the umask says: ``mkstemp`` makes private ones."""
    while True:
        # Not the whole stem: with the rest, a name of the full length that a file system takes would be too long.
        path = destination.with_name(f".{destination.stem[:40]}.{secrets.token_hex(4)}{destination.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return path


def replace(source: Path, destination: Path) -> None:
    """Rename a file over another one, with patience on Windows, where scanners hold new files open for a moment."""
    for wait_s in (0.05, 0.2, 1.0) if os.name == "nt" else ():
        try:
            source.replace(destination)
        except PermissionError:
            time.sleep(wait_s)
        else:
            return
    source.replace(destination)


@contextmanager
def atomic_path(destination: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the destination's folder; rename it over the destination if the block succeeds.

    The suffix is kept, because writers such as OpenCV and PyAV choose the format by it. Parent folders are made. A link
    is followed, and a device or pipe (``/dev/stdout``) is written into, not replaced.

    Raises:
        IsADirectoryError: the destination is a folder.
    """
    destination = Path(destination)
    if destination.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; expected the name of a file", str(destination))
    special = destination.exists() and not destination.is_file()
    if destination.is_symlink() and not special:  # /dev/stdout is a link, too: to a pipe, which has no path
        destination = destination.resolve()
    destination.parent.mkdir(parents=True, exist_ok=True)
    if special:
        descriptor, name = tempfile.mkstemp(suffix=destination.suffix)
        os.close(descriptor)
        temporary = Path(name)
    else:
        temporary = _new_file_beside(destination)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        if special:
            with temporary.open("rb") as content, destination.open("wb") as target:
                shutil.copyfileobj(content, target)
            return
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # safetensors puts a private file in its place
            temporary.chmod(mode)
        replace(temporary, destination)
    finally:
        temporary.unlink(missing_ok=True)


#: For text that holds file names: bytes of a name that are no UTF-8 are written as ``\udcXX``, as JSON writes them.
NAMES_AS_TEXT = "backslashreplace"


def on_one_line(name: str) -> str:
    r"""Return a name for a row of a table: as text (``NAMES_AS_TEXT``), line ends and tabs as ``\x0a``.

    CSV could hold them in quotes, but Python writes a carriage return without, and Arrow ends a row at each line end.
    """
    text = name.encode(errors=NAMES_AS_TEXT).decode()
    return "".join(f"\\x{ord(c):02x}" if c in "\t\r\n" else c for c in text)


def write_atomic(destination: Path | str, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8, see ``NAMES_AS_TEXT``) to ``destination`` in one step."""
    with atomic_path(destination) as temporary:
        temporary.write_bytes(content.encode(errors=NAMES_AS_TEXT) if isinstance(content, str) else content)
