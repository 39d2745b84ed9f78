"""``autopose export`` from start to end: files, figures, refusals."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from autopose.cli import app
from autopose.errors import AutoposeError, ModelError, UsageError
from autopose.export import pipeline
from autopose.export.crops import synthetic_crops
from autopose.export.deviation import LIMITS, Deviation, Limits
from autopose.export.parity import GraphReference
from autopose.export.pipeline import as_bundled, export_model
from autopose.export.recipe import Recipe, engine_key, rebuild_command
from autopose.export.shared_weights import share_weights
from autopose.export.slim import compact_weights
from autopose.export.source import name_of, source_file
from autopose.export.to_onnx import export_onnx, manifest_for
from autopose.manifest import Looks
from autopose.runtime.models import open_model
from autopose.runtime.session import open_session
from autopose.training.predictor import TorchPredictor
from autopose.zoo import bundled_weights


def _invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(pose_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(folder / "best.safetensors", pose_checkpoint)
    return folder


def test_a_run_folder_becomes_a_checked_file(run: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "model.onnx", tmp_path / "figures.json"
    result = _invoke(run, "-o", out, "--no-flip", "--json", figures, "--triton", tmp_path / "triton")
    assert result.exit_code == 0, result.output
    assert "checked on 16 synthetic pictures" in result.output
    content = json.loads(figures.read_text())
    assert content["precision"] == "fp32"
    assert content["manifest"]["flip"] is False
    assert content["deviation"]["joints"] > 50
    assert content["deviation"]["mean_px"] <= content["limits"]["mean_px"]
    assert len(list((tmp_path / "triton").glob("*/1/model.onnx"))) == 1


@pytest.mark.parametrize("flip", [False, True])
def test_weights_are_exported_on_first_use(
    run: Path, flip: bool, tmp_path: Path, pose_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "cache"))
    codec = pose_checkpoint.codec
    crops = synthetic_crops(4, codec.input_size_wh)
    joints, scores = TorchPredictor(pose_checkpoint.build(), codec, pose_checkpoint.skeleton, flip=flip)(crops)
    made = []
    for named in (run, run / "best.safetensors"):
        with open_model(named, flip=flip, device="cpu", threads=1) as session:
            assert session.manifest.flip == flip
            (found,) = session.run(crops)
            made.append((session.path, session.path.stat().st_mtime_ns))
        np.testing.assert_allclose(found[..., 2], scores, atol=1e-3)
        assert np.abs(found[..., :2] - joints)[scores > 0.2].max() < 0.1
    assert made[0] == made[1]  # once
    assert list((tmp_path / "cache").glob("*.onnx")) == [made[0][0]]


def test_weights_of_another_task_are_refused_before_they_are_exported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="is a pose model; expected a detector"):
        open_model(run, task="detector", device="cpu", threads=1)
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize(("precision", "share"), [("fp16", "half_share"), ("int8", "int8_share")])
def test_an_exported_graph_becomes_smaller_types(
    precision: Any,
    share: str,
    pose_onnx: Path,
    tmp_path: Path,
    pose_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The maps of an untrained network are nearly flat: eight bits move their peaks far.
    monkeypatch.setitem(LIMITS, "int8", Limits(100.0, None, 1.0))
    out = tmp_path / "model.onnx"
    result = export_model(str(pose_onnx), out, Recipe(precision=precision))
    assert result.details[share] > 0.5
    with open_session(out, device="cpu") as session:
        assert session.manifest.precision == precision
        (keypoints,) = session.run(synthetic_crops(2, pose_checkpoint.codec.input_size_wh))
    assert keypoints.shape == (2, 17, 3)
    with pytest.raises(ModelError, match=f"is {precision}; artefacts are made from and held against an FP32 model"):
        export_model(str(out), tmp_path / "again.onnx", Recipe())


def test_graph_reference_gives_the_networks_heatmaps(tmp_path: Path, pose_checkpoint: Checkpoint) -> None:
    codec = pose_checkpoint.codec.model_copy(update={"refine": "oks"})
    graph = export_onnx(replace(pose_checkpoint, codec=codec), tmp_path / "model.onnx")
    crops = synthetic_crops(2, codec.input_size_wh, seed=4)
    predictor = TorchPredictor(pose_checkpoint.build(), codec, pose_checkpoint.skeleton, flip=True)
    (maps,) = GraphReference(graph).maps(crops)
    np.testing.assert_allclose(maps, predictor.heatmaps(crops), atol=1e-4)


@pytest.fixture(scope="module")
def sharing(pose_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph and the file of its weights, as the bundled ones are."""
    folder = tmp_path_factory.mktemp("sharing")
    model = onnx.load(pose_onnx)
    compact_weights(model)
    onnx.save(model, folder / "b.onnx")
    share_weights([folder / "b.onnx"], folder / "weights.data")
    return folder


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_with_its_weights_in_another_file(
    precision: Any, sharing: Path, tmp_path: Path, pose_checkpoint: Checkpoint
) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(sharing, shared)
    out = tmp_path / "out.onnx"
    result = export_model(str(shared / "b.onnx"), out, Recipe(precision=precision))
    assert result.deviation.mean_px <= LIMITS[precision].mean_px
    (shared / "weights.data").unlink()
    with open_session(out, device="cpu") as session:  # it carries its own
        session.run(synthetic_crops(1, pose_checkpoint.codec.input_size_wh))
    with pytest.raises(AutoposeError, match=r"b\.onnx"):
        export_model(str(shared / "b.onnx"), tmp_path / "again.onnx", Recipe(precision=precision))


def test_never_overwrites_the_model_it_is_made_from(
    pose_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(pose_onnx.read_bytes())
    for out in (None, tmp_path / "model.onnx"):
        with pytest.raises(UsageError, match="is the model itself"):
            export_model("model.onnx", out, Recipe(precision="int8"))
    assert Path("model.onnx").read_bytes() == pose_onnx.read_bytes()


def test_files_are_called_after_the_model(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert name_of(".") == run.name
    assert name_of("best.safetensors") == "best"
    assert name_of("default") == "default"
    built: list[Path] = []

    def engine_for(model: str, out: Path, recipe: Recipe) -> None:
        built.append(out)

    monkeypatch.setattr("autopose.export.pipeline.engine_for", engine_for)
    export_model(".", None, Recipe(builder="tensorrt"))
    assert built == [Path(f"{run.name}.engine")]


def test_calibration_and_check_take_a_folder_of_pictures(pose_onnx: Path, tmp_path: Path) -> None:
    import cv2

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, crop in enumerate(synthetic_crops(3, (90, 120))):
        cv2.imwrite(str(pictures / f"{index}.png"), crop)
    recipe = Recipe(precision="fp16", calibration=pictures, check=pictures)
    result = export_model(str(pose_onnx), tmp_path / "model.onnx", recipe)
    assert result.checked_on == f"3 pictures of {pictures}"
    assert result.deviation.crops == 3
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AutoposeError, match="holds no image"):
        export_model(str(pose_onnx), tmp_path / "none.onnx", Recipe(check=empty))
    with pytest.raises(AutoposeError, match="no such folder"):
        export_model(str(pose_onnx), tmp_path / "none.onnx", Recipe(check=tmp_path / "missing"))
    assert not (tmp_path / "none.onnx").exists()


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe(flip=False), "--no-flip cannot be had"),
        (Recipe(decode=False), "--no-decode cannot be had"),
        (Recipe(io="plain"), "--io plain cannot be had"),
    ],
)
def test_refuses_what_an_exported_graph_cannot_become(
    recipe: Recipe, reason: str, pose_onnx: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        export_model(str(pose_onnx), tmp_path / "model.onnx", recipe)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["no-such-model"], 1, "no-such-model"),
        (["no-such.onnx"], 1, "No model file"),
        (["default", "--trt", "--trt-rtx"], 2, "different engines"),
        (["default", "--target", "sm89"], 2, "--target goes with --trt-rtx"),
        (["default", "--portable"], 2, "--portable goes with --trt"),
        (["default", "-o", "model.engine"], 2, "writes a .onnx file"),
        (["default", "--batch", "1,8,64"], 2, "--batch goes with --trt"),
        (["default", "--workspace", "2"], 2, "--workspace goes with --trt"),
        (["default", "--trt", "--workspace", "inf"], 2, "--workspace inf: expected 0.01 to 1024 GiB"),
        (["default", "--trt", "--workspace", "nan"], 2, "--workspace nan: expected"),
        (["default", "--images", "photos"], 2, "--images goes with --check or --calibration"),
        (["default", "--trt", "--compact"], 2, "--compact stores FP32"),
        (["default", "--calibration", "no-such-folder"], 1, "no such folder or annotation file"),
        (["default", "--looks", "2"], 2, "go with detectors"),
        (["detector-fast", "--check", __file__], 1, "a detector is checked on a folder of images"),
        (["default", "--trt", "--batch", "8,1"], 2, "expected three numbers"),
        (["default", "--trt", "--batch", "8,1,2"], 2, "smallest <= typical <= largest"),
    ],
)
def test_refuses_in_one_sentence(arguments: list[str], code: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pipeline, "_write_fp32")  # before any work
    result = _invoke(*arguments)
    assert isinstance(result.exception, AutoposeError)
    assert result.exception.exit_code == code
    assert reason in str(result.exception)


def test_refuses_files_that_are_no_models(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        export_model(str(broken), tmp_path / "out.onnx", Recipe())
    foreign = tmp_path / "foreign.onnx"
    onnx.save(
        onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node("Relu", ["images"], ["y"])],
                "foreign",
                [onnx.helper.make_tensor_value_info("images", 1, ["n"])],
                [onnx.helper.make_tensor_value_info("y", 1, ["n"])],
            ),
            opset_imports=[onnx.helper.make_opsetid("", 20)],
            ir_version=10,
        ),
        str(foreign),
    )
    with pytest.raises(ModelError, match="carries no autopose manifest"):
        export_model(str(foreign), tmp_path / "out.onnx", Recipe())
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"")
    with pytest.raises(ModelError, match="is an engine already"):
        export_model(str(engine), tmp_path / "out.onnx", Recipe())


def test_bundled_names_come_before_folders_of_that_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autopose.commands.scored_models import is_checkpoint
    from autopose.description import genotype_of
    from autopose.runtime.models import resolve_model
    from autopose.zoo import zoo_folder

    monkeypatch.chdir(tmp_path)
    expected = genotype_of("fast")[0]
    shutil.copytree(run, tmp_path / "fast")
    (tmp_path / "default").mkdir()
    assert source_file("fast", flip=True) == zoo_folder() / "fast.safetensors"
    assert source_file("default", flip=True).parent == zoo_folder()
    assert resolve_model("fast").parent == zoo_folder()
    assert genotype_of("fast")[0] == expected
    assert not is_checkpoint("fast")
    assert is_checkpoint("./fast")  # which says that the folder is meant
    assert source_file("./fast", flip=True).parent.resolve() == tmp_path / "fast"


@pytest.mark.parametrize("lacking", ["onnx", "onnxscript"])
def test_export_without_its_packages_is_one_sentence(lacking: str, tmp_path: Path) -> None:
    """A base install has neither: a fresh process in which the import system does not find the package."""
    code = f"""
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == {lacking!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if each is PathFinder else each for each in sys.meta_path]
from autopose.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "fast", "-o", str(tmp_path / "x.onnx")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert f"needs the package {lacking!r}" in done.stderr
    assert 'pip install "autopose[train]"' in done.stderr


@pytest.mark.parametrize(
    ("name", "looks", "size"),
    [("detector-default", 2, (576, 448)), ("detector-fast", 1, (416, 320)), ("detector-best", 4, (576, 448))],
)
def test_bundled_detectors_of_the_same_weights_are_exported_as_they_are_bundled(
    name: str, looks: Looks, size: tuple[int, int]
) -> None:
    weights = bundled_weights()
    assert weights[name] == weights["detector-default"]
    recipe = as_bundled(name, Recipe())
    assert (recipe.looks, recipe.input_wh) == (looks, size)
    assert as_bundled(name, Recipe(looks=looks)) == recipe
    wide = as_bundled(name, Recipe(input_wh=(640, 512)))
    assert wide == Recipe(looks=looks, input_wh=(640, 512))  # whoever says what he wants gets that
    other: Looks = 1 if looks == 2 else 2
    assert as_bundled(name, Recipe(looks=other)) == Recipe(looks=other)
    assert as_bundled("default", Recipe()) == Recipe()
    command = rebuild_command(name, None, replace(recipe, builder="tensorrt"))
    assert command == f"autopose export {name} --trt --looks {looks} --input {size[0]}x{size[1]}"
    keys = {engine_key(weights[name], each, "11.0") for each in (recipe, Recipe(), Recipe(looks=looks))}
    assert len(keys) == 3


def test_bundled_detectors_are_served_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share their weights, and the name in these; the graphs themselves are not of interest here."""
    monkeypatch.chdir(tmp_path)

    def exported(model: str, out: Path, recipe: Recipe, finish: Any) -> pipeline.Result:
        manifest = manifest_for(load_checkpoint(bundled_weights()[model]), recipe.graph_options())
        out.write_bytes(model.encode())
        return pipeline.Result(out, manifest, Deviation(*[0] * 9), "nothing")

    monkeypatch.setattr(pipeline, "_export", exported)
    for model in ("detector-fast", "detector-default", "detector-best"):
        export_model(model, None, Recipe(triton=Path("models")))
    served = {folder.name: (folder / "1" / "model.onnx").read_bytes() for folder in Path("models").iterdir()}
    assert served == {
        "autopose_detector_fast_fp32": b"detector-fast",
        "autopose_detector_default_fp32": b"detector-default",
        "autopose_detector_best_fp32": b"detector-best",
    }


def test_looks_and_input_size_of_a_detector(detector_checkpoint: Checkpoint, run: Path, tmp_path: Path) -> None:
    weights, graph = tmp_path / "best.safetensors", tmp_path / "detector.onnx"
    save_checkpoint(weights, detector_checkpoint)
    result = _invoke(weights, "--looks", 4, "--input", "256x192", "-o", graph)
    assert result.exit_code == 0, result.output
    copy = export_model(str(graph), tmp_path / "copy.onnx", Recipe(looks=4, input_wh=(256, 192)))
    assert (copy.manifest.looks, copy.manifest.codec.input_size_wh) == (4, (256, 192))
    for model, options, reason in (
        (graph, ["--looks", 1], "--looks 1 cannot be had from this graph"),
        (graph, ["--input", "128x128"], "--input 128x128 cannot be had from this graph"),
        (run, ["--looks", 2], "go with detectors"),
        (weights, ["--looks", 3], "expected 1, 2"),
        (weights, ["--input", "100x64"], "--input '100x64': both sides must be multiples of 32"),
    ):
        with pytest.raises(AutoposeError, match=reason):
            raise _invoke(model, *options, "-o", tmp_path / "other.onnx").exception
