"""A cell of the fabric (PNFS): macro edges weighted by beta, micro edges weighted by alpha."""

from collections.abc import Sequence

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
        total: Tensor | None = None
        for position, (name, op) in enumerate(self.ops.items()):
            if name == "zero" and len(self.ops) > 1:
                continue
            y = weights[position] * op(x)
            total = y if total is None else total + y
        assert total is not None
        return total


class Cell(nn.Module):
    """Mix the kept inputs, apply the mixed edges, project the concatenated nodes.

    ``h = ReLU(3 * sum_i softmax(beta)_i * edge_i(x_i))``; node i sums ``n * sum_o softmax(alpha)_o * op_o`` over h and
    the nodes before it; the result is a 1x1 convolution of all nodes. The factors 3 and n are the sizes of the
    unpruned sets, so that removing what has no weight changes nothing.

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
        edges: Sequence[tuple[int, int]],
        ops: Sequence[Sequence[str]],
        channels: int,
        candidates: int,
        nodes: int = 1,
        idle: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.candidates, self.nodes = candidates, nodes
        self.macro = nn.ModuleList(MacroEdge(steps, inputs, channels) for steps, inputs in edges)
        self.idle = nn.ModuleList(MacroEdge(steps, inputs, channels) for steps, inputs in idle)
        self.micro = nn.ModuleList(MixedEdge(row, channels) for row in ops)
        self.project = nn.Conv2d(nodes * channels, channels, 1)

    def forward(self, inputs: Sequence[Tensor], beta: Tensor, alpha: Sequence[Tensor]) -> Tensor:
        """Compute the cell.

        Args:
            inputs: one map per kept macro edge, then one per idle connection.
            beta: logits of the kept macro edges.
            alpha: logits of the kept operations of every mixed edge.
        """
        share = len(EDGES) * F.softmax(beta, dim=0)
        mixed = self.macro[0](inputs[0]) * share[0]
        for position in range(1, len(self.macro)):
            mixed = mixed + self.macro[position](inputs[position]) * share[position]
        for edge, x in zip(self.idle, inputs[len(self.macro) :], strict=True):
            mixed = mixed + 0.0 * edge(x)
        states = [F.relu(mixed)]
        number = 0
        nodes: list[Tensor] = []
        for _ in range(self.nodes):
            total: Tensor | None = None
            for state in states:
                y = self.micro[number](state, self.candidates * F.softmax(alpha[number], dim=0))
                total = y if total is None else total + y
                number += 1
            assert total is not None
            states.append(total)
            nodes.append(total)
        result: Tensor = self.project(nodes[0] if self.nodes == 1 else torch.cat(nodes, dim=1))
        return result
