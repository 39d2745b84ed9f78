"""``autopose bench``: all figures there, saved and compared; none is judged by its size."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from autopose.cli import app
from autopose.errors import DataError, MediaError, ModelError, UsageError
from autopose.poses import Poses
from autopose.runtime import feeds
from autopose.runtime.bench import BenchResult, as_text, bench_network, comparison, load_bench
from autopose.runtime.bench_run import bench_subject, is_model
from autopose.runtime.estimator import Estimator
from autopose.runtime.pipeline import DEFAULT_EVERY
from autopose.runtime.video import VideoReader


def test_a_model_on_synthetic_frames(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    model = str(models / "pose-flip.onnx")
    arguments = ["bench", model, "--against", model, "--detector", str(models / "detector.onnx"), "--device", "cpu"]
    arguments += ["--max-frames", "3", "--rounds", "2", "--json", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    assert set(content["network"]) == {"1", "4", "8", "16"}
    for batch, row in content["network"].items():
        assert row["persons_per_s"] == pytest.approx(1000 * int(batch) / row["p50_ms"])
    assert content["settings"]["flip"] is True
    assert content["settings"]["detector"] == str(models / "detector.onnx")
    assert content["pipeline"]["persons"] == 3 * 4
    for name in ("detect", "crop", "pose", "track", "smooth", "draw"):
        assert content["stages"][name]["p95_ms"] >= content["stages"][name]["p50_ms"] > 0
    assert "persons/s" in result.output
    saved = load_bench(out)
    assert as_text(saved).splitlines()[0] in result.output
    again = CliRunner().invoke(app, ["bench", str(out), "--against", str(out)])
    assert "pipeline: 1.00x" in again.output


def test_a_video(models: Path, walk: Path) -> None:
    begun, cpu_begun = time.perf_counter(), time.process_time()
    result = bench_subject(
        str(walk),
        model=str(models / "pose-flip.onnx"),
        detector=str(models / "detector.onnx"),
        device="cpu",
        max_frames=6,
        rounds=2,
    )
    assert result.pipeline["frames"] == 6
    assert result.pipeline["persons"] == 12
    assert result.stages["decode"]["total_s"] > 0
    assert 1000 * result.stages["pose"]["total_s"] >= 3 * result.stages["pose"]["p50_ms"]  # of six frames
    assert result.settings["source"] == str(walk)
    assert (result.settings["every"], result.settings["max_frames"]) == (DEFAULT_EVERY, 6)
    assert 0 < result.pipeline["seconds"] < time.perf_counter() - begun
    assert 0 < result.pipeline["cpu_seconds"] < time.process_time() - cpu_begun
    assert result.peak_memory_mib is None or 20 < result.peak_memory_mib < 100_000


def test_a_saved_result_of_a_video_against_a_model_is_measured_on_that_video(
    models: Path, walk: Path, tmp_path: Path
) -> None:
    def invoke(*words: object) -> str:
        options = ["--detector", models / "detector.onnx", "--device", "cpu", "--max-frames", 4, "--rounds", 1]
        result = CliRunner().invoke(app, ["bench", *map(str, [*words, *options])])
        assert result.exit_code == 0, result.output
        return result.output

    before = tmp_path / "before.json"
    invoke(walk, "--model", models / "pose-flip.onnx", "--json", before)
    output = invoke(before, "--against", models / "maps.onnx", "--no-flip")
    assert f"{walk} with model {models / 'maps.onnx'} against {walk} with model {models / 'pose-flip.onnx'}" in output
    assert "model: pose-flip -> maps" in output
    assert "flip: True -> False" in output


def test_a_saved_result_is_read_first_and_its_options_hold(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, detector, before = models / "pose-flip.onnx", models / "detector.onnx", tmp_path / "before.json"

    def invoke(*words: object) -> Any:
        return CliRunner().invoke(app, ["bench", *map(str, words), "--device", "cpu", "--rounds", "1"])

    result = invoke(model, "--detector", detector, "--every", 3, "--max-frames", 5, "--threads", 3, "--json", before)
    assert result.exit_code == 0, result.output
    assert load_bench(before).settings["every"] == 3
    after = tmp_path / "after.json"
    assert invoke(model, "--against", before, "--json", after).exit_code == 0
    settings = load_bench(after).settings
    assert {key: settings[key] for key in ("every", "max_frames", "threads", "detector", "flip")} == {
        "every": 3, "max_frames": 5, "threads": 3, "detector": str(detector), "flip": True,
    }  # fmt: skip
    result = invoke(before, "--against", model, "--every", 1)
    assert "every: 3 -> 1" in result.output
    content = json.loads(before.read_text())
    content["settings"] |= {"backend": "tensorrt", "threads": 7}
    before.write_text(json.dumps(content))
    assert invoke(model, "--against", before, "--json", after).exit_code == 0
    assert load_bench(after).settings["threads"] != 7  # an engine has none
    monkeypatch.setattr("autopose.runtime.bench_run.bench_subject", None)  # nothing is measured before
    assert isinstance(invoke(model, "--against", tmp_path / "missing.json").exception, DataError)


@pytest.mark.parametrize(("every", "detections"), [(None, 3), (1, 5), (3, 2)])
def test_the_pipeline_on_synthetic_frames_detects_as_it_says(
    models: Path, monkeypatch: pytest.MonkeyPatch, every: int | None, detections: int
) -> None:
    calls, drawn = 0, []

    def drawing(image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
        drawn.append(len(poses))
        return image

    monkeypatch.setattr("autopose.runtime.bench.draw", drawing)

    def detector(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        nonlocal calls
        calls += 1
        time.sleep(0.005)
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)

    options: dict[str, Any] = {"detector": detector, "device": "cpu", "max_frames": 5, "rounds": 1}
    result = bench_subject(str(models / "pose-flip.onnx"), every=every, **options)
    assert calls == 1 + 5 + detections  # warming up, the stage alone, the pipeline
    assert result.stages["detect"]["p50_ms"] >= 5
    assert result.stages["pose"]["p50_ms"] > 0.1 * result.network["4"]["p50_ms"]  # of those four
    assert result.pipeline["persons"] == 5 * 4
    assert drawn == 2 * 5 * [4]  # the stage alone, the pipeline
    assert result.pipeline["persons_per_s"] == pytest.approx(4 * result.pipeline["fps"])
    assert f"detecting every {every or DEFAULT_EVERY}:" in as_text(result)


def test_a_network_is_asked_as_often_as_said_and_for_no_larger_batches_than_it_takes(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    with Estimator(models / "pose-flip.onnx", detector=models / "detector.onnx", device="cpu") as estimator:
        estimator.session.max_batch = 4  # as an engine's
        monkeypatch.setattr(estimator, "predictor", lambda crops: asked.append(len(crops)))
        clock = itertools.cycle(np.array([(0, k) for k in (*range(1, 21), 99)]).ravel() / 1000)  # 1, 2, ... 20, 99 ms
        monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
        figures = bench_network(estimator, (1, 4, 8), rounds=21)
    assert asked == [1] * (3 + 21) + [4] * (3 + 21)  # three to get warm
    rows = {batch: pytest.approx({"p50_ms": 11, "p95_ms": 20, "persons_per_s": int(batch) / 0.011}) for batch in "14"}
    assert figures == rows


def test_comparison_by_hand() -> None:
    def made(ms: float, threads: int) -> BenchResult:
        row = {"p50_ms": ms, "p95_ms": ms, "persons_per_s": 1.0}
        return BenchResult("x", {"threads": threads, "flip": True}, {"1": row}, {"pose": row}, {"fps": 1 / ms})

    text = comparison(made(10, 1), made(4, 2))
    assert "threads: 1 -> 2" in text
    assert "flip" not in text  # which is the same
    assert "batch 1: 2.50x" in text
    assert "pipeline: 2.50x" in text
    assert "  pose: 2.50x" in text.splitlines()
    (line,) = comparison(BenchResult("x", {}), BenchResult("y", {"source": "clip.mp4"})).splitlines()[1:]
    assert line == "  source: None -> clip.mp4"
    idle = BenchResult("x", {}, stages={"pose": {"p50_ms": 0.0}})  # of no frame
    assert "pose:" not in comparison(made(10, 1), idle)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format": "other", "version": 1, "subject": "x", "settings": {}}',
        '{"format": "autopose-bench", "version": 1}',
        '{"format": "autopose-bench", "version": 2, "subject": "x", "settings": {}}',
        '{"format": "autopose-bench", "version": 1, "subject": "x", "settings": null}',
        '{"format": "autopose-bench", "version": 1, "subject": "x", "settings": {}, "stages": {"pose": {"p50_ms": 1}}}',
    ],
)
def test_refuses_other_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(DataError, match="other"):
        load_bench(tmp_path / "other.json")


def test_refuses_what_is_neither_model_nor_source(tmp_path: Path, walk: Path) -> None:
    options: dict[str, Any] = {"device": "cpu"}
    with pytest.raises(MediaError, match="nothing-of-the-kind"):
        bench_subject("nothing-of-the-kind", **options)
    for name in "ab":
        (tmp_path / f"{name}.mp4").symlink_to(walk)
    with pytest.raises(UsageError, match="stands for 2 sources; name one of them"):
        bench_subject(str(tmp_path), **options)


@pytest.mark.parametrize(
    ("subject", "means"),
    [
        ("default", True),
        ("model.ONNX", True),
        ("model.engine", True),
        ("model.plan", True),
        ("run/best.safetensors", True),
        ("exported", True),
        ("trained", True),
        ("pictures", False),
        ("clip.mp4", False),
        ("detector-fast", False),
    ],
)
def test_what_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: str, means: bool) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("exported/model.onnx", "trained/best.safetensors", "pictures/a.jpg"):
        Path(file).parent.mkdir()
        Path(file).touch()
    assert is_model(subject) == means


@pytest.mark.parametrize(("kind", "detector"), [("model", "fast"), ("images", "default"), ("video", "fast")])
def test_the_detector_is_that_of_a_run_over_the_like(
    models: Path, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, detector: str
) -> None:
    (tmp_path / "a.jpg").touch()
    subject = {"model": models / "pose-flip.onnx", "images": tmp_path, "video": walk}[kind]
    opened: list[Any] = []

    def refusing(settings: dict[str, Any]) -> None:
        opened.append(settings)
        raise ModelError("not now")

    monkeypatch.setattr("autopose.runtime.bench_run.open_estimator", refusing)
    options: dict[str, Any] = {"flip": False}
    with pytest.raises(ModelError):
        bench_subject(str(subject), model="mine", **options)
    model = str(subject) if kind == "model" else "mine"
    assert opened == [{"model": model, "detector": detector, "flip": False}]


def test_a_stream_is_named_without_its_password(models: Path, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        fps, finite = 12.0, False

        def __init__(self, location: str) -> None:
            self._frames = itertools.cycle(list(VideoReader(walk)))

        def read(self) -> NDArray[np.uint8]:
            time.sleep(0.01)
            return next(self._frames).image

        def close(self) -> None: ...

    def runs(_: Estimator, rounds: int) -> dict[str, Any]:
        return {"1": {"rounds": rounds}}

    monkeypatch.setattr(feeds, "open_feed", Camera)
    monkeypatch.setattr("autopose.runtime.bench_run.bench_network", runs)
    options: dict[str, Any] = {"detector": str(models / "detector.onnx"), "device": "cpu", "max_frames": 2, "rounds": 9}
    result = bench_subject("rtsp://user:secret@camera/stream", model=str(models / "maps.onnx"), every=3, **options)
    assert result.settings["source"] == "rtsp://camera/stream"
    assert result.settings["flip"] is True  # outside of this graph
    assert (result.pipeline["frames"], result.pipeline["every"], result.settings["every"]) == (2, 3, 3)
    assert result.network == {"1": {"rounds": 9}}
    assert "secret" not in result.to_json()
