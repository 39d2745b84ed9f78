"""What cannot be trained is refused before anything is read or written."""

from pathlib import Path

import pytest

from autopose.config import load_config
from autopose.errors import ConfigError
from autopose.genotype import Genotype
from autopose.training.config import TrainConfig
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
