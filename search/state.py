"""What a search must remember to be resumed: its progress and its optimisers' moments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autopose.training import resumable


@dataclass
class Progress(resumable.Progress):
    """How far a search is.

    Attributes:
        epoch: epochs done.
        updates: controller updates done in the current epoch.
        sums: of the current epoch's losses, by name.
        rewards: of the current epoch.
        ranked: candidates drawn and scored after the last epoch.
        memory: what the strategy remembers.
    """

    epoch: int = 0
    updates: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)
    ranked: int = 0
    memory: dict[str, Any] = field(default_factory=dict)


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments of all parameters that have any, as ``prefix/INDEX/NAME``."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{prefix}/{index}/{key}": value
        for index, parameter in enumerate(parameters)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` returned, in the parameters' own memory formats."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()
    for name, value in tensors.items():
        if name.startswith(prefix + "/"):
            _, index, key = name.rsplit("/", 2)
            parameter = parameters[int(index)]
            copy = value.clone() if value.shape != parameter.shape else torch.empty_like(parameter).copy_(value)
            optimizer.state[parameter][key] = copy.detach()
