"""Training and searching on a GPU: a step of each kind, a state that is resumed, a compiled network."""

import sys
from pathlib import Path

import pytest
import torch

from autopose.checkpoint import load_checkpoint
from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.search.config import SearchConfig
from autopose.search.loop import Run
from autopose.training.config import TrainConfig
from autopose.training.trainer import train

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


@pytest.mark.parametrize("more", [("search.amp=auto",), ("search.gradient=second",), ("space=fabric",)], ids=" ".join)
def test_searches_stops_and_goes_on(figures: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    small = ("search.epochs=2", "search.iterations=2", "search.batch=2", "search.arch_start_epoch=0")
    config = load_config(SearchConfig, "smoke", _settings(figures, *small, *more), group="search")

    run = Run(config, tmp_path)
    assert run.device.type == "cuda"
    run.save()
    assert Run(config, tmp_path, resume=True).search().genotype is not None
