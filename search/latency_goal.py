"""A target device in the search: in the controller's reward, and in the cells' loss."""

from collections.abc import Mapping

import torch
from torch import Tensor

from autopose.errors import ConfigError
from autopose.search.config import LatencyConfig, SearchConfig
from autopose.search.latency import LatencyTable
from autopose.search.space import Macro, SearchSpace, Supernet


class LatencyGoal:
    """What a network may take on the device that the table was measured on.

    Args:
        config: its ``latency`` section must name a table.
        space: predicts the units of a network.

    Raises:
        DataError: the table cannot be read.
        ConfigError: it lacks a unit that a network of the space may have.
    """

    def __init__(self, config: SearchConfig, space: SearchSpace) -> None:
        assert config.latency.table is not None
        self.config, self.space, self.size_wh = config.latency, space, config.codec.input_size_wh
        self.table = LatencyTable.load(config.latency.table)
        for unit in space.possible_units(self.size_wh):  # now, and not after hours
            self.table.of(unit)

    def latency_ms(self, supernet: Supernet, macro: Macro) -> float:
        """Return the predicted latency of the derived network.

        Raises:
            ConfigError: the space has no latency, or the table lacks a unit.
        """
        genotype = self.space.derive(supernet, macro, name="candidate", provenance={})
        units = self.space.latency_units(genotype, self.size_wh)
        if units is None:
            raise ConfigError(f"latency.table is set, but the space {self.space.name!r} cannot predict latency.")
        return self.table.predict_ms(units)

    def factor(self, supernet: Supernet, macro: Macro) -> float:
        """Return what the controller's AP is multiplied by."""
        return latency_factor(self.latency_ms(supernet, macro), self.config)

    def penalty(self, tables: Mapping[str, Tensor], macro: Macro, loss: Tensor) -> Tensor:
        """Return what is added to the cells' loss: ``cell_weight`` x loss x log(expected latency / target).

        The expectation is over the softmax of each row (FBNet, Wu et al. 2019); the loss counts as a constant, so the
        weight is an exponent, as in the reward. Nothing is added for networks faster than the target.
        """
        expected = self.space.expected_latency_ms(tables, macro, self.table, self.size_wh)
        if expected is None or not self.config.cell_weight:
            return torch.zeros_like(loss)
        over = torch.log(expected / self.config.target_ms).clamp_min(0.0)
        return self.config.cell_weight * loss.detach() * over


def latency_factor(latency_ms: float, config: LatencyConfig) -> float:
    """Return (latency / target) ^ exponent, at most 1 with ``only_above``."""
    factor = float((latency_ms / config.target_ms) ** config.exponent)
    return min(factor, 1.0) if config.only_above else factor
