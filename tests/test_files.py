"""Files are replaced whole; links are followed, pipes written into, folders refused."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from autopose.files import atomic_path, replace, write_atomic


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


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system has no /proc")
def test_a_link_to_a_pipe_is_written_into() -> None:
    """As ``/dev/stdout`` is one."""
    reader, writer = os.pipe()
    try:
        write_atomic(f"/proc/self/fd/{writer}", "content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_writer_that_makes_a_private_file_leaves_an_ordinary_one(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "weights") as temporary:  # as safetensors does
        own = temporary.with_name("own")
        own.touch(0o600)
        own.replace(temporary)
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_names_of_the_full_length_are_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 250 + ".json"), "content")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["content"]


def test_on_windows_a_file_that_is_held_open_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, source = Path.replace, tmp_path / "new"
    held = [PermissionError(13, "is being used by another process")] * 3

    def replaced(path: Path, target: Path) -> Path:
        if held:
            raise held.pop()
        return real(path, target)

    source.write_text("content")
    destination = tmp_path / "file"
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(PermissionError):
        replace(source, destination)
    monkeypatch.setattr(os, "name", "nt")
    replace(source, destination)
    assert destination.read_text() == "content"
