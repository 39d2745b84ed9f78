"""``autopose search``: what it refuses, and a run from the command line to a genotype that trains."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autopose.cli import app
from autopose.commands.search import _to_train_with
from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.errors import ConfigError, UsageError
from autopose.genotype import Genotype
from autopose.search.config import SearchConfig
from autopose.search.loop import SearchResult


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--resume"], UsageError, "-o RUN"),
        (["--ablation", "everything"], UsageError, "single-branch, no-aggregation, all-branches, search-128x96"),
        (["--space", "fabric", "--ablation", "all-branches"], UsageError, "autopose space"),
        (["--config", "nothing"], ConfigError, "smoke"),
        (["--set", "search.epoch=3"], ConfigError, "did you mean 'epochs'"),
    ],
)
def test_refuses(arguments: list[str], error: type[Exception], message: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_refuses_unknown_strategies_as_wrong_usage() -> None:
    assert run("--strategy", "evolution").exit_code == 2


def test_from_the_command_to_a_genotype_and_a_report(tmp_path: Path) -> None:
    annotations = write_synthetic(tmp_path / "set", images=40, seed=0, size_wh=(96, 96))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
[autopose]
channels = [4, 4, 4, 4]
stem_channels = 4
stem_expansion = 1
modules_per_stage = 1
[codec]
input_size_wh = [64, 64]
[data]
tune_share = 0.3
workers = 0
sources = [{{annotations = "{annotations}"}}]
[search]
iterations = 1
epochs = 1
batch = 2
reward_persons = 4
candidates = 1
strategy = "random"
"""
    )
    options = ["--strategy", "bilevel", "--ablation", "all-branches", "--json", tmp_path / "f.json"]
    result = run("--config", recipe, "-o", tmp_path / "run", *options)
    assert result.exit_code == 0, (result.output, result.exception)
    genotype = Genotype.load(tmp_path / "run" / "genotype.json")
    assert json.loads((tmp_path / "f.json").read_text())["fingerprint"] == genotype.fingerprint()
    assert genotype.model_dump()["scales"] == ((1, 1, 1, 1),) * 3
    assert genotype.provenance["search"]["strategy"] == "bilevel"
    assert f"Next: autopose train {tmp_path / 'run' / 'genotype.json'} --config small\n" in result.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def test_tells_each_epoch_its_alarms_and_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = {"epoch": 2, "AP": 0.125, "OKS": 0.25, "arch_entropy": 1.5, "macro": "1111", "alarms": ["They collapse."]}
    folder, found = tmp_path / "run", Genotype.load("small")
    found = found.model_copy(update={"provenance": {"shared_weight_score": 0.5}})
    results, resumed = [found, None], []

    def searched(recipe: Any, out: Path, *, resume: bool, watch: Any, on_seed: Any) -> SearchResult:
        resumed.append(resume)
        out.mkdir(exist_ok=True)
        (out / "best.safetensors").touch()
        on_seed(7)
        watch(5, 10, entry)
        watch(10, 10, entry | {"epoch": 3, "weight_loss": 0.5, "reward": 0.75, "alarms": []})
        return SearchResult(results.pop(0), out)

    monkeypatch.setattr("autopose.search.seeds.search", searched)
    result = run("--config", "smoke", "-o", folder)
    told = [
        "seed 7:",
        "epoch 2: AP 0.125, OKS 0.250, cell entropy 1.500, 1111",
        "  alarm: They collapse.",
        "epoch 3: loss 0.5, AP 0.125, OKS 0.250, reward 0.750, cell entropy 1.500, 1111",
    ]
    assert result.stderr.splitlines()[:4] == told
    assert result.stderr.endswith(f"Next: autopose train {folder / 'genotype.json'} --config smoke --init {folder}\n")
    assert json.loads(result.stdout) == {
        "genotype": str(folder / "genotype.json"), "fingerprint": found.fingerprint(), "score": 0.5,
    }  # fmt: skip
    stopped = run("--config", "smoke", "-o", folder, "--resume")
    command = f"autopose search -o {folder} --resume"
    assert stopped.stderr.splitlines() == [*told, f"Stopped and saved. Go on with: {command}"]
    assert (stopped.exit_code, stopped.stdout) == (3, "")
    assert resumed == [False, True]


@pytest.mark.parametrize(
    ("search", "settings", "options"),
    [
        ("smoke", [], "--config smoke"),
        ("smoke", ['data.sources=[{annotations="mine.json"}]'], "--config small"),
        ("small-cpu", ["skeleton=mpii16"], "--config small --set skeleton=mpii16"),
        ("paper", [], "--config paper"),
        ("paper", ["skeleton=mpii16"], "--config mpii"),
        ("paper", ["skeleton=lsp14"], "--config small --set skeleton=lsp14"),
        ("pnfs", [], "--config pnfs-coco-hrnet"),
        ("pnfs", ["skeleton=mpii16", "fabric.skeleton=mpii16"], "--config pnfs-mpii-hrnet"),
        ("branches-cpu", [], "--config default-pose --set codec.input_size_wh=[192,256]"),
    ],
)
def test_what_to_train_with_is_told_by_what_was_searched(search: str, settings: list[str], options: str) -> None:
    """Not by the recipe's name: a search that was resumed has its own copy of it."""
    assert _to_train_with(load_config(SearchConfig, search, settings, group="search")) == options.split()
