"""Write files beside their destination and rename, so that no reader ever sees half a file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(destination: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the destination's folder; rename it over the destination if the block succeeds.

    The suffix is kept, because writers such as OpenCV and PyAV choose the format by it. Parent folders are made.
    """
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=f".{destination.stem}.", suffix=destination.suffix, dir=destination.parent
    )
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; results are ordinary ones
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(destination: Path | str, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``destination`` in one step."""
    with atomic_path(destination) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
