"""Training and searching on a GPU: a step of each kind, a state that is resumed, a compiled network."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from autopose.checkpoint import load_checkpoint
from autopose.config import load_config
from autopose.data.crop_set import read_crops
from autopose.data.pose_dataset import PoseDataset
from autopose.data.synthetic import write_synthetic
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.search.config import SearchConfig
from autopose.search.loop import Run
from autopose.skeleton import COCO17
from autopose.training.config import TrainConfig
from autopose.training.crops_task import ResidentTask
from autopose.training.resident import DrawSource, Resident, collate_rows
from autopose.training.tasks import make_task
from autopose.training.trainer import train
from autopose.training.write_crops import write_crops_of

# torch warns, when it compiles, of what it has deprecated itself, and of TF32.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this torch is built without CUDA, or finds no device")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("gpu") / "figures", images=24, seed=3, size_wh=(96, 96))


def _settings(figures: Path, *more: str) -> list[str]:
    common = ["data.workers=1", "data.tune_share=0.3", "codec.input_size_wh=[64, 64]"]
    return [f'data.sources=[{{annotations="{figures}"}}]', *common, *more]


@pytest.mark.parametrize(
    "more",
    [
        ("train.amp=none",),
        ("train.amp=auto", "train.optimizer=muon"),
        ("task=detector", "codec.input_size_wh=[96, 96]", "train.amp=auto"),
        pytest.param(("train.compile=true",), marks=pytest.mark.skipif(sys.platform != "linux", reason="needs Triton")),
    ],
    ids=" ".join,
)
def test_trains_stops_and_goes_on(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype, more: tuple[str, ...]) -> None:
    genotype = Genotype.load("detector-small") if "task=detector" in more else tiny
    common = ("train.steps=4", "train.batch=4", "train.eval_every=4", "train.ema=0.5")
    config = load_config(TrainConfig, None, _settings(figures, *common, *more))
    train(genotype, config, tmp_path, max_seconds=0)
    best = load_checkpoint(train(genotype, config, tmp_path, resume=True))
    assert best.metrics["step"] == 4
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in best.state.values())


def test_crops_are_painted_on_it_as_on_a_processor(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    everything = [f"augment.{name}=0.5" for name in ("low_resolution", "colour", "blur", "neighbour", "erase", "jpeg")]
    config = load_config(TrainConfig, None, _settings(figures, *everything, f'data.crops="{tmp_path / "crops"}"'))
    write_crops_of(config, tmp_path / "crops")
    crops = read_crops(tmp_path / "crops", "train", COCO17)
    source = DrawSource(PoseDataset(crops.persons, config.codec, config.augment))
    rows = [source.sample(0, np.random.default_rng(seed)) for seed in range(32)]
    devices = (torch.device("cpu"), torch.device("cuda"))
    painted = [Resident(crops, device).paint(collate_rows(rows), (64, 64))[0].cpu().int() for device in devices]
    difference = (painted[0] - painted[1]).abs().float()
    assert difference.mean() < 0.5  # JPEG rounds to large steps: where a value lies between two, a thousandth decides
    assert (difference.flatten(1).mean(1) < 4).all()
    run = load_config(
        TrainConfig, None, _settings(figures, f'data.crops="{tmp_path / "crops"}"', "train.steps=4", "train.batch=4")
    )
    assert isinstance(make_task(run, tiny, tmp_path, torch.device("cuda")), ResidentTask)
    assert load_checkpoint(train(tiny, run, tmp_path / "run")).metrics["step"] == 4


@pytest.mark.parametrize("more", [("search.amp=auto",), ("search.gradient=second",), ("space=fabric",)], ids=" ".join)
def test_searches_stops_and_goes_on(figures: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    small = ("search.epochs=2", "search.iterations=2", "search.batch=2", "search.arch_start_epoch=0")
    config = load_config(SearchConfig, "smoke", _settings(figures, *small, *more), group="search")

    run = Run(config, tmp_path)
    assert run.device.type == "cuda"
    run.save()
    assert Run(config, tmp_path, resume=True).search().genotype is not None
