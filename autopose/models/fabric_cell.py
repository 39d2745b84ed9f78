"""A cell of the fabric (PNFS): macro edges weighted by beta, micro edges weighted by alpha."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.fabric_genotype import EDGES
from autopose.models.fabric_ops import FABRIC_OPS


class MacroEdge(nn.Module):
    """Bring a neighbour's map to the cell's level and width.

    Args:
        steps: level of the cell minus level of the source: 0 = identity, 1 = the source is finer, -1 = coarser.
        inputs: channels of the source.
        outputs: channels of the cell.
    """

    def __init__(self, steps: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.steps = steps
        self.match: nn.Module = nn.Identity()
        if steps > 0:
            self.match = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs))
        elif steps < 0:
            self.match = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, h, w)`` to ``(N, outputs, h', w')`` of the cell's level."""
        y: Tensor = self.match(x)
        return F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=True) if self.steps < 0 else y


class MixedEdge(nn.Module):
    """The weighted sum of the kept operations of one micro edge."""

    def __init__(self, ops: Sequence[str], channels: int) -> None:
        super().__init__()
        self.ops = nn.ModuleDict({op: FABRIC_OPS[op](channels) for op in ops})

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return ``sum_o weights[o] * op_o(x)``; ``zero`` costs nothing beside other operations."""
        used = [(position, op) for position, (name, op) in enumerate(self.ops.items()) if name != "zero"]
        if not used:
            return x * 0.0
        return _total([weights[position] * op(x) for position, op in used])


class Cell(nn.Module):
    """Mix the kept inputs, apply the mixed edges, project the concatenated nodes.

    ``h = ReLU(3 * sum_i softmax(beta)_i * edge_i(x_i))``; node i sums ``n * sum_o softmax(alpha)_o * op_o`` over h and
    the nodes before it; the result is a 1x1 convolution of all nodes. The factors 3 and n are the sizes of the
    unpruned sets, so that removing what has no weight changes nothing. Edges and operations are named, so that the
    weights of a pruned cell are a subset of the unpruned one's.

    Args:
        edges: per kept macro edge its steps (see ``MacroEdge``) and the channels of its source.
        ops: kept operations of every mixed edge.
        channels: of the cell.
        candidates: n, size of the unpruned candidate set.
        nodes: hidden states.
        idle: like ``edges``: connections that are computed and weigh nothing.
    """

    def __init__(
        self,
        edges: Mapping[str, tuple[int, int]],
        ops: Sequence[Sequence[str]],
        channels: int,
        candidates: int,
        nodes: int = 1,
        idle: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.candidates, self.nodes = candidates, nodes
        self.kept, self.idle = tuple(edges), tuple(idle or ())
        everything = {**edges, **(idle or {})}
        self.macro = nn.ModuleDict({name: MacroEdge(*ends, channels) for name, ends in everything.items()})
        self.micro = nn.ModuleList(MixedEdge(row, channels) for row in ops)
        self.project = nn.Conv2d(nodes * channels, channels, 1)

    def forward(self, inputs: Mapping[str, Tensor], beta: Tensor, alpha: Sequence[Tensor]) -> Tensor:
        """Compute the cell.

        Args:
            inputs: one map per macro edge, by its name.
            beta: logits of the kept macro edges.
            alpha: logits of the kept operations of every mixed edge.
        """
        share = len(EDGES) * F.softmax(beta, dim=0)
        terms = [share[position] * self.macro[name](inputs[name]) for position, name in enumerate(self.kept)]
        terms += [0.0 * self.macro[name](inputs[name]) for name in self.idle]
        states = [F.relu(_total(terms))]
        nodes: list[Tensor] = []
        edges = iter(zip(self.micro, alpha, strict=True))
        for _ in range(self.nodes):
            terms = []
            for state in states:
                edge, logits = next(edges)
                terms.append(edge(state, self.candidates * F.softmax(logits, dim=0)))
            nodes.append(_total(terms))
            states.append(nodes[-1])
        result: Tensor = self.project(nodes[0] if self.nodes == 1 else torch.cat(nodes, dim=1))
        return result


def _total(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of one or more tensors."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
