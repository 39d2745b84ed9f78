"""The verbs train, show and models as a user calls them."""

import json
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from autopose.checkpoint import load_checkpoint
from autopose.cli import app
from autopose.commands.run_folder import stopped_code
from autopose.errors import AutoposeError, ConfigError, GenotypeError, ModelError, UsageError
from autopose.zoo import bundled_weights, catalogue, zoo_folder


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, AutoposeError):
        raise result.exception
    return result


def test_show_prints_json_and_draws(tmp_path: Path) -> None:
    result = _run("show", "reference", "--json", "-o", str(tmp_path / "a.svg"))
    figures: dict[str, Any] = json.loads(result.stdout)
    assert figures["macs_gi"] == pytest.approx(10.65, rel=0.03)
    assert figures["params"] > 1e7
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_show_takes_a_size() -> None:
    small, large = (
        json.loads(_run("show", "small", "--json", "--size", size).stdout) for size in ("96x128", "192x256")
    )
    assert large["macs"] == 4 * small["macs"]
    assert large["params"] == small["params"]


def test_show_refuses_unknown_names() -> None:
    with pytest.raises(GenotypeError, match=r"Presets: .*reference"):
        _run("show", "no-such-genotype")


def test_models_lists_what_is_bundled(tmp_path: Path) -> None:
    result = _run("models", "--json", str(tmp_path / "models.json"))
    names = [entry.name for entry in catalogue()]
    sizes = {entry.name: entry.size_mb for entry in catalogue()}
    shared = (zoo_folder() / "detector-default.data").stat().st_size / 1e6
    assert shared < sizes["detector-fast"] < shared + 0.2  # its graph has no weights of its own
    assert {"default", "detector-default"} <= set(names)
    assert all(name in result.stdout for name in names)
    assert [entry["name"] for entry in json.loads((tmp_path / "models.json").read_text())] == names


def test_the_bundled_models_fit_into_a_wheel_of_40_mb() -> None:
    compressed = sum(len(zlib.compress(path.read_bytes())) for path in zoo_folder().iterdir() if path.is_file())
    assert compressed <= 39_000_000  # the code takes less than a megabyte


def test_models_prints_a_card() -> None:
    for name in (entry.name for entry in catalogue()):
        assert _run("models", name).stdout.startswith(f"# {name}\n")
    with pytest.raises(ModelError, match=r"No bundled model 'nope'\. Known: default"):
        _run("models", "nope")


def test_train_refuses_bad_input_before_it_starts(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(GenotypeError):
        _run("train", "nope", "-o", str(out))
    with pytest.raises(ConfigError, match=r"unknown key 'train\.learning'"):
        _run("train", "small", "--config", "smoke", "--set", "train.learning=1", "-o", str(out))
    with pytest.raises(ModelError, match="exported graph cannot be trained on"):
        _run("train", "small", "--config", "smoke", "--init", "model.onnx", "-o", str(out))
    with pytest.raises(ModelError, match="no such checkpoint"):
        _run("train", "small", "--config", "smoke", "--init", "nowhere", "--dry-run")
    assert not out.exists()


def test_the_exit_code_of_a_stopped_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert stopped_code() == 3
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun with one process
    assert stopped_code() == 0


def test_train_runs_and_goes_on(tmp_path: Path) -> None:
    settings = [
        "data.synthetic_images=8", "data.workers=0", "data.tune_share=0.4", "codec.input_size_wh=[64, 64]",
        "train.batch=2", "train.steps=2", "train.eval_every=2",
    ]  # fmt: skip
    arguments = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "run"
    command = ["train", "small", "--config", "smoke", "-o", str(out), *arguments]
    stopped = _run(*command, "--init", "default", "--max-hours", "0")
    assert "--resume" in stopped.stderr
    assert stopped.exit_code == 3
    assert not stopped.stdout
    given, learnt = load_checkpoint(bundled_weights()["default"]).state, load_checkpoint(out).state
    fitting = [
        key for key, value in learnt.items() if value.ndim > 1 and key in given and given[key].shape == value.shape
    ]
    assert len(fitting) > 20
    for key in fitting:  # a step after
        assert float((learnt[key] - given[key].float()).norm()) < 0.1 * float(given[key].float().norm())
    assert f"Go on with: autopose train -o {out} --resume" in stopped.stderr
    result = _run("train", "-o", str(out), "--resume", "--json", str(tmp_path / "figures.json"))
    assert json.loads(result.stdout)["step"] == 2
    assert json.loads((tmp_path / "figures.json").read_text()) == json.loads(result.stdout)
    assert (out / "best.safetensors").is_file()


def test_train_wants_a_genotype_unless_it_resumes(tmp_path: Path) -> None:
    for options in ([], ["--resume"]):
        with pytest.raises(UsageError, match="Name the GENOTYPE to train"):
            _run("train", "-o", str(tmp_path / "new"), *options)


def test_train_counts_hours_and_tells_a_detectors_ap50(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}

    def trained(*_: object, report: Any, **options: Any) -> Path:
        given.update(options)
        report(5, 10, 0.5, {"AP": 0.125, "AP50": 0.25, "AP75": 0.0625})
        return bundled_weights()["default"]

    monkeypatch.setattr("autopose.training.trainer.train", trained)
    command = ["train", "small", "--config", "smoke", "-o", str(tmp_path / "run"), "--max-hours", "1.5"]
    assert not _run(*command, "--quiet").stderr
    assert "step 5/10: loss 0.5, tune AP 0.125\n" in _run(*command).stderr
    assert given["max_seconds"] == 1.5 * 3600
    command[1:4] = ["detector-small", "--config", "detector-small"]
    assert "step 5/10: loss 0.5, tune AP50 0.250\n" in _run(*command).stderr
