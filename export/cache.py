"""Engines and graphs that were made before, found again by everything that they depend on.

The folder is ``AUTOPOSE_CACHE``, else ``autopose`` in the user's cache folder. An engine's entry is a folder with the
raw engine, its sidecar and the report of its export; one that is damaged in any part is named and built again, never
trusted. A graph's entry is the ``.onnx``.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autopose.errors import ModelError, UsageError
from autopose.files import atomic_path, write_atomic
from autopose.runtime.engine_sidecar import read_sidecar

log = logging.getLogger(__name__)

_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Return the folder of what is cached; it need not exist.

    Raises:
        UsageError: the user has no home folder, as in some containers, and none is named.
    """
    if chosen := os.environ.get("AUTOPOSE_CACHE"):
        return Path(chosen)
    if usual := os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"):
        return Path(usual) / "autopose"
    try:
        home = Path.home()
    except RuntimeError:
        raise UsageError("There is no home folder to keep exports in: name a folder with AUTOPOSE_CACHE.") from None
    return (home / "AppData" / "Local" if os.name == "nt" else home / ".cache") / "autopose"


def make_cache_folder() -> Path:
    """Return the folder of what is cached, which exists from now on.

    Raises:
        UsageError: it cannot be made.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: exports cannot be kept there ({error.strerror}). Name another folder with AUTOPOSE_CACHE."
        ) from None
    return folder


def cache_key(depends_on: Mapping[str, Any]) -> str:
    """Return a name that changes with everything in ``depends_on`` (JSON values)."""
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:32]


def cached_engine(key: str) -> tuple[Path, dict[str, Any]] | None:
    """Return an entry's engine and report; None if there is none or it is damaged (which is said)."""
    engine = _entry(key) / f"{key}.engine"
    if not engine.parent.exists():
        return None
    try:
        read_sidecar(engine)
        report = json.loads(_report_path(engine).read_text(encoding="utf-8"))
        if not isinstance(report, dict):
            raise ValueError("not an object")
    except (ModelError, OSError, ValueError) as error:
        log.warning("The cached engine cannot be used and is built again: %s", str(error).splitlines()[0])
        forget(key)
        return None
    return engine, report


def keep(key: str, write: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """Make an entry: ``write`` puts engine and sidecar at the given path and returns the report.

    It is made in a folder of its own and appears as a whole: of two processes that build the same engine at the same
    time, the slower one takes the other's.
    """
    with tempfile.TemporaryDirectory(prefix=f".{key}.", dir=make_cache_folder(), ignore_cleanup_errors=True) as own:
        made = Path(own) / key  # an ordinary folder, which others may read as the umask says; the one around is private
        made.mkdir()
        engine = made / f"{key}.engine"
        report = write(engine)
        write_atomic(_report_path(engine), json.dumps(report, indent=2) + "\n")
        try:
            os.rename(made, _entry(key))
        except OSError:
            if (found := cached_engine(key)) is not None:
                return found
            os.rename(made, _entry(key))  # that one was damaged, and is gone now
    return _entry(key) / engine.name, report


def forget(key: str) -> None:
    """Remove an entry."""
    shutil.rmtree(_entry(key), ignore_errors=True)


def copy_engine(engine: Path, out: Path, *, rebuild: str) -> None:
    """Copy an engine, then its sidecar: a reader that comes in between sees a mismatch, not a wrong pair.

    Args:
        engine: of the cache.
        out: destination.
        rebuild: the command that makes the copy again.
    """
    if out.exists() and out.samefile(engine):
        return
    with atomic_path(out) as temporary:
        shutil.copyfile(engine, temporary)
    sidecar = read_sidecar(engine).model_copy(update={"rebuild": rebuild})
    sidecar.save(out)


def _entry(key: str) -> Path:
    return cache_folder() / key


def _report_path(engine: Path) -> Path:
    return engine.with_suffix(".report.json")


def load_timing_cache(name: str) -> bytes | None:
    """Return the timing cache kept under a name; None if there is none or it is damaged (which is said)."""
    path = cache_folder() / f"{name}.timing"
    if not path.is_file():
        return None
    content = path.read_bytes()
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        log.warning("%s: the timing cache is damaged and made anew.", path)
        path.unlink(missing_ok=True)
        return None
    return payload


def save_timing_cache(name: str, payload: bytes) -> None:
    """Keep a timing cache under a name (library, version and GPU), with its digest in front."""
    write_atomic(cache_folder() / f"{name}.timing", hashlib.sha256(payload).digest() + payload)
