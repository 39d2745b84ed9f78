"""The fabric's own stem: two convolutions of stride 2, then layers of shared cells that grow to four levels."""

import torch
from torch import Tensor, nn

from autopose.fabric_genotype import EDGES, FABRIC_OP_SETS, LEVELS, FabricGenotype
from autopose.models.fabric_cell import Cell
from autopose.models.ops import ConvBN

STEM = 64


class FabricBackbone(nn.Module):
    """Layer j = 0, 1, 2 has j + 2 cells, each layer one level coarser than the one before (PNFS's own stem).

    The cell of the new level has one edge, from the level above. The cells are always whole: a search learns their
    alpha (one for all) and beta, pruning leaves them as they are.
    """

    def __init__(self, genotype: FabricGenotype) -> None:
        super().__init__()
        self.channels = tuple(genotype.channels)
        width = genotype.backbone.width or STEM
        self.stem = nn.Sequential(
            ConvBN(3, width, 3, 2), ConvBN(width, width, 3, 2), nn.ReLU(), nn.Conv2d(width, self.channels[0], 1)
        )
        ops = FABRIC_OP_SETS[genotype.op_set]
        mixed = genotype.hidden_states * (genotype.hidden_states + 1) // 2
        self.layers = nn.ModuleList()
        #: Per layer and cell, the level that each edge comes from.
        self.sources: list[list[dict[str, int]]] = []
        learned = genotype.weights == "learned"
        self.beta = nn.ParameterDict()
        self.alpha = nn.ParameterDict(
            {f"shared-{n}": nn.Parameter(torch.zeros(len(ops)), requires_grad=learned) for n in range(mixed)}
        )
        for layer in range(LEVELS - 1):
            sources = [self._sources(level, levels=layer + 1) for level in range(layer + 2)]
            self.sources.append(sources)
            cells = nn.ModuleList()
            for level, inputs in enumerate(sources):
                edges = {name: (level - source, self.channels[source]) for name, source in inputs.items()}
                cells.append(Cell(edges, [ops] * mixed, self.channels[level], len(ops), genotype.hidden_states))
                self.beta[f"{layer}-{level}"] = nn.Parameter(torch.zeros(len(inputs)), requires_grad=learned)
            self.layers.append(cells)

    @staticmethod
    def _sources(level: int, levels: int) -> dict[str, int]:
        """Return the level that each edge of a cell comes from, where the layer before has ``levels`` levels."""
        if level == levels:
            return {"above": level - 1}
        wanted = dict(zip(EDGES, (level, level - 1, level + 1), strict=True))
        return {edge: source if 0 <= source < levels else level for edge, source in wanted.items()}

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to four maps at 1/4 ... 1/32."""
        maps: list[Tensor] = [self.stem(image)]
        alpha = list(self.alpha.values())
        for number, (cells, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            assert isinstance(cells, nn.ModuleList)
            maps = [
                cell({edge: maps[source] for edge, source in inputs.items()}, self.beta[f"{number}-{level}"], alpha)
                for level, (cell, inputs) in enumerate(zip(cells, sources, strict=True))
            ]
        return maps
