"""Sessions and model names: right answers from real ONNX files, and refusals that say what to do."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from autopose.errors import BackendError, ModelError
from autopose.heatmap import Codec
from autopose.manifest import Manifest
from autopose.runtime import ort_session
from autopose.runtime.models import bundled_models, open_model, resolve_model
from autopose.runtime.ort_session import providers_for, usable_cores
from autopose.runtime.predictor import SessionPredictor
from autopose.runtime.session import Session, normalised, open_session


def _crops(figures: Any, count: int = 3) -> Any:
    return np.stack([figures.paint((96, 128), figures.at(10 + 4 * i, 8)) for i in range(count)])


def test_session_reads_coloured_joints(models: Path, figures: Any) -> None:
    with open_session(models / "pose.onnx", device="cpu", threads=1) as session:
        (output,) = session.run(_crops(figures))
    for i in range(3):
        assert np.abs(output[i, :, :2] - figures.at(10 + 4 * i, 8)).max() < 3  # a cell is 4 px wide


def test_plain_io_equals_uint8_io(models: Path, figures: Any) -> None:
    crops = _crops(figures)
    with open_session(models / "pose.onnx", device="cpu") as uint8, open_session(models / "plain.onnx") as plain:
        np.testing.assert_allclose(uint8.run(crops)[0], plain.run(crops)[0], atol=1e-4)


def test_normalised_is_the_published_formula() -> None:
    image = np.zeros((1, 1, 1, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 51  # blue 1, red 0.2
    rgb = normalised(image, Manifest())[0, :, 0, 0]
    np.testing.assert_allclose(rgb, [(0.2 - 0.485) / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], rtol=1e-5)


def test_close_is_idempotent_and_final(models: Path) -> None:
    session = open_session(models / "pose.onnx", device="cpu")
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run(np.zeros((1, 128, 96, 3), np.uint8))


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 96, 128, 3), np.uint8), np.zeros((1, 128, 96, 3), np.float32), np.zeros((0, 128, 96, 3), np.uint8)],
)
def test_refuses_wrong_batches(models: Path, images: Any) -> None:
    with open_session(models / "pose.onnx", device="cpu") as session, pytest.raises(BackendError, match="uint8, N > 0"):
        session.run(images)


@pytest.mark.parametrize(("asked", "threads"), [(None, usable_cores()), (3, 3)])
def test_runs_have_the_threads_that_were_asked_for(models: Path, asked: int | None, threads: int) -> None:
    with open_session(models / "pose.onnx", device="cpu", threads=asked) as session:
        options = session._session.get_session_options()  # type: ignore[attr-defined]
        assert (session.threads, options.intra_op_num_threads) == (threads, threads)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_refuses_cuda_that_would_be_cpu(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    available = onnxruntime.get_available_providers()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [p for p in available if "CUDA" not in p])
    with pytest.raises(BackendError, match="asked for"):
        open_session(models / "pose.onnx", device="cuda")
    monkeypatch.setattr(ort_session, "cuda_driver_present", lambda: True)
    assert open_session(models / "pose.onnx", device="auto").device == "cpu"  # with a warning in the log


def test_missing_cuda_libraries_are_not_told_on_standard_output(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort_session, "cuda_driver_present", lambda: True)
    ort_session._preload_cuda.cache_clear()
    open_session(models / "pose.onnx", device="auto").close()
    assert capsys.readouterr().out == ""  # ONNX Runtime prints what it cannot load


@pytest.mark.parametrize(("name", "content"), [("empty.onnx", b""), ("noise.onnx", b"noise" * 50)])
def test_refuses_files_that_are_no_onnx(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=name):
        open_session(path)


def test_refuses_foreign_and_unknown_files(models: Path, tmp_path: Path) -> None:
    foreign = onnx.load(str(models / "pose.onnx"))
    del foreign.metadata_props[:]
    onnx.save(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ModelError, match="no autopose manifest"):
        open_session(tmp_path / "foreign.onnx")
    renamed = onnx.load(str(models / "pose.onnx"))
    renamed.graph.node.insert(0, onnx.helper.make_node("Identity", ["pictures"], ["images"]))
    renamed.graph.input[0].name = "pictures"
    onnx.save(renamed, str(tmp_path / "renamed.onnx"))
    with pytest.raises(ModelError, match=r"takes \['pictures'\]"):
        open_session(tmp_path / "renamed.onnx")
    (tmp_path / "model.engine").touch()
    with pytest.raises(BackendError, match="runs on a GPU only"):
        open_session(tmp_path / "model.engine", device="cpu")
    (tmp_path / "model.tflite").touch()
    with pytest.raises(BackendError, match="tflite"):
        open_session(tmp_path / "model.tflite")
    with pytest.raises(ModelError, match="No model file"):
        open_session(tmp_path / "missing.onnx")


class _Maps(Session):
    """A session that returns prepared maps and remembers what it was given."""

    backend, device, threads = "none", "cpu", 1

    def __init__(self, maps: list[Any]) -> None:
        fields = {"outputs": ("heatmaps",), "flip": False, "decode": False, "codec": Codec(input_size_wh=(32, 32))}
        super().__init__(Path("maps"), Manifest.model_validate(fields))
        self.maps, self.given = maps, []  # type: ignore[var-annotated]

    def _run(self, inputs: Any) -> Any:
        self.given.append(inputs)
        return (self.maps[len(self.given) - 1],)

    def _close(self) -> None: ...


def test_the_largest_batch_of_an_engine_is_taken_and_no_larger_one() -> None:
    session = _Maps([np.zeros((2, 17, 8, 8), np.float32)] * 3)
    session.max_batch = 2
    assert session.run(np.zeros((2, 32, 32, 3), np.uint8))[0].shape == (2, 17, 8, 8)
    with pytest.raises(BackendError, match="at most 2"):
        session.run(np.zeros((3, 32, 32, 3), np.uint8))
    SessionPredictor(session, flip=False)(np.zeros((4, 32, 32, 3), np.uint8))
    assert [len(given) for given in session.given] == [2, 2, 2]


def test_flip_averaging_in_the_runtime_is_the_average_of_both_maps() -> None:
    rng = np.random.default_rng(0)
    straight, mirrored = rng.random((2, 1, 17, 8, 8), np.float32)
    session = _Maps([straight, mirrored])
    crops = rng.integers(0, 255, (1, 32, 32, 3), np.uint8)
    xy, scores = SessionPredictor(session, flip=True)(crops)
    np.testing.assert_array_equal(session.given[1][0], crops[0, :, ::-1])
    left, right = 5, 6  # shoulders: what the mirrored picture shows as right is the left one
    average = (straight[0, left] + mirrored[0, right][:, ::-1]) / 2
    row, column = np.unravel_index(average.argmax(), average.shape)
    assert scores[0, left] == pytest.approx(average.max())
    assert np.abs(xy[0, left] - (4 * column + 1.5, 4 * row + 1.5)).max() <= 1.0  # the quarter step
    averaging = _Maps([average[None, None].repeat(17, 1)])  # as a graph that does it itself
    averaging.manifest = averaging.manifest.model_copy(update={"flip": True})
    assert SessionPredictor(averaging, flip=True)(crops)[1][0, left] == pytest.approx(average.max())
    assert len(averaging.given) == 1


def test_refuses_flip_that_a_graph_cannot_do(models: Path) -> None:
    with open_session(models / "pose.onnx") as session, pytest.raises(ModelError, match="export MODEL --flip"):
        SessionPredictor(session, flip=True)
    with open_session(models / "pose-flip.onnx") as session, pytest.raises(ModelError, match="export MODEL --no-flip"):
        SessionPredictor(session, flip=False)
    with open_session(models / "detector.onnx") as session, pytest.raises(ModelError, match="--detector"):
        SessionPredictor(session)


def test_batches_do_not_change_results(models: Path, figures: Any) -> None:
    crops = _crops(figures, 5)
    with open_session(models / "pose.onnx") as session:
        one = SessionPredictor(session, flip=False, batch_size=2)(crops)
        two = SessionPredictor(session, flip=False, batch_size=5)(crops)
        none = SessionPredictor(session, flip=False)(crops[:0])
    np.testing.assert_array_equal(one[0], two[0])
    assert none[0].shape == (0, 17, 2)


def test_resolves_bundled_names(models: Path, tmp_path: Path) -> None:
    for name in ("fast.onnx", "fast-flip.onnx", "detector-default.onnx"):
        shutil.copy(models / "pose.onnx", tmp_path / name)
    assert list(bundled_models("pose", tmp_path)) == ["fast"]
    assert resolve_model("fast", flip=True, folder=tmp_path).name == "fast-flip.onnx"
    assert resolve_model("fast", flip=False, folder=tmp_path).name == "fast.onnx"
    assert resolve_model("default", task="detector", folder=tmp_path).name == "detector-default.onnx"
    assert resolve_model("detector-default", task="detector", folder=tmp_path).name == "detector-default.onnx"
    with pytest.raises(ModelError, match=r"did you mean 'fast'\?"):
        resolve_model("fsat", folder=tmp_path)


def test_resolves_run_folders(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        resolve_model(tmp_path)
    shutil.copy(models / "pose.onnx", tmp_path / "b.onnx")
    shutil.copy(models / "pose-flip.onnx", tmp_path / "a.onnx")
    assert resolve_model(tmp_path, flip=True).name == "a.onnx"
    assert resolve_model(tmp_path, flip=False).name == "b.onnx"
    shutil.copy(models / "detector.onnx", tmp_path / "aa.onnx")
    for flip in (True, False):  # which is a pose model's business
        assert resolve_model(tmp_path, task="detector", flip=flip).name == "aa.onnx"


def test_refuses_other_files_and_wrong_backends(models: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pth").touch()
    with pytest.raises(ModelError, match=r"last\.pth: is no model.*safetensors"):
        resolve_model(tmp_path / "last.pth")
    with pytest.raises(BackendError, match="--trt"):
        resolve_model(models / "pose.onnx", backend="trt")
    with pytest.raises(ModelError, match="expected a detector"):
        open_model(models / "pose.onnx", task="detector")


def test_one_session_serves_eight_threads(models: Path, figures: Any) -> None:
    crops = _crops(figures, 4)
    with open_session(models / "pose.onnx", threads=1) as session:
        expected = session.run(crops)[0]
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(session.run(crops)[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 8
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_a_session_reports_nothing_to_anybody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry queues its events in the home folder; it is off once autopose was imported first."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = "from autopose import Estimator; Estimator(flip=False).warmup()"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_fallback_and_the_cpu_by_name_exclude_each_other(models: Path) -> None:
    """What made cropping on the device impossible; ONNX Runtime itself is asked."""
    import onnxruntime

    assert providers_for(cuda=True, whole=False) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert providers_for(cuda=False, whole=True) == ["CPUExecutionProvider"]
    # Places in a frame are no matter of ten bits, to which TF32, the default, rounds.
    assert providers_for(cuda=True, whole=True) == [("CUDAExecutionProvider", {"use_tf32": "0"})]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Exception, match="explicitly added the CPU EP"):
        onnxruntime.InferenceSession(str(models / "pose.onnx"), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "changes",
    [
        {"codec": {"input_size_wh": [64, 128]}},
        {"codec": {"input_size_wh": [0, -5]}},
        {"codec": {"input_size_wh": [30000, 30000]}},
        {"skeleton": "mpii16"},
        {"decode": False},
        {"outputs": ["keypoints", "keypoints"]},
    ],
    ids=str,
)
def test_refuses_a_manifest_that_is_not_the_graphs(models: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = onnx.load(str(models / "pose.onnx"))
    content = json.loads(model.metadata_props[0].value)
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    model.metadata_props[0].value = json.dumps(content)
    onnx.save(model, str(tmp_path / "changed.onnx"))
    with pytest.raises(ModelError, match="manifest"):
        open_session(tmp_path / "changed.onnx", device="cpu")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_can_close_and_end(models: Path) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from autopose.runtime.session import open_session

session, other = (open_session({str(models / "pose.onnx")!r}, device="cpu", threads=2) for _ in range(2))
if os.fork() == 0:
    signal.alarm(10)  # ONNX Runtime waited for threads that a fork does not copy
    session.close()
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
