"""``autopose bench``: options that contradict each other, and latency tables for the search."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autopose.cli import app
from autopose.errors import ModelError, UsageError
from autopose.runtime.bench import BenchResult
from autopose.runtime.bench_run import is_model
from autopose.runtime.source_names import public_address
from autopose.search import latency_bench, latency_networks
from autopose.search.latency import LatencyTable
from autopose.search.latency_networks import Calibration


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--ops", "--against", "fast"], UsageError, "--ops writes a latency table"),
        (["--ops", "--json", "figures.json"], UsageError, "--ops writes a latency table"),
        (["--calibrate", "4"], UsageError, "--calibrate goes with --ops only"),
        (["--json", "-", "--against", "fast"], UsageError, "--json - prints the first result alone"),
        (["--ops", "--calibrate", "4"], UsageError, "networks of a search recipe .*, not 'small'"),
        (["hrnet-w32", "--ops"], ModelError, "hrnet-w32: is of the space 'reference'"),
    ],
)
def test_refuses(arguments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CliRunner().invoke(app, ["bench", *arguments], catch_exceptions=False)


def test_operations_are_timed_for_a_recipe_or_the_widths_of_a_genotype(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def made(what: str, size_wh: tuple[int, int], threads: int, watch: Any) -> LatencyTable:
        asked.append((what, size_wh, threads))
        watch(1, 2)
        return LatencyTable(device="toy", threads=threads, milliseconds={"a": 1.0, "b": 2.0})

    def calibrated(table: LatencyTable, config: Any, count: int, *, watch: Any) -> Calibration:
        asked.append((config.space, count))
        fitted = table.model_copy(update={"scale": 0.8, "offset_ms": -0.5})
        return Calibration(fitted, [], [], {"mean_relative_error": 0.07})

    monkeypatch.setattr(latency_bench, "measure", lambda g, size_wh, **given: made(g.name, size_wh, **given))
    monkeypatch.setattr(
        latency_bench, "measure_space", lambda c, **given: made(c.space, c.codec.input_size_wh, **given)
    )  # fmt: skip
    monkeypatch.setattr(latency_networks, "calibrate_space", calibrated)
    out = tmp_path / "latency.json"
    assert run("--ops", "-o", out).output == f"2 operations timed (toy, 1 thread) -> {out}\n"
    assert LatencyTable.load(out).scale == 1
    result = run("branches-cpu", "--ops", "--threads", 2, "--calibrate", 6, "-o", out)
    assert "fitted to 6 networks: 0.80 times the sum -0.50 ms (fitted to half of them, 7 % off" in result.output
    assert (LatencyTable.load(out).scale, LatencyTable.load(out).threads) == (0.8, 2)
    recipe = tmp_path / "own.toml"
    recipe.write_text("[codec]\ninput_size_wh = [64, 96]\n")
    assert run(recipe, "--ops", "-o", out).exit_code == 0
    assert asked == [
        ("small", (192, 256), 1), ("autopose", (192, 256), 2), ("autopose", 6), ("autopose", (64, 96), 1),
    ]  # fmt: skip


def test_the_second_figures_are_of_the_first_ones_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measured(what: str, *, model: str, device: str, rounds: int, **options: Any) -> BenchResult:
        asked.append((what, model, device, rounds, options))
        settings = {} if is_model(what) else {"source": public_address(what), "max_frames": 7, "threads": None}
        return BenchResult(what, settings)

    monkeypatch.setattr("autopose.runtime.bench_run.bench_subject", measured)
    address, saved = "rtsp://user:secret@camera/stream", str(tmp_path / "saved.json")
    for words, measurements in (
        ([address, "--against", "fast", "--json", saved], [(address, "default", {}), (address, "fast", {})]),
        ([saved, "--against", "fast"], [("rtsp://camera/stream", "fast", {"max_frames": 7})]),
        (["clip.mp4", "--model", "fast", "--against", saved], [("clip.mp4", "fast", {"max_frames": 7})]),
        (["a.onnx", "--against", "b.onnx"], [("a.onnx", "default", {}), ("b.onnx", "b.onnx", {})]),
        (["fast", "--threads", "2", "--no-flip"], [("fast", "default", {"threads": 2, "flip": False})]),
    ):
        assert run(*words, "--device", "cuda", "--rounds", 5).exit_code == 0
        assert asked == [(what, model, "cuda", 5, options) for what, model, options in measurements]
        asked.clear()
