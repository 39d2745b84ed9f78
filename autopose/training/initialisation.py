"""Begin with the weights of another run: which of its tensors a network takes over."""

import torch
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint
from autopose.errors import ConfigError
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
        for key in _of_joints(genotype, len(skeleton)):
            fitting[key] = _joints_taken(state[key], init.state.get(key), skeleton, init.skeleton)
    network.load_state_dict(state | fitting)


def _of_joints(genotype: Genotype, joints: int) -> list[str]:
    """Return the tensors whose first axis counts joints; none of a fabric's, whose parts belong to its skeleton."""
    if genotype.kind == "fabric":
        return []
    with torch.device("meta"):
        one, more = (build_network(genotype, number).state_dict() for number in (joints, joints + 1))
    return [key for key, value in one.items() if value.shape != more[key].shape]


def _joints_taken(own: Tensor, given: Tensor | None, skeleton: Skeleton, before: Skeleton) -> Tensor:
    """Return a fresh tensor ``(joints, ...)`` with the joints of another, ``(before, ...)``, that are named alike."""
    if given is None or given.shape[0] != len(before) or given.shape[1:] != own.shape[1:]:
        return own
    result = own.clone()
    for index, joint in enumerate(skeleton.joints):
        if joint in before.joints:
            result[index] = given[before.joints.index(joint)].to(own)
    return result
