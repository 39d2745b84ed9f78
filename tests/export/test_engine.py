"""Engines on the real TensorRT-RTX, built without a GPU: parser, precision proof, profile, sidecar, cache."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from autopose.checkpoint import Checkpoint, save_checkpoint
from autopose.errors import BackendError, MissingDependencyError, ModelError, ParityError, UsageError
from autopose.export import parity
from autopose.export.builders import load_builder
from autopose.export.crops import synthetic_crops
from autopose.export.deviation import LIMITS, Limits
from autopose.export.engine import EngineOptions, build_engine, inspected_half_share, require_half
from autopose.export.half import half_graph
from autopose.export.pipeline import export_model
from autopose.export.recipe import Recipe
from autopose.export.to_onnx import manifest_for
from autopose.runtime.engine_sidecar import read_sidecar, sha256_of, sidecar_path
from autopose.runtime.session import Session, open_session

AHEAD = EngineOptions(batches=(1, 2, 4), targets=("sm89",))
RECIPE = Recipe(builder="tensorrt_rtx", targets=("sm89", "sm120"), batches=(1, 2, 4))


@pytest.fixture(scope="module")
def trt_rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'autopose[trt-rtx]'")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AUTOPOSE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def half_onnx(pose_onnx: Path, pose_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "half.onnx"
    crops = synthetic_crops(2, pose_checkpoint.codec.input_size_wh)
    onnx.save(half_graph(onnx.load(pose_onnx), crops).model, str(path))
    return path


def test_builds_a_half_precision_engine_without_a_gpu(
    trt_rtx: Any, half_onnx: Path, pose_checkpoint: Checkpoint
) -> None:
    manifest = manifest_for(pose_checkpoint).model_copy(update={"precision": "fp16"})
    built = build_engine(half_onnx, manifest, "tensorrt_rtx", AHEAD)
    assert built.half_share == 1
    assert len(built.plan) > 10_000


def test_single_precision_is_no_tf32(
    trt_rtx: Any,
    pose_onnx: Path,
    half_onnx: Path,
    pose_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TF32 moves single joints of photographs by a quarter of a pixel, more than the limit of fp32."""
    configs: list[Any] = []
    create = trt_rtx.Builder.create_builder_config

    def noted(builder: Any) -> Any:
        configs.append(create(builder))
        return configs[-1]

    monkeypatch.setattr(trt_rtx.Builder, "create_builder_config", noted)
    manifest = manifest_for(pose_checkpoint)
    build_engine(pose_onnx, manifest, "tensorrt_rtx", AHEAD)
    build_engine(half_onnx, manifest.model_copy(update={"precision": "fp16"}), "tensorrt_rtx", AHEAD)
    assert [config.get_flag(trt_rtx.BuilderFlag.TF32) for config in configs] == [False, True]


def test_refuses_a_single_precision_graph_that_claims_to_be_half(
    trt_rtx: Any, pose_onnx: Path, pose_checkpoint: Checkpoint
) -> None:
    claimed = manifest_for(pose_checkpoint).model_copy(update={"precision": "fp16"})
    with pytest.raises(BackendError, match="0% of its convolutions in half precision"):
        build_engine(pose_onnx, claimed, "tensorrt_rtx", AHEAD)


def test_refuses_what_cannot_be_parsed_or_built(trt_rtx: Any, half_onnx: Path, tmp_path: Path) -> None:
    from autopose.manifest import Manifest

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(half_onnx.read_bytes()[:1000])
    with pytest.raises(BackendError, match="cannot parse the graph"):
        build_engine(broken, Manifest(), "tensorrt_rtx", AHEAD)
    with pytest.raises(UsageError, match=r"--target sm12: .* builds for .*sm89"):
        build_engine(half_onnx, Manifest(precision="fp16"), "tensorrt_rtx", EngineOptions(targets=("sm12",)))


def test_int8_engines_are_built(trt_rtx: Any, pose_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT takes no INT32 biases, which ONNX Runtime's quantiser would write."""
    wide = Limits(mean_px=5, max_px=96, score=1)  # the random weights are not what is looked at
    monkeypatch.setitem(LIMITS, "int8", wide)
    recipe = Recipe(builder="tensorrt_rtx", targets=("sm89",), batches=(1, 2, 4), precision="int8")
    result = export_model(str(pose_onnx), tmp_path / "model.engine", recipe)
    assert result.details["int8_share"] > 0.1
    assert read_sidecar(tmp_path / "model.engine").manifest.precision == "int8"


def test_second_export_comes_from_the_cache_and_a_change_does_not(
    trt_rtx: Any, pose_onnx: Path, tmp_path: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "model.engine"
    first = export_model(str(pose_onnx), out, RECIPE)
    sidecar = read_sidecar(out)
    assert sidecar.half_share == 1
    assert sidecar.targets == ("sm89", "sm120")
    assert sidecar.batches == (1, 2, 4)
    assert sidecar.builder_version == trt_rtx.__version__
    assert sidecar.manifest.precision == "fp16"
    assert sidecar.manifest.flip
    assert f"--trt-rtx --target sm89,sm120 --batch 1,2,4 -o {out}" in sidecar.rebuild
    assert "from_cache" not in first.details
    assert first.deviation.mean_px <= 0.3

    again = export_model(str(pose_onnx), tmp_path / "again.engine", RECIPE)
    assert again.details["from_cache"] is True
    assert sha256_of(tmp_path / "again.engine") == sha256_of(out)
    assert again.deviation == first.deviation

    other = Recipe(builder="tensorrt_rtx", targets=("sm89",), batches=(1, 2, 4))
    assert "from_cache" not in export_model(str(pose_onnx), tmp_path / "other.engine", other).details

    (entry,) = (path for path in cache_folder.rglob("*.engine") if sha256_of(path) == sha256_of(out))
    entry.write_bytes(entry.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        rebuilt = export_model(str(pose_onnx), tmp_path / "rebuilt.engine", RECIPE)
    assert "built again" in caplog.text
    assert "from_cache" not in rebuilt.details
    read_sidecar(tmp_path / "rebuilt.engine")


class _Run(Session):
    """An engine as a GPU would run it: here the graph it comes from, with its joints moved."""

    backend, device, threads, max_batch = "tensorrt", "cuda", 1, 4

    def __init__(self, graph: Session, moved_px: float) -> None:
        super().__init__(graph.path, graph.manifest.model_copy(update={"precision": "fp16"}))
        self.graph, self.moved_px = graph, moved_px

    def _run(self, inputs: Any) -> tuple[NDArray[np.float32], ...]:
        (joints,) = self.graph.run(inputs)
        return (joints + np.array([self.moved_px, 0, 0], np.float32),)

    def _close(self) -> None:
        self.graph.close()


@pytest.mark.parametrize("moved_px", [0.1, 2.0])
def test_an_engine_that_runs_here_is_held_to_the_limits_itself(
    trt_rtx: Any,
    pose_onnx: Path,
    tmp_path: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    moved_px: float,
) -> None:
    def opened(path: Path, **options: Any) -> Session:
        return _Run(open_session(pose_onnx), moved_px) if path.suffix == ".engine" else open_session(path, **options)

    monkeypatch.setattr(parity, "gpu_here", lambda: "a GPU")
    monkeypatch.setattr(parity, "open_session", opened)
    out = tmp_path / "model.engine"
    if moved_px > LIMITS["fp16"].mean_px:
        with pytest.raises(ParityError, match=r"model\.engine: .*mean distance 2\.000 px"):
            export_model(str(pose_onnx), out, RECIPE)
        assert not out.exists()
        assert not list(cache_folder.rglob("*.engine*"))  # nor is it served to the next one
        return
    assert export_model(str(pose_onnx), out, RECIPE).details["engine_mean_px"] == pytest.approx(moved_px, abs=1e-3)


def test_an_engine_that_cannot_be_opened_is_said_not_to_have_been_run(
    trt_rtx: Any, pose_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parity, "gpu_here", lambda: "a GPU")  # this machine's library finds none
    with caplog.at_level(logging.WARNING):
        result = export_model(str(pose_onnx), tmp_path / "model.engine", RECIPE)
    assert "only its graph was compared" in caplog.text
    assert "engine_mean_px" not in result.details


def test_an_engine_is_refused_where_it_cannot_run(trt_rtx: Any, pose_onnx: Path, tmp_path: Path) -> None:
    from autopose.runtime.gpu import gpu_here
    from autopose.runtime.session import open_session

    out = tmp_path / "model.engine"
    export_model(str(pose_onnx), out, RECIPE)
    if gpu_here() is None:
        with pytest.raises(BackendError, match="runs on an NVIDIA GPU"):
            open_session(out)
    sidecar_path(out).unlink()
    with pytest.raises(ModelError, match="sidecar"):
        open_session(out)


def test_no_gpu_and_no_target_is_refused_before_any_work(
    trt_rtx: Any, monkeypatch: pytest.MonkeyPatch, pose_onnx: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    monkeypatch.setattr("autopose.export.pipeline.gpu_here", lambda: None)
    with pytest.raises(BackendError, match="--target sm89"):
        export_model(str(pose_onnx), tmp_path / "m.engine", replace(RECIPE, targets=()))
    assert not list(tmp_path.iterdir())


def test_export_to_triton_refuses_rtx_engines(trt_rtx: Any, pose_onnx: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match="no backend for TensorRT-RTX"):
        export_model(str(pose_onnx), tmp_path / "m.engine", replace(RECIPE, triton=tmp_path / "repository"))


@pytest.mark.parametrize(("kind", "extra"), [("tensorrt", "trt"), ("tensorrt_rtx", "trt-rtx")])
def test_refuses_without_the_library_in_one_sentence(
    kind: Any, extra: str, monkeypatch: pytest.MonkeyPatch, pose_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, kind, None)
    save_checkpoint(tmp_path / "m.safetensors", pose_checkpoint)
    with pytest.raises(MissingDependencyError, match=rf'(?s)install "autopose\[{extra}\]".*Instead, '):
        export_model(str(tmp_path / "m.safetensors"), tmp_path / "m.engine", Recipe(builder=kind))
    assert not (tmp_path / "m.engine").exists()


def test_refuses_old_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.9.0.34"))
    with pytest.raises(BackendError, match=r"tensorrt 10\.9\.0\.34 is too old: 10\.12"):
        load_builder("tensorrt")


def test_precision_proof_reads_the_inspectors_of_both_generations() -> None:
    ten = [
        {
            "Name": "conv_0",
            "LayerType": "CaskConvolution",
            "Outputs": [{"Format/Datatype": "Channel major FP16"}],
        },
        {"Name": "conv_1", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "reformat", "LayerType": "Reformat", "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
    ]
    assert inspected_half_share(ten) == 0.5
    eleven = [{"Name": "Conv_3 + Relu", "LayerType": "Gemm", "Outputs": [{"Format": "Half NHWC8"}]}]
    assert inspected_half_share(eleven) == 1
    # What libtensorrt_rtx 1.7 (src/runtime/common/inspector.cpp) writes: name, dimensions, strides, type, format.
    unknown = {"Format": "Format not available due to dynamic shapes"}
    types = [{"Datatype": "Half"} | unknown, {"Datatype": "Half"} | unknown, {"Datatype": "Float"} | unknown]
    typed = [{"Name": "Conv_1", "LayerType": "CaskConvolution", "Outputs": [output]} for output in types]
    assert inspected_half_share(typed) == 2 / 3
    assert inspected_half_share([{"Name": "Conv_1", "LayerType": "CaskConvolution", "Outputs": [unknown]}]) is None
    assert inspected_half_share([]) is None
    require_half("fp32", 0.0, "engine")
    require_half("fp16", 0.8, "engine")
    with pytest.raises(BackendError, match="79% of its convolutions"):
        require_half("fp16", 0.79, "engine")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["tensorrt", "tensorrt_rtx"])
def test_an_engine_gives_what_its_graph_gives(kind: Any, pose_onnx: Path, tmp_path: Path) -> None:
    """In every bucket, in its first run, in the one that records the graph, and in those that launch it."""
    pytest.importorskip(kind)
    out = tmp_path / "model.engine"
    try:
        result = export_model(str(pose_onnx), out, Recipe(builder=kind, precision="fp32", batches=(1, 2, 6)))
    except BackendError as error:
        pytest.skip(f"{kind} does not build for this GPU: {error}")
    assert result.details["engine_mean_px"] <= LIMITS["fp32"].mean_px
    with open_session(out) as engine, open_session(pose_onnx, device="cpu") as graph:
        width, height = graph.manifest.codec.input_size_wh
        crops = synthetic_crops(6, (width, height))
        (expected,) = graph.run(crops)
        for count in (1, 2, 3, 6, 1, 2, 3, 6, 5, 1, 1):
            (found,) = engine.run(crops[-count:])
            np.testing.assert_allclose(found[..., 2], expected[-count:, :, 2], atol=5e-3)
            assert np.median(np.abs(found - expected[-count:])[..., :2]) < 0.02
