"""Whether a genotype and a recipe fit each other, found out before any data is read."""

import torch

from autopose.data.skeletons import open_skeleton
from autopose.errors import ConfigError
from autopose.genotype import Genotype
from autopose.models.center import MAX_PERSONS
from autopose.models.cost import Profile, profile_genotype
from autopose.models.network import build_network
from autopose.skeleton import SKELETONS
from autopose.training.config import TrainConfig


def check_fit(genotype: Genotype, config: TrainConfig) -> Profile:
    """Hold a genotype against the recipe: skeleton, task, input size, size of the maps. Takes no memory to speak of.

    Returns:
        What the network costs at the recipe's input size.

    Raises:
        ConfigError: they do not fit.
    """
    skeleton = open_skeleton(config.skeleton)
    wanted = getattr(genotype, "skeleton", None)  # fabrics are made for one skeleton
    if wanted is not None and skeleton != SKELETONS[wanted]:
        raise ConfigError(
            f"Genotype {genotype.name!r} is made for the skeleton {wanted}; the recipe trains {skeleton.name}. "
            f"Choose another genotype, or --set skeleton={wanted} with data of that skeleton."
        )
    if genotype.is_detector != (config.task == "detector"):
        kind = "a detector" if genotype.is_detector else "a pose network"
        raise ConfigError(f"Genotype {genotype.name!r} is {kind}; the recipe's task is {config.task!r}.")
    width, height = config.codec.input_size_wh
    advice = "set codec.input_size_wh to multiples of 32, and codec.stride to the network's."
    joints = len(skeleton)
    try:
        cost = profile_genotype(genotype, joints, (width, height))
    except RuntimeError:  # branches of different sizes cannot be added
        raise ConfigError(f"Genotype {genotype.name!r} cannot take inputs of {width}x{height}: {advice}") from None
    _, map_height, map_width = cost.output
    if config.train.batch == 1:
        try:
            with torch.device("meta"), torch.no_grad():
                build_network(genotype, joints).train()(torch.zeros(1, 3, height, width))
        except ValueError:  # torch normalises no single value
            raise ConfigError(
                f"Inputs of {width}x{height} leave one cell of the coarsest maps, which batch normalisation cannot "
                "learn from with train.batch=1: set it to 2 or more, or codec.input_size_wh higher."
            ) from None
    if genotype.is_detector and map_width * map_height < MAX_PERSONS:
        raise ConfigError(
            f"Inputs of {width}x{height} give maps of {map_width}x{map_height}, fewer cells than the "
            f"{MAX_PERSONS} boxes that a detector returns. Set codec.input_size_wh higher."
        )
    if config.task == "pose" and (map_width, map_height) != config.codec.heatmap_size_wh:
        expected = "x".join(map(str, config.codec.heatmap_size_wh))
        raise ConfigError(f"The network's maps are {map_width}x{map_height}, the codec's {expected}: {advice}")
    return cost
