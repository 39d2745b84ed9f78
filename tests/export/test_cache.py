"""The engine cache: what is found again, what is not, and that nothing damaged is trusted."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from autopose.errors import UsageError
from autopose.export import cache
from autopose.export.diagnosis import _cache
from autopose.export.recipe import Recipe, engine_key, rebuild_command
from autopose.manifest import Manifest
from autopose.runtime.engine_sidecar import EngineSidecar, read_sidecar, sha256_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(engine: Path) -> dict[str, Any]:
    engine.write_bytes(b"plan")
    EngineSidecar(
        manifest=Manifest(),
        builder="tensorrt",
        builder_version="11",
        onnx_sha256="",
        engine_sha256=sha256_of(engine),
        batches=(1, 1, 1),
        half_share=1,
    ).save(engine)
    return {"half_share": 1.0}


def test_roundtrip(folder: Path, tmp_path: Path) -> None:
    assert cache.cached_engine("key") is None
    engine, report = cache.keep("key", write)
    assert engine.parent == folder / "key"
    assert list(folder.iterdir()) == [engine.parent]
    assert cache.cached_engine("key") == (engine, report)
    assert cache.cached_engine("another") is None
    out = tmp_path / "out" / "model.engine"
    cache.copy_engine(engine, out, rebuild="autopose export m -o out/model.engine")
    copied = read_sidecar(out)
    assert copied.rebuild == "autopose export m -o out/model.engine"
    assert copied.model_copy(update={"rebuild": ""}) == read_sidecar(engine)
    cache.copy_engine(engine, engine, rebuild="")
    assert engine.read_bytes() == b"plan"


@pytest.mark.parametrize("part", ["engine", "engine.json", "report.json"])
@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_damaged_entries_are_named_and_dropped(
    part: str, damage: bytes | None, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    cache.keep("key", write)
    path = folder / "key" / f"key.{part}"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert cache.cached_engine("key") is None
    assert "cannot be used and is built again" in caplog.text
    assert list(folder.iterdir()) == []
    assert cache.keep("key", write)
    assert cache.cached_engine("key") is not None


def test_a_damaged_entry_that_another_one_left_meanwhile_is_replaced(folder: Path) -> None:
    def slower(engine: Path) -> dict[str, Any]:
        (folder / "key").mkdir()
        (folder / "key" / "key.engine").write_bytes(b"half")
        return write(engine)

    engine, report = cache.keep("key", slower)
    assert cache.cached_engine("key") == (engine, report)


def test_of_two_that_build_at_once_the_slower_takes_the_others(folder: Path) -> None:
    def slower(engine: Path) -> dict[str, Any]:
        assert cache.cached_engine("key") is None  # what is being built is not there yet, and not damaged
        cache.keep("key", write)
        return write(engine) | {"mine": True}

    engine, report = cache.keep("key", slower)
    assert "mine" not in report
    assert cache.cached_engine("key") == (engine, report)
    assert list(folder.iterdir()) == [engine.parent]


def test_an_interrupted_entry_does_not_count(folder: Path) -> None:
    def interrupted(engine: Path) -> dict[str, Any]:
        write(engine)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.keep("key", interrupted)
    assert cache.cached_engine("key") is None


def test_doctor_counts_whole_entries(folder: Path) -> None:
    for key in ("one", "two"):
        cache.keep(key, write)
    made = folder / ".three.abc"  # by a process that was killed
    made.mkdir()
    write(made / "three.engine")
    assert _cache()["engines"] == 2


def test_timing_caches_are_kept_whole_or_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cache.load_timing_cache("trt-11-L4") is None
    cache.save_timing_cache("trt-11-L4", b"timings")
    assert cache.load_timing_cache("trt-11-L4") == b"timings"
    assert cache.load_timing_cache("trt-11-A10") is None
    path = folder / "trt-11-L4.timing"
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert cache.load_timing_cache("trt-11-L4") is None
    assert "damaged" in caplog.text
    assert not path.exists()


def test_key_changes_with_everything_that_changes_the_engine(tmp_path: Path) -> None:
    source, other = tmp_path / "a.onnx", tmp_path / "b.onnx"
    source.write_bytes(b"graph")
    other.write_bytes(b"graph!")
    base = Recipe(builder="tensorrt_rtx", targets=("sm89",))
    keys = [engine_key(source, base, "1.7"), engine_key(other, base, "1.7"), engine_key(source, base, "1.8")]
    for change in (
        {"precision": "fp32"},
        {"targets": ("sm89", "sm120")},
        {"batches": (1, 4, 8)},
        {"workspace_gib": 1.0},
        {"portable": True},
        {"flip": False},
        {"decode": False},
        {"io": "plain"},
        {"builder": "tensorrt"},
        {"calibration": tmp_path},
        {"check": tmp_path},
        {"images": tmp_path},
        {"looks": 2},
        {"input_wh": (640, 384)},
        {"compact": True},
    ):
        fields = {"builder": "tensorrt_rtx", "targets": ("sm89",), **change}
        keys.append(engine_key(source, Recipe(**fields), "1.7"))  # type: ignore[arg-type]
    assert len(set(keys)) == len(keys)
    assert engine_key(source, base, "1.7") == keys[0]
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(b"graph")
    assert engine_key(copy, base, "1.7") == keys[0]  # the content counts, not the name


def test_key_changes_with_the_pictures(tmp_path: Path) -> None:
    source, photos = tmp_path / "a.onnx", tmp_path / "photos"
    source.write_bytes(b"graph")
    photos.mkdir()
    (photos / "1.jpg").write_bytes(b"one")
    recipes = [Recipe(builder="tensorrt", calibration=photos), Recipe(builder="tensorrt", check=photos)]
    before = [engine_key(source, recipe, "11") for recipe in recipes]
    assert before == [engine_key(source, recipe, "11") for recipe in recipes]
    (photos / "2.jpg").write_bytes(b"two")
    after = [engine_key(source, recipe, "11") for recipe in recipes]
    assert len({*before, *after}) == 4
    images = [{"id": 1, "file_name": "1.jpg", "width": 8, "height": 8}]
    listed = tmp_path / "ann.json"
    listed.write_text(json.dumps({"images": images, "annotations": []}))
    named = Recipe(builder="tensorrt", calibration=listed, images=photos)
    first = engine_key(source, named, "11")
    assert engine_key(source, named, "11") == first
    (photos / "1.jpg").write_bytes(b"another")
    assert engine_key(source, named, "11") != first


def test_rebuild_command_names_what_was_asked(tmp_path: Path) -> None:
    recipe = Recipe(builder="tensorrt_rtx", targets=("sm89", "sm120"), flip=False, batches=(1, 2, 4))
    assert rebuild_command("my run", Path("m.engine"), recipe) == (
        "autopose export 'my run' --trt-rtx --target sm89,sm120 --batch 1,2,4 --no-flip -o m.engine"
    )
    assert rebuild_command("default", None, Recipe(builder="tensorrt")) == "autopose export default --trt"
    int8 = Recipe(
        builder="tensorrt",
        precision="int8",
        calibration=Path("my photos"),
        workspace_gib=2.0,
        check=Path("val.json"),
        images=Path("val"),
    )
    assert rebuild_command("default", None, int8) == (
        "autopose export default --trt --precision int8 --calibration 'my photos' --workspace 2 "
        "--check val.json --images val"
    )
    detector = Recipe(
        builder="tensorrt", decode=False, io="plain", looks=2, input_wh=(640, 384), portable=True
    )  # fmt: skip
    assert rebuild_command("detector-default", None, detector) == (
        "autopose export detector-default --trt --no-decode --io plain --looks 2 --input 640x384 --portable"
    )


def test_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AUTOPOSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "autopose"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.make_cache_folder() == tmp_path / ".cache" / "autopose"
    assert (tmp_path / ".cache" / "autopose").is_dir()


def test_entries_may_be_read_by_whom_the_umask_says(folder: Path) -> None:
    cache.keep("key", write)
    (folder / "ordinary").mkdir()
    assert (folder / "key").stat().st_mode == (folder / "ordinary").stat().st_mode


def test_without_a_home_folder_it_is_said_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("AUTOPOSE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(UsageError, match="AUTOPOSE_CACHE"):
        cache.cache_folder()
    assert not _cache()["writable"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match=r"cache: exports cannot be kept there .*AUTOPOSE_CACHE"):
        cache.make_cache_folder()
