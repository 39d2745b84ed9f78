"""Whether a genotype and a recipe fit each other, found out before any data is read."""

import torch

from autopose.errors import ConfigError
from autopose.genotype import Genotype
from autopose.models.center import MAX_PERSONS
from autopose.models.cost import for_shapes
from autopose.models.network import build_network
from autopose.skeleton import skeleton_by_name
from autopose.training.config import TrainConfig


def check_fit(genotype: Genotype, config: TrainConfig) -> None:
    """Hold a genotype against the recipe: skeleton, task, input size, size of the maps. Takes no memory to speak of.

    Raises:
        ConfigError: they do not fit.
    """
    wanted = getattr(genotype, "skeleton", config.skeleton)  # fabrics are made for one skeleton
    if wanted != config.skeleton:
        raise ConfigError(
            f"Genotype {genotype.name!r} is made for the skeleton {wanted}; the recipe trains {config.skeleton}. "
            f"Choose another genotype, or --set skeleton={wanted} with data of that skeleton."
        )
    detector = getattr(genotype, "head", "") == "center"
    if detector != (config.task == "detector"):
        kind = "a detector" if detector else "a pose network"
        raise ConfigError(f"Genotype {genotype.name!r} is {kind}; the recipe's task is {config.task!r}.")
    width, height = config.codec.input_size_wh
    advice = "set codec.input_size_wh to multiples of 32, and codec.stride to the network's."
    with torch.device("meta"), torch.no_grad():
        network = build_network(genotype, len(skeleton_by_name(config.skeleton)))
        image = torch.zeros(1, 3, height, width)
        try:
            if config.train.batch == 1:
                network.train()(image)
            maps = for_shapes(network.eval())(image)
        except RuntimeError:  # branches of different sizes cannot be added
            raise ConfigError(f"Genotype {genotype.name!r} cannot take inputs of {width}x{height}: {advice}") from None
        except ValueError:  # torch normalises no single value
            if config.train.batch != 1:
                raise
            raise ConfigError(
                f"Inputs of {width}x{height} leave one cell of the coarsest maps, which batch normalisation cannot "
                "learn from with train.batch=1: set it to 2 or more, or codec.input_size_wh higher."
            ) from None
    if detector and maps.shape[-1] * maps.shape[-2] < MAX_PERSONS:
        raise ConfigError(
            f"Inputs of {width}x{height} give maps of {maps.shape[-1]}x{maps.shape[-2]}, fewer cells than the "
            f"{MAX_PERSONS} boxes that a detector returns. Set codec.input_size_wh higher."
        )
    if config.task == "pose" and (maps.shape[-1], maps.shape[-2]) != config.codec.heatmap_size_wh:
        expected = "x".join(map(str, config.codec.heatmap_size_wh))
        raise ConfigError(f"The network's maps are {maps.shape[-1]}x{maps.shape[-2]}, the codec's {expected}: {advice}")
