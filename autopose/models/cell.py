"""Individual and aggregation cells of a derived network (AutoPose section 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.genotype import AGGREGATION_NODES, BRANCHES, INDIVIDUAL_NODES
from autopose.models.ops import ConvBN, Fanout, pre_activated


class Cell(nn.Module):
    """A directed acyclic graph of operations: node i sums an operation of every input and of every earlier node.

    Its output is a 1x1 convolution (ReLU-Conv-BN) of the concatenated nodes.

    Args:
        ops: operations in node-major order; within a node the inputs first, then the earlier nodes.
        channels: width of every input, node and the output.
        inputs: number of inputs (1 for an individual cell, 4 for an aggregation cell).
        nodes: number of nodes.
    """

    def __init__(self, ops: Sequence[str], channels: int, inputs: int, nodes: int) -> None:
        super().__init__()
        self.inputs, self.nodes = inputs, nodes
        #: Per source (inputs, then nodes): operation -> the nodes its edges lead to.
        self.targets: list[dict[str, list[int]]] = [{} for _ in range(inputs + nodes)]
        remaining = iter(ops)
        for node in range(nodes):
            for source in range(inputs + node):
                self.targets[source].setdefault(next(remaining), []).append(node)
        self.fanouts = nn.ModuleList(
            nn.ModuleDict({op: Fanout(op, channels, len(to)) for op, to in targets.items()}) for targets in self.targets
        )
        self.project = ConvBN(nodes * channels, channels, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return ``(N, C, h, w)`` from inputs of the same shape."""
        sums: list[Tensor | None] = [None] * self.nodes
        for source in range(self.inputs + self.nodes):
            x = inputs[source] if source < self.inputs else sums[source - self.inputs]
            if not self.targets[source]:
                continue
            assert x is not None
            activated: Tensor | None = None
            for op, to in self.targets[source].items():
                if pre_activated(op) and activated is None:
                    activated = F.relu(x)
                results = self.fanouts[source][op](activated if pre_activated(op) else x)  # type: ignore[index]
                for node, y in zip(to, results, strict=True):
                    total = sums[node]
                    sums[node] = y if total is None else total + y
        filled = [node for node in sums if node is not None]
        result: Tensor = self.project(F.relu(torch.cat(filled, dim=1)))
        return result


def individual_cell(ops: Sequence[str], channels: int) -> Cell:
    """Return a cell of one input and four nodes (10 edges)."""
    return Cell(ops, channels, inputs=1, nodes=INDIVIDUAL_NODES)


def aggregation_cell(ops: Sequence[str], channels: int) -> Cell:
    """Return a cell of four inputs, all resized to its own scale, and two nodes (9 edges)."""
    return Cell(ops, channels, inputs=BRANCHES, nodes=AGGREGATION_NODES)
