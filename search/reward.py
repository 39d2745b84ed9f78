"""What an architecture is worth with the shared weights: AP (or OKS), optionally times a power of its latency."""

import torch
from torch import Tensor, nn

from autopose.evaluation.coco import Results
from autopose.models.network import build_network
from autopose.search.config import SearchConfig
from autopose.search.latency_goal import LatencyGoal
from autopose.search.samples import SearchData
from autopose.search.space import Draw, Macro, SearchSpace, Supernet
from autopose.training.predictor import TorchPredictor


class Discretised(nn.Module):
    """One architecture of a supernet as an ordinary network; normalisation keeps using the statistics of the batch."""

    def __init__(self, supernet: Supernet, draw: Draw) -> None:
        super().__init__()
        self.supernet, self.draw = supernet, draw

    def train(self, mode: bool = True) -> "Discretised":
        """Set the supernet's mode where it has another: that visits thousands of modules."""
        if self.supernet.training != mode:
            self.supernet.train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images to heatmaps."""
        maps: Tensor = self.supernet(images, self.draw)
        return maps


class Reward:
    """Scores network-level decisions with the current cells, discretised (Algorithm 1, step 3).

    The supernet is left in evaluation mode.

    Args:
        config: the search.
        space: for the latency of a derived network.
        supernet: shared weights.
        data: the tune split.
    """

    def __init__(self, config: SearchConfig, space: SearchSpace, supernet: Supernet, data: SearchData) -> None:
        self.config, self.space, self.supernet, self.data = config, space, supernet, data
        self.goal = LatencyGoal(config, space) if config.latency.table is not None else None

    def figures(self, macro: Macro) -> dict[str, float]:
        """Return AP and mean OKS on the tune split."""
        results = self._results(macro)
        return {figure: self.data.score(results, figure) for figure in ("AP", "OKS")}

    def __call__(self, macro: Macro) -> float:
        """Return the controller's reward."""
        score = self.data.score(self._results(macro), self.config.search.reward)
        if self.goal is not None:
            score *= self.goal.factor(self.supernet, macro)
        if limit := self.config.search.max_parameters:
            score *= min(limit / self._parameters(macro), 1.0)
        return score

    def _parameters(self, macro: Macro) -> int:
        """Return how many parameters the derived network has."""
        genotype = self.space.derive(self.supernet, macro, name="candidate", provenance={})
        with torch.device("meta"):
            network = build_network(genotype, len(self.data.skeleton))
        return sum(parameter.numel() for parameter in network.parameters())

    def _results(self, macro: Macro) -> Results:
        predictor = TorchPredictor(
            Discretised(self.supernet, Draw(macro)),
            self.data.config.codec,
            self.data.skeleton,
            flip=False,
            amp=self.config.search.amp,
        )
        with torch.no_grad():
            return self.data.results(predictor)
