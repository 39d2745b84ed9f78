"""Sidecars: written and read back, and every way in which an engine is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from autopose.errors import ModelError
from autopose.manifest import Manifest
from autopose.runtime.engine_sidecar import EngineSidecar, read_sidecar, require_fit, sha256_of, sidecar_path


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(b"a plan")
    _sidecar(path).save(path)
    return path


def _sidecar(path: Path, **changes: object) -> EngineSidecar:
    fields: dict[str, object] = {
        "manifest": Manifest(precision="fp16"),
        "builder": "tensorrt",
        "builder_version": "11.4.0",
        "onnx_sha256": "0" * 64,
        "engine_sha256": sha256_of(path),
        "batches": (1, 8, 64),
        "gpu": "NVIDIA L4",
        "compute_capability": "8.9",
        "half_share": 1.0,
        "rebuild": "autopose export default --trt -o model.engine",
    }
    return EngineSidecar.model_validate(fields | changes)


def test_roundtrip(engine: Path) -> None:
    assert read_sidecar(engine) == _sidecar(engine)
    assert sidecar_path(engine).name == "model.engine.json"


def test_refuses_a_missing_sidecar(engine: Path) -> None:
    sidecar_path(engine).unlink()
    with pytest.raises(ModelError, match=r"model\.engine\.json is missing(.|\n)*autopose export MODEL --trt"):
        read_sidecar(engine)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 2}', b"\xff\xfe"])
def test_refuses_a_damaged_sidecar(engine: Path, content: bytes) -> None:
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(ModelError, match="sidecar cannot be used"):
        read_sidecar(engine)


def test_refuses_a_damaged_engine_with_the_command_that_rebuilds_it(engine: Path) -> None:
    engine.write_bytes(b"b plan")
    with pytest.raises(ModelError, match=r"(?s)was replaced.*autopose export default --trt -o model\.engine"):
        read_sidecar(engine)


@pytest.mark.parametrize("batches", [(0, 8, 64), (8, 1, 64), (1, 64, 8)])
def test_refuses_batches_that_do_not_rise_from_one(engine: Path, batches: tuple[int, int, int]) -> None:
    with pytest.raises(ValidationError, match="expected 1 <= smallest <= typical <= largest"):
        _sidecar(engine, batches=batches)


@pytest.mark.parametrize(
    ("changes", "here", "reason"),
    [
        ({}, {"version": "11.5.0"}, r"built with tensorrt 11\.4\.0; here is 11\.5\.0"),
        ({}, {"gpu": "NVIDIA A10", "capability": "8.6"}, r"built on NVIDIA L4 .* this GPU is NVIDIA A10"),
        ({}, {"gpu": "NVIDIA RTX 4090", "capability": "8.9"}, "this GPU is NVIDIA RTX 4090"),
        ({}, {"gpu": "NVIDIA L4", "capability": "8.6"}, r"capability 8\.9\); this GPU is NVIDIA L4 \(8\.6\)"),
        ({"portable": True}, {"gpu": "Tesla T4", "capability": "7.5"}, "from compute capability 8.0 on"),
        ({"targets": ["sm89", "sm120"]}, {"capability": "8.6"}, "built for sm89, sm120; this GPU is sm86"),
    ],
)
def test_refuses_engines_of_another_version_or_gpu(
    engine: Path, changes: dict[str, object], here: dict[str, str], reason: str
) -> None:
    sidecar = _sidecar(engine, **changes)
    with pytest.raises(ModelError, match=rf"(?s){reason}.*Build it .*autopose export default"):
        require_fit(sidecar, engine, **{"version": "11.4.0", **here})


@pytest.mark.parametrize(
    ("changes", "here"),
    [
        ({}, {"gpu": "NVIDIA L4", "capability": "8.9"}),
        ({}, {}),  # no GPU asked: the library itself will tell
        ({"portable": True}, {"gpu": "NVIDIA A100", "capability": "8.0"}),
        ({"targets": ["sm89", "sm120"]}, {"gpu": "NVIDIA RTX 5090", "capability": "12.0"}),
    ],
)
def test_accepts_what_fits(engine: Path, changes: dict[str, object], here: dict[str, str]) -> None:
    require_fit(_sidecar(engine, **changes), engine, version="11.4.0", **here)
