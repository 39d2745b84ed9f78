"""What cannot be trained is refused before anything is read or written."""

from pathlib import Path

import pytest

from autopose.config import load_config
from autopose.errors import ConfigError
from autopose.genotype import Genotype
from autopose.training.config import TrainConfig
from autopose.training.fit import check_fit
from autopose.training.trainer import train


@pytest.mark.parametrize(
    ("genotype", "recipe", "setting", "message"),
    [
        ("detector-small", "smoke", "train.seed=0", "is a detector; the recipe's task is 'pose'"),
        ("medium", "coco-detector", "train.seed=0", "is a pose network; the recipe's task is 'detector'"),
        ("hrnet-w32", "coco-detector", "train.seed=0", "is a pose network; the recipe's task is 'detector'"),
        ("small", "smoke", "codec.input_size_wh=[208, 272]", "cannot take inputs of 208x272: .*multiples of 32"),
        ("small", "smoke", "codec.stride=8", "maps are .*codec.stride"),
        (
            "detector-small",
            "coco-detector",
            "codec.input_size_wh=[64, 64]",
            "maps of 8x8, fewer cells than the 100 boxes",
        ),
        ("pnfs-hrnet-cnf5-mpii", "smoke", "train.seed=0", "made for the skeleton mpii16"),
    ],
)
def test_a_misfit_is_refused_before_the_run_folder_is_made(
    genotype: str, recipe: str, setting: str, message: str, tmp_path: Path
) -> None:
    config = load_config(TrainConfig, recipe, [setting], group="train")
    with pytest.raises(ConfigError, match=message):
        train(Genotype.load(genotype), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_needs_maps_of_more_than_a_cell() -> None:
    """Batch normalisation has no variance of a single value: at 32x32 the coarsest of four scales is 1x1."""
    small = Genotype.load("small")
    for setting in ("codec.input_size_wh=[64, 32]", "train.batch=2"):
        check_fit(small, load_config(TrainConfig, None, ["train.batch=1", "codec.input_size_wh=[32, 32]", setting]))
    config = load_config(TrainConfig, None, ["train.batch=1", "codec.input_size_wh=[32, 32]"])
    with pytest.raises(ConfigError, match=r"Inputs of 32x32 leave one cell .*train\.batch=1: set it to 2"):
        check_fit(small, config)
