"""The supernet of the fabric space: the unpruned network, its alpha and beta gathered in tables.

Nothing is sampled: every operation and edge runs, weighted by a softmax, so the normalisation's running averages belong
to one network, and the trained supernet is the result up to pruning.
"""

import torch
from torch import Tensor, nn

from autopose.fabric_genotype import EDGES, FABRIC_OP_SETS, FabricGenotype, cell_places
from autopose.models.fabric import FabricNetwork, Logits
from autopose.search.space import Draw, Supernet


class FabricSupernet(Supernet):
    """A fabric network whose logits are the tables ``alpha_PART`` and ``beta_PART``, all zero at first.

    Args:
        genotype: unpruned.
        joints: number of heatmaps.
    """

    def __init__(self, genotype: FabricGenotype, joints: int) -> None:
        super().__init__()
        self.genotype = genotype
        self.network = FabricNetwork(genotype, joints, own_logits=False)
        self.keys = [f"{layer}-{level}" for layer, level in cell_places(genotype.depth)]
        self.mixed = genotype.hidden_states * (genotype.hidden_states + 1) // 2
        ops = FABRIC_OP_SETS[genotype.op_set]
        rows = self.mixed * (1 if genotype.shared_alpha else len(self.keys))
        for part in genotype.parts:
            self._table(f"beta_{part.name}", len(self.keys), EDGES)
            self._table(f"alpha_{part.name}", rows, ops)

    def _table(self, name: str, rows: int, columns: tuple[str, ...]) -> None:
        self.arch[name] = nn.Parameter(torch.zeros(rows, len(columns)))
        self.choices[name] = columns

    def sample_noise(self, generator: torch.Generator) -> None:
        """Return None: the mixture itself is trained."""
        return

    def logits_of(self, part: str) -> tuple[Logits, Logits]:
        """Return a part's beta by cell and alpha by mixed edge."""
        beta, alpha = self.arch[f"beta_{part}"], self.arch[f"alpha_{part}"]
        by_cell = {key: beta[row] for row, key in enumerate(self.keys)}
        prefixes = ["shared"] if self.genotype.shared_alpha else self.keys
        names = [f"{prefix}-{number}" for prefix in prefixes for number in range(self.mixed)]
        return by_cell, {name: alpha[row] for row, name in enumerate(names)}

    def forward(self, images: Tensor, draw: Draw) -> Tensor:
        """Map normalised images ``(N, 3, H, W)`` to heatmaps ``(N, K, H/4, W/4)``; the draw is always empty."""
        maps: Tensor = self.network(images, {part.name: self.logits_of(part.name) for part in self.genotype.parts})
        return maps
