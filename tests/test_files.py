"""Files are replaced whole; links are followed, pipes written into, folders refused."""

import os
import stat
import threading
from pathlib import Path

import pytest

from autopose.files import atomic_path, write_atomic


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.json"
    write_atomic(target, "old")

    def interrupted() -> None:
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".json"
            temporary.write_text("half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        interrupted()
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_names_that_are_no_utf8_are_written_as_in_json(tmp_path: Path) -> None:
    write_atomic(tmp_path / "names.csv", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "names.csv").read_bytes() == rb"caf\udce9"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    write_atomic(link, "content")
    assert link.is_symlink()
    assert real.read_text() == "content"


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomic(pipe, "content")
    reader.join(10)
    assert read == ["content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="expected the name of a file"):
        write_atomic(tmp_path, "content")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_leave_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no way to ask for it but to set it, and another thread's files would come in between."""
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process's"))
        write_atomic(tmp_path / "result.json", "content")
        assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o640
    finally:
        monkeypatch.undo()
        os.umask(before)
