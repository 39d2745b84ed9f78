"""What the doctor says, and its exit code."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from autopose.cli import app
from autopose.errors import BackendError
from autopose.export import diagnosis
from autopose.export.diagnosis import BACKENDS, diagnose
from autopose.runtime.gpu import Gpu, gpu_here


def test_every_backend_is_tried_and_explained() -> None:
    found = diagnose()
    assert tuple(trial.backend for trial in found.trials) == BACKENDS
    assert all(trial.detail for trial in found.trials)
    assert found.packages["numpy"]
    assert found.cache["free_gb"] > 0
    if gpu_here() is None:
        assert found.gpu is None
        assert not any("A GPU is here" in warning for warning in found.warnings)
        assert not any(found.works(backend) for backend in ("ort-cuda", "trt", "trt-rtx"))
        assert "CUDA" in found.trials[1].detail or "cuda" in found.trials[1].detail


def test_exit_code_says_whether_the_asked_for_backend_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def engine_runs(kind: str) -> str:
        return "painted"

    monkeypatch.setattr(diagnosis, "_engine_runs", engine_runs)
    out = tmp_path / "doctor.json"
    assert CliRunner().invoke(app, ["doctor", "--backend", "trt", "--json", str(out)]).exit_code == 0
    content = json.loads(out.read_text())
    assert {"system", "packages", "gpu", "trials", "builders", "cache", "warnings"} <= content.keys()
    if gpu_here() is None:
        result = CliRunner().invoke(app, ["doctor", "--backend", "ort-cuda"])
        assert result.exit_code == 1
        assert "ort-cuda  does not work" in result.output
        assert "GPU: none" in result.output
        assert f"builds tensorrt engines: {content['builders']['tensorrt']}\n" in result.output


@pytest.mark.parametrize("words", [["--json"], ["--json", "-"], ["--json", "--backend", "ort"]])
def test_json_without_a_file_is_printed(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exit_code == 0, result.output
    assert {"system", "packages", "trials"} <= json.loads(result.stdout).keys()


def test_two_onnx_runtimes_and_a_gpu_that_is_not_used_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str | None:
        return None if name == "ray" else "1.0"

    def tried(device: str) -> str:
        if device == "cuda":
            raise BackendError("no such provider")
        return f"ran on {device}"

    monkeypatch.setattr(diagnosis, "_version", version)
    monkeypatch.setattr(diagnosis, "_run_bundled", tried)
    monkeypatch.setattr(diagnosis, "_engine_runs", tried)
    monkeypatch.setattr(diagnosis, "gpu_here", lambda: Gpu("Painted", "9.0", "13.0", 80.0))
    result = CliRunner().invoke(app, ["doctor", "--backend", "trt"])
    lines = result.output.splitlines()
    assert any("warning: onnxruntime and" in line and "overwrite each other" in line for line in lines)
    assert any(line.startswith("warning: A GPU is here, but ONNX Runtime does not open it") for line in lines)
    assert "GPU: Painted, compute capability 9.0, 80 GiB" in lines
    assert "driver: for CUDA up to 13.0" in lines
    assert "absent: ray" in lines
    assert result.exit_code == 0


def test_engines_need_a_library_and_most_of_them_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tensorrt": "10.13.0.35", "tensorrt_rtx": "1.2.0.54"}
    done: list[str] = []

    def told(gpu: Gpu | None) -> list[tuple[bool, str]]:
        monkeypatch.setattr(diagnosis, "gpu_here", lambda: gpu)
        found = diagnose()
        assert list(found.builders) == ["tensorrt", "tensorrt_rtx"]
        return [(trial.works, trial.detail) for trial in found.trials[2:]] + [
            (words.startswith("yes"), words) for words in found.builders.values()
        ]

    def tried(device: str) -> str:
        return f"ran on {device}"

    monkeypatch.setattr(diagnosis, "_run_bundled", tried)
    monkeypatch.setattr(diagnosis, "load_builder", lambda kind: SimpleNamespace(__version__=versions[kind]))
    cuda = SimpleNamespace(name="pycuda", close=lambda: done.append("close"), leave=lambda: done.append("leave"))
    monkeypatch.setattr(diagnosis, "open_cuda", lambda: cuda)
    anywhere = (True, "yes, 1.2.0.54: ahead of time for any RTX GPU (--trt-rtx --target sm89)")
    nothing = "is installed, but there is no NVIDIA GPU or driver to run on"
    assert told(None) == [
        (False, f"tensorrt 10.13.0.35 {nothing}"),
        (False, f"tensorrt_rtx 1.2.0.54 {nothing}"),
        (False, "no: 10.13.0.35 builds on a GPU, and none is here"),
        anywhere,
    ]
    assert told(Gpu("Painted", "9.0", "13.0", 80.0)) == [
        (True, "tensorrt 10.13.0.35 on Painted through pycuda"),
        (True, "tensorrt_rtx 1.2.0.54 on Painted through pycuda"),
        (True, "yes, 10.13.0.35"),
        anywhere,
    ]
    assert done == ["close", "leave"] * 2

    def missing(kind: str) -> None:
        raise BackendError(f"{kind} is not there.\nInstead, do without.")

    monkeypatch.setattr(diagnosis, "load_builder", missing)
    assert told(None) == [
        *((False, f"{kind} is not there. Instead, do without.") for kind in versions),
        *((False, f"no: {kind} is not there.") for kind in versions),
    ]


def test_the_cache_is_looked_for_where_it_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "not" / "yet"))
    cache = diagnosis._cache()
    assert (cache["engines"], cache["writable"]) == (0, True)
    assert cache["free_gb"] == pytest.approx(shutil.disk_usage(tmp_path).free / 1e9, abs=2)
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "file"))
    assert not diagnosis._cache()["writable"]
    lines = CliRunner().invoke(app, ["doctor"]).output.splitlines()
    (line,) = [line for line in lines if line.startswith(f"engine cache: {tmp_path / 'file'}, 0 engines, ")]
    assert line.endswith(" GB free, NOT writable")


def test_a_home_that_may_not_be_looked_into_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def denied(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "home")) and str(path) != str(tmp_path / "home"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    (tmp_path / "home").mkdir()
    monkeypatch.setenv("AUTOPOSE_CACHE", str(tmp_path / "home" / ".cache" / "autopose"))
    monkeypatch.setattr(os, "stat", denied)
    assert diagnosis._cache()["engines"] == 0
