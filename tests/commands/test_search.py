"""``autopose search``: what it refuses, and a run from the command line to a genotype that trains."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autopose.cli import app
from autopose.data.synthetic import write_synthetic
from autopose.errors import ConfigError, UsageError
from autopose.genotype import Genotype


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
