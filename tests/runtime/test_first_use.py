"""Models that still have to be exported: done on first use, or refused in words."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autopose.errors import BackendError, ModelError
from autopose.runtime import first_use
from autopose.runtime.gpu import Gpu
from autopose.runtime.models import open_model


def test_refuses_without_gpu_or_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"")
    monkeypatch.setattr(first_use, "gpu_here", lambda: None)
    monkeypatch.setattr(first_use, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"(?s)no NVIDIA GPU.*neither TensorRT.*backend 'ort'.*--trt"):
        open_model(graph, backend="trt")


@pytest.mark.parametrize("given", ["run", "run/last.safetensors"])
def test_says_what_the_export_of_weights_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.safetensors").touch()
    monkeypatch.setattr(first_use, "find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(ModelError, match=r'(?s)needs torch: pip install "autopose\[train\]".*autopose export .*run'):
        open_model(tmp_path / given)


def test_builds_through_the_exporter_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []
    manifest = SimpleNamespace(task="pose", flip=True, decode=True, io="uint8")

    def engine_for(model: str, out: Path | None, recipe: Any) -> Any:
        asked.append((model, out, recipe))
        return SimpleNamespace(path=tmp_path / "cached.engine")

    modules = {
        "onnx": SimpleNamespace(),
        "autopose.export.pipeline": SimpleNamespace(engine_for=engine_for),
        "autopose.export.recipe": SimpleNamespace(Recipe=lambda **options: options),
        "autopose.export.parity": SimpleNamespace(GraphReference=lambda path: SimpleNamespace(manifest=manifest)),
    }
    monkeypatch.setattr("importlib.import_module", modules.__getitem__)
    monkeypatch.setattr(first_use, "gpu_here", lambda: Gpu("Painted", "8.9", "13.0", 24.0))
    monkeypatch.setattr(first_use, "find_spec", lambda name: name == "tensorrt_rtx" or None)
    assert first_use.engine_of(tmp_path / "m.onnx", "pose") == tmp_path / "cached.engine"
    assert asked == [
        (str(tmp_path / "m.onnx"), None, {"builder": "tensorrt_rtx", "flip": True, "decode": True, "io": "uint8"})
    ]
    assert "the first time it is built" in caplog.text
    monkeypatch.setattr(first_use, "find_spec", lambda name: name)  # both are installed
    first_use.engine_of(tmp_path / "m.onnx", "pose")
    assert asked[1][2]["builder"] == "tensorrt"
    manifest.task, manifest.flip = "detector", False  # the command line would look for it with flip=True
    first_use.engine_of(tmp_path / "m.onnx", "detector")
    assert asked[2] == asked[1]
    with pytest.raises(ModelError, match="is a detector model; expected a pose model"):
        first_use.engine_of(tmp_path / "m.onnx", "pose")
    assert len(asked) == 3  # no engine is built to find that out


def test_advice_can_be_followed(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(first_use, "gpu_here", lambda: None)
    for name, options in (("pose-flip", ""), ("pose", " --no-flip"), ("maps", " --no-flip --no-decode")):
        with pytest.raises(BackendError, match=rf"autopose export \S+{name}\.onnx --trt{options} -o model\.engine"):
            open_model(models / f"{name}.onnx", backend="trt")
    with pytest.raises(BackendError, match=r"autopose export \S+detector-fast\.onnx --trt -o model\.engine"):
        open_model("fast", task="detector", backend="trt")  # its manifest says that it flips nothing
    with pytest.raises(BackendError, match=r"--trt --no-flip --io plain -o model\.engine"):
        open_model(models / "plain.onnx", backend="trt")
    (tmp_path / "m.engine").write_bytes(b"")
    with pytest.raises(BackendError, match=r"autopose export MODEL -o model\.onnx"):  # nothing is made from engines
        open_model(tmp_path / "m.engine", backend="ort")
