"""Rehearsals of every packaged recipe, and what a rehearsal says about shapes, cost, data and misfits."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autopose.cli import app
from autopose.config import load_config, packaged_configs
from autopose.data.synthetic import write_synthetic
from autopose.errors import ConfigError
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.models.network import build_network
from autopose.training.config import TrainConfig
from autopose.training.dry_run import dry_run

RECIPES = packaged_configs("train")
COMMAND = re.compile(r"^# Command: autopose train (\S+) --config (\S+)", re.M)


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOPOSE_DATA", raising=False)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_it_reproduces_and_rehearses(name: str) -> None:
    text = RECIPES[name].read_text()
    head = text[: text.index("\n\n")]
    assert all(line.startswith("# ") for line in head.splitlines())
    for word in ("Reproduces:", "Published:", "Cost:"):
        assert word in head or name in ("smoke", "small"), word
    command = COMMAND.search(head)
    assert command is not None
    assert command[2] == name
    config = load_config(TrainConfig, name, group="train")
    figures = dry_run(Genotype.load(command[1]), config)
    width, height = config.codec.heatmap_size_wh
    if config.task == "detector":  # centre, size and offset at half the resolution of heatmaps
        assert figures["output"] == [5, height // 2, width // 2]
    else:
        assert figures["output"] == [{"coco17": 17, "mpii16": 16}[config.skeleton], height, width]
    assert figures["step"]["loss"] > 0
    stated = re.search(r"Cost: ([\d.]+) Gi MACs, ([\d.]+) M parameters", head)
    if stated is not None:  # the heading is true
        assert float(stated[1]) == pytest.approx(figures["macs_gi"], abs=0.006)
        assert float(stated[2]) == pytest.approx(figures["params"] / 1e6, abs=0.06)
        assert figures["steps"] == config.train.epochs * round(figures["samples"] / config.train.batch)


def test_every_row_of_the_papers_tables_has_a_recipe() -> None:
    published = {name: path.read_text() for name, path in RECIPES.items()}
    for figure, row in [
        ("AP 73.6, AP50 90.6", "paper"),
        ("Total 88.0", "mpii"),
        ("AP 63.9", "ablation-single-branch"),
        ("AP 70.8", "ablation-no-aggregation"),
        ("AP 71.8", "ablation-all-branches"),
        ("AP 70.1", "ablation-search-128x96"),
        ("AP 68.0", "pnfs-coco-mobilenet"),
        ("AP 73.0", "pnfs-coco-hrnet"),
        ("total 90.1", "pnfs-mpii-hrnet"),
        ("AP 73.4", "hrnet-w32"),
        ("AP 73.5", "hrnet-w48"),
        ("AP 70.4", "simplebaseline-50"),
        ("AP 71.4", "simplebaseline-101"),
        ("AP 72.0", "simplebaseline-152"),
        ("Total 90.3", "mpii-hrnet-w32"),
        ("Total 89.6", "mpii-simplebaseline-152"),
    ]:
        assert figure in published[row], row


def test_estimates_are_counted_from_the_file(tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    (tmp_path / "joints.csv").write_text("one.jpg," + ",".join(["5"] * 32) + "\n")
    more = [
        f'data.sources=[{{annotations="{tmp_path}/joints.csv", images="{tmp_path}", repeat=40}}]',
        "data.tune_share=0.5",
    ]
    base = ["skeleton=mpii16", "codec.input_size_wh=[64, 64]", "train.batch=4", "train.epochs=3"]
    figures = dry_run(tiny, load_config(TrainConfig, None, [*base, *more]))
    assert figures["data"] == [{"annotations": f"{tmp_path}/joints.csv", "found": True, "persons": 1}]
    assert figures["samples"] == 20
    assert figures["steps"] == 3 * 5
    assert figures["input"] == [3, 64, 64]
    assert figures["memory_gib"]["total"] > 0


def test_memory_is_of_five_copies_of_the_weights_and_a_whole_batch(tiny: AutoPoseGenotype) -> None:
    wide = tiny.model_copy(update={"channels": (96, 96, 96, 96)})
    base = ["codec.input_size_wh=[64, 64]", "data.synthetic_images=8"]
    few, many, muon = (
        dry_run(wide, load_config(TrainConfig, None, [*base, *more]))["memory_gib"]
        for more in (["train.batch=20"], ["train.batch=60", "train.ema=0"], ["train.batch=2", "train.optimizer=muon"])
    )
    values = sum(parameter.numel() for parameter in build_network(wide, 17).parameters())
    copies = [memory["weights"] * 1024**3 / (4 * values) for memory in (few, many, muon)]
    # With gradients, two moments and the average; without that; with the one moment that Muon has of a matrix.
    assert copies == pytest.approx([5, 4, 4], rel=0.05)
    assert many["activations"] == pytest.approx(3 * few["activations"], rel=0.05)


def test_a_missing_file_is_said_and_its_published_size_used(tiny: AutoPoseGenotype) -> None:
    figures = dry_run(tiny, load_config(TrainConfig, "paper", ["codec.input_size_wh=[64, 64]"], group="train"))
    (source,) = figures["data"]
    assert not source["found"]
    assert "AUTOPOSE_DATA" in source["problem"]
    assert source["persons"] == 149813


@pytest.mark.parametrize("head", ["heatmap", "center"])
def test_says_what_would_keep_training_from_starting(tmp_path: Path, tiny: AutoPoseGenotype, head: str) -> None:
    genotype = tiny if head == "heatmap" else Genotype.load("detector-small")
    made = write_synthetic(tmp_path / "figures", images=6, size_wh=(96, 96))

    def problems(*settings: str, annotations: Path = made) -> list[str]:
        base = ["codec.input_size_wh=[96, 96]", f'data.sources=[{{annotations="{annotations}"}}]']
        base += ["task=detector"] if head == "center" else []
        found: list[str] = dry_run(genotype, load_config(TrainConfig, None, [*base, *settings]))["problems"]
        return found

    (missing,) = problems(annotations=tmp_path / "mine.json")
    assert "No annotation file" in missing
    (tmp_path / "broken.json").write_text("{")
    (broken,) = problems(annotations=tmp_path / "broken.json")
    assert "broken.json" in broken
    (unscored,) = problems("data.tune_share=0.001")
    share = re.search(r"no image is in the tune split\. Set data\.tune_share to (\S+) or more", unscored)
    assert share is not None
    least = float(share[1])
    assert not problems(f"data.tune_share={least}")
    assert problems(f"data.tune_share={least - 0.001}")
    (nothing_left,) = problems("data.tune_share=0.999")
    assert re.search(r"every (person|image) of it is held out for the tune split .* Lower the share", nothing_left)
    content = json.loads(made.read_text())
    alone = made.parent / "alone.json"
    first = content["images"][0]["id"]
    mine = [record for record in content["annotations"] if record["image_id"] == first]
    alone.write_text(json.dumps(content | {"images": content["images"][:1], "annotations": mine}))
    (cannot,) = problems("data.tune_share=0.001", annotations=alone)  # no share would leave it in both parts
    assert "cannot be split" in cannot
    assert list(tmp_path.glob("**/tune.json")) == []


def test_the_command_ends_as_training_would(tiny: AutoPoseGenotype, tmp_path: Path) -> None:
    genotype = tmp_path / "tiny.json"
    tiny.save(genotype)
    small = ["--set", "codec.input_size_wh=[64, 64]", "--dry-run"]
    mine = ["--set", 'data.sources=[{annotations="mine.json"}]']
    done = CliRunner().invoke(app, ["train", str(genotype), "--config", "smoke", *small])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["train", str(genotype), "--config", "paper", *small])  # COCO, of known size
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["problems"] == []
    unfit = CliRunner().invoke(app, ["train", str(genotype), "--config", "smoke", "--init", "fast", *small])
    assert isinstance(unfit.exception, ConfigError)
    assert "tensors of 'fast' fit this genotype" in str(unfit.exception)
    out = tmp_path / "figures.json"
    done = CliRunner().invoke(app, ["train", str(genotype), "--config", "smoke", *mine, *small, "--json", str(out)])
    assert done.exit_code == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert "No annotation file 'mine.json'" in problem
    assert problem in done.stderr
    assert out.read_text() == done.stdout


def test_a_detector_rehearses() -> None:
    detector = Genotype.load("detector-small")
    settings = ["task=detector", "codec.input_size_wh=[96, 96]", "scene_augment.paste=0.3"]
    figures = dry_run(detector, load_config(TrainConfig, None, settings))
    assert figures["data"][0]["annotations"] == "synthetic"
    assert figures["problems"] == []
    assert figures["task"] == "detector"
    assert figures["output"][0] == 5


def test_a_detector_counts_images(tmp_path: Path) -> None:
    made = write_synthetic(tmp_path / "figures", images=20, size_wh=(96, 96))
    settings = ["task=detector", "codec.input_size_wh=[96, 96]", "train.epochs=3", "train.batch=4"]
    settings += [f'data.sources=[{{annotations="{made}", repeat=2}}]', "data.tune_share=0.2"]
    figures = dry_run(Genotype.load("detector-small"), load_config(TrainConfig, None, settings))
    assert figures["data"] == [{"annotations": str(made), "found": True, "images": 20}]
    assert (figures["samples"], figures["steps"]) == (32, 24)
    assert figures["hours"] is not None
    figures = dry_run(
        Genotype.load("detector-small"),
        load_config(TrainConfig, "coco-detector", ["codec.input_size_wh=[96, 96]"], group="train"),
    )
    assert figures["data"][0]["images"] == 118_287


def test_refuses_a_genotype_that_does_not_fit(tiny: AutoPoseGenotype) -> None:
    pose, detector = load_config(TrainConfig, "smoke", group="train"), load_config(TrainConfig, None, ["task=detector"])
    with pytest.raises(ConfigError, match="is a detector"):
        dry_run(Genotype.load("detector-small"), pose)
    with pytest.raises(ConfigError, match="is a pose network"):
        dry_run(tiny, detector)
    with pytest.raises(ConfigError, match="mpii16"):
        dry_run(Genotype.load("pnfs-hrnet-cnf5-mpii"), pose)
    with pytest.raises(ConfigError, match=r"codec\.stride"):
        dry_run(tiny, load_config(TrainConfig, "smoke", ["codec.stride=8"], group="train"))
