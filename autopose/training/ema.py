"""The exponential moving average of weights that is evaluated and kept."""

import copy

import torch
from torch import nn


class WeightAverage:
    """An average of a network's floating point state.

    Args:
        network: whose state is followed; its current state is the start.
        decay: per update; early on min(decay, (1 + n) / (10 + n)) is used, so that the start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        mine, theirs = self.network.state_dict(), network.state_dict()
        keys = [key for key, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[key] for key in keys], [theirs[key] for key in keys], 1 - decay)
        for key in mine.keys() - set(keys):
            mine[key].copy_(theirs[key])
