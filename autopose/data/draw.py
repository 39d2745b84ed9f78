"""Chance by weight: how often each of several samples is drawn."""

from collections.abc import Sequence

import numpy as np


class WeightedDraw:
    """Draws numbers of samples, each as often as its weight says.

    Args:
        weights: positive, of any sum; nothing can be drawn of none.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._edges = np.cumsum(weights)

    def __call__(self, rng: np.random.Generator) -> int:
        """Return a number from 0 to one less than there are weights; takes one value from the generator."""
        chosen = int(np.searchsorted(self._edges, rng.random() * self._edges[-1], side="right"))
        return min(chosen, len(self._edges) - 1)  # rounding may reach the last edge itself
