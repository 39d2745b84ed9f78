"""``--ray`` gives the plain run's results; without it Ray is never imported."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autopose.errors import BackendError, UsageError
from autopose.results import load_results
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.ort_session import usable_cores
from autopose.runtime.ray_actors import (
    Worker,
    _absolute_models,
    _join_or_start,
    _packed,
    _packed_options,
    _report,
    _unpacked,
    _unpacked_options,
    run_with_ray,
)
from autopose.runtime.run import open_estimator
from autopose.runtime.sources import Selection, SourceSpec, find_sources


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_results_are_those_of_the_plain_run(models: Path, walk: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'autopose[ray]'")
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        (tmp_path / name).write_bytes(walk.read_bytes())
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    specs = find_sources([tmp_path])
    settings = {"model": str(models / "pose-flip.onnx"), "detector": str(models / "detector.onnx"), "device": "cpu"}
    reports = run_with_ray(specs, settings, InferOptions(out=tmp_path / "ray", save=("json",)), actors=2)
    assert [Path(report.source).name for report in reports] == ["bad.mp4", "one.mp4", "three.mp4", "two.mp4"]
    assert reports[0].problem is not None
    with open_estimator(settings) as estimator:
        plain = infer_source(estimator, specs[1], InferOptions(out=tmp_path / "plain", save=("json",)))
    expected = load_results(plain.files[0])
    for report in reports[1:]:
        found = load_results(report.files[0])
        assert [entry.poses.to_dict()["persons"] for entry in found.frames] == [
            entry.poses.to_dict()["persons"] for entry in expected.frames
        ]


def test_a_worker_alone_gives_the_plain_results(models: Path, walk: Path, tmp_path: Path) -> None:
    settings = {"model": str(models / "pose-flip.onnx"), "detector": str(models / "detector.onnx"), "device": "cpu"}
    begun = time.perf_counter()
    (spec,) = find_sources([walk])
    options = InferOptions(out=tmp_path / "worker", save=("json",), every=1, selection=Selection(max_frames=5))
    worker = Worker(settings, _packed_options(options))
    row = worker({"number": 3, "spec": _packed(spec)})
    worker.options = replace(options, tracking=False, smooth="online")
    assert "needs tracking" in worker({"number": 4, "spec": _packed(spec)})["misused"]
    worker.estimator.close()
    report = _report(json.loads(row["report"]))
    with open_estimator(settings) as estimator:
        assert estimator.session.threads == max(1, usable_cores() // 2)  # the networks of a pipeline share the cores
        plain = infer_source(estimator, spec, replace(options, out=tmp_path / "plain"))
    assert plain.stages.keys() == report.stages.keys() == {"decode", "detect", "pose", "smooth", "write"}
    assert 0 < plain.seconds < time.perf_counter() - begun
    assert (row["number"], row["misused"]) == (3, "")
    assert (report.frames, report.persons) == (plain.frames, plain.persons) == (5, 10)
    found, expected = load_results(report.files[0]), load_results(plain.files[0])
    for a, b in zip(found.frames, expected.frames, strict=True):
        assert a.poses.to_dict()["persons"] == b.poses.to_dict()["persons"]


def test_workers_in_another_folder_get_the_same_options_and_files(tmp_path: Path) -> None:
    options = InferOptions(tmp_path, save=("json", "csv"), boxes=tmp_path / "b.json", least_box_score=0.5, every=2)
    assert _unpacked_options(_packed_options(options)) == options
    spec = SourceSpec("a", "images", "a.png", (Path("a.png"),), ("a",))
    assert _unpacked(_packed(spec)).files == (Path.cwd() / "a.png",)


class _Ray:
    """Answers ``init`` as Ray does: a running cluster refuses resources, and ``auto`` needs one."""

    def __init__(self, *, cluster: bool) -> None:
        self.cluster = cluster
        self.started: dict[str, Any] | None = None
        self.joined = False

    def init(self, address: str | None = None, **options: Any) -> None:
        if self.cluster:
            for name in ("num_cpus", "object_store_memory", "_system_config"):
                if options.get(name):
                    raise ValueError(f"When connecting to an existing cluster, {name} must not be provided.")
            self.joined = True
        elif address == "auto":
            raise ConnectionError("Could not find any running Ray instance.")
        else:
            self.started = options


def test_a_running_cluster_is_joined() -> None:
    ray = _Ray(cluster=True)
    _join_or_start(ray, 2)
    assert ray.joined


def test_without_a_cluster_one_is_started_with_room_for_the_actors_and_for_rays_own_tasks() -> None:
    ray = _Ray(cluster=False)
    _join_or_start(ray, 2)
    assert ray.started is not None
    assert ray.started["num_cpus"] == 3


def test_a_cluster_that_has_crashed_is_told_of() -> None:
    class Gone(_Ray):
        def init(self, address: str | None = None, **options: Any) -> None:
            super().init(address, **options)
            raise ConnectionError("the cluster does not answer.")

    with pytest.raises(BackendError, match=r"does not answer.*'ray stop'"):
        _join_or_start(Gone(cluster=True), 2)


def test_actors_in_another_folder_find_models_given_as_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("detector.onnx").touch()
    Path("full-frame").mkdir()  # the name goes before a folder that happens to be called so
    given = {"model": "runs", "detector": Path("detector.onnx"), "flip": True}
    expected = {"model": str(tmp_path / "runs"), "detector": str(tmp_path / "detector.onnx"), "flip": True}
    assert _absolute_models(given) == expected
    named = {"model": "no-such-file", "detector": "full-frame"}
    assert _absolute_models(named) == named


def test_refuses_live_sources() -> None:
    pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'autopose[ray]'")
    with pytest.raises(UsageError, match="files"):
        run_with_ray([SourceSpec("webcam-0", "live", "0")], {}, InferOptions())


def test_ray_is_not_imported_without_being_asked_for() -> None:
    code = "import sys; sys.modules['ray'] = None; import autopose.runtime.ray_actors, autopose.commands.infer"
    subprocess.run([sys.executable, "-c", code], check=True)
