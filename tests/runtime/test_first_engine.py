"""Backend ``trt`` on a model that is still ONNX: built on first use, or refused in words."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autopose.errors import BackendError
from autopose.runtime import first_engine
from autopose.runtime.gpu import Gpu
from autopose.runtime.models import open_model


def test_refuses_without_gpu_or_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"")
    monkeypatch.setattr(first_engine, "gpu_here", lambda: None)
    monkeypatch.setattr(first_engine, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"(?s)no NVIDIA GPU.*neither TensorRT.*backend 'ort'.*--trt"):
        open_model(graph, backend="trt")


def test_builds_through_the_exporter_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []
    manifest = SimpleNamespace(flip=True, decode=True, io="uint8")

    def engine_for(model: str, out: Path | None, recipe: Any) -> Any:
        asked.append((model, out, recipe))
        return SimpleNamespace(path=tmp_path / "cached.engine")

    modules = {
        "autopose.export.pipeline": SimpleNamespace(engine_for=engine_for),
        "autopose.export.recipe": SimpleNamespace(Recipe=lambda **options: options),
        "autopose.export.parity": SimpleNamespace(GraphReference=lambda path: SimpleNamespace(manifest=manifest)),
    }
    monkeypatch.setattr("importlib.import_module", modules.__getitem__)
    monkeypatch.setattr(first_engine, "gpu_here", lambda: Gpu("Painted", "8.9", "13.0", 24.0))
    monkeypatch.setattr(first_engine, "find_spec", lambda name: name == "tensorrt_rtx" or None)
    assert first_engine.engine_of(tmp_path / "m.onnx") == tmp_path / "cached.engine"
    assert asked == [
        (str(tmp_path / "m.onnx"), None, {"builder": "tensorrt_rtx", "flip": True, "decode": True, "io": "uint8"})
    ]
    assert "the first time it is built" in caplog.text
