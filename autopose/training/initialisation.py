"""Begin with the weights of another run: which of its tensors a network takes over."""

import torch
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint
from autopose.errors import ConfigError
from autopose.fabric_genotype import FabricGenotype
from autopose.genotype import Genotype
from autopose.models.network import build_network
from autopose.skeleton import Skeleton


def initialise(network: nn.Module, init: Checkpoint, genotype: Genotype, skeleton: Skeleton) -> None:
    """Copy the tensors that fit into a network; of other joints than the checkpoint's those that are named alike.

    Args:
        network: to begin.
        init: weights to begin with.
        genotype: of the network.
        skeleton: joints of the network.

    Raises:
        ConfigError: less than half of the network's tensors fit, which is surely a mistake.
    """
    state = network.state_dict()
    fitting = {k: v.to(state[k].dtype) for k, v in init.state.items() if k in state and state[k].shape == v.shape}
    if len(fitting) * 2 < len(state):
        raise ConfigError(
            f"--init: only {len(fitting)} of {len(state)} tensors of {init.name!r} fit this genotype. "
            "Give weights of the same or a similar genotype."
        )
    if skeleton.joints != init.skeleton.joints:
        rows, before = _rows(genotype, skeleton), _rows(init.genotype, init.skeleton)
        for key, own in rows.items():
            fitting[key] = _joints_taken(state[key], init.state.get(key), own, before.get(key, []))
    network.load_state_dict(state | fitting)


def _rows(genotype: Genotype, skeleton: Skeleton) -> dict[str, list[tuple[str, int]]]:
    """Return, by name, whose the rows are of the tensors whose first axis counts joints: joint, place in its vector."""
    if isinstance(genotype, FabricGenotype):  # each body part has a last layer of its own
        return {
            f"heads.{part.name}.project.{kind}": [
                (joint, place) for joint in genotype.joints_of(part.name) for place in range(genotype.vector)
            ]
            for part in genotype.parts
            for kind in ("weight", "bias")
        }
    with torch.device("meta"):
        joints = len(skeleton)
        one, more = (build_network(genotype, number).state_dict() for number in (joints, joints + 1))
    return {
        key: [(joint, 0) for joint in skeleton.joints] for key, value in one.items() if value.shape != more[key].shape
    }


def _joints_taken(
    own: Tensor, given: Tensor | None, rows: list[tuple[str, int]], before: list[tuple[str, int]]
) -> Tensor:
    """Return a fresh tensor with the rows of another, of vectors as long, whose joints are named alike."""
    if given is None or given.shape[0] != len(before) or given.shape[1:] != own.shape[1:]:
        return own
    if {place for _, place in rows} != {place for _, place in before}:
        return own
    result = own.clone()
    for index, row in enumerate(rows):
        if row in before:
            result[index] = given[before.index(row)].to(own)
    return result
