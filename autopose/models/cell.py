"""Individual and aggregation cells of a derived network (AutoPose section 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.genotype import AGGREGATION_NODES, BRANCHES, INDIVIDUAL_NODES
from autopose.models.batch_norm import BatchNorm
from autopose.models.ops import BN_MOMENTUM, OPS, pre_activated

#: Coefficients of a node over the cell's terms (its inputs and the results of its operations).
Expression = dict[int, int]


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate along channels, handing each source a dense gradient.

    The gradient of a concatenation is a strided slice, on which batch normalisation's backward pass is several times
    slower on CPUs; making it dense costs one copy.
    """
    if len(tensors) == 1:
        return tensors[0]
    for x in tensors:
        if x.requires_grad:
            x.register_hook(lambda g: g.contiguous(memory_format=torch.channels_last))
    return torch.cat(list(tensors), dim=1)


class Projection(nn.Module):
    """The 1x1 convolution and normalisation of a cell's concatenated nodes.

    Nodes that are sums of the same few terms are not written out: W [n1; n2] with n = M t equals (W M) t, so the
    combined weight is applied to the terms. The function and its gradients are those of the concatenation.

    Args:
        channels: width of each node and of the result.
        nodes: number of nodes.
        mixing: ``(nodes, terms)`` coefficients of the nodes over the tensors given to ``forward``; None for the nodes
            themselves.
    """

    def __init__(self, channels: int, nodes: int, mixing: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, nodes * channels, 1, 1))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d
        self.norm = BatchNorm(channels, momentum=BN_MOMENTUM)
        self.nodes = nodes
        #: Only where an export has folded the normalisation into the convolution.
        self.bias: Tensor | None
        self.register_buffer("bias", None, persistent=False)
        self.mixing: Tensor | None
        self.register_buffer("mixing", mixing, persistent=False)

    def forward(self, terms: Sequence[Tensor]) -> Tensor:
        """Return ``(N, C, h, w)``."""
        weight: Tensor = self.weight
        if self.mixing is not None:
            channels = weight.shape[0]
            blocks = weight.view(channels, self.nodes, channels)
            weight = torch.einsum("onc,nt->otc", blocks, self.mixing).reshape(channels, -1, 1, 1)
        result: Tensor = self.norm(F.conv2d(concatenate(terms), weight, self.bias))
        return result


class Cell(nn.Module):
    """A directed acyclic graph of operations: node i sums an operation of every input and of every earlier node.

    Its output is a 1x1 convolution of the concatenated nodes. The terms of all sums are the inputs and the results of
    the operations other than ``skip``; a skip only adds coefficients.

    Args:
        ops: operations in node-major order; within a node the inputs first, then the earlier nodes.
        channels: width of every input, node and the output.
        inputs: number of inputs (1 for an individual cell, 4 for an aggregation cell).
        nodes: number of nodes.
    """

    def __init__(self, ops: Sequence[str], channels: int, inputs: int, nodes: int) -> None:
        super().__init__()
        self.inputs, self.nodes = inputs, nodes
        self.ops = nn.ModuleList()
        #: Per operation: whether it reads ReLU(source), and its source as coefficients over earlier terms.
        self.reads: list[tuple[bool, Expression]] = []
        sources: list[Expression] = [{i: 1} for i in range(inputs)]
        edge = iter(ops)
        for node in range(nodes):
            total: Expression = {}
            for source in sources[: inputs + node]:
                op = next(edge)
                term = source
                if op != "skip":
                    self.ops.append(OPS[op](channels, True))
                    self.reads.append((pre_activated(op), source))
                    term = {inputs + len(self.reads) - 1: 1}
                for index, coefficient in term.items():
                    total[index] = total.get(index, 0) + coefficient
            sources.append(total)
        #: The nodes, each a sum of terms.
        self.rows = sources[inputs:]
        self.terms, mixing = _combine(self.rows)
        self.project = Projection(channels, nodes, mixing)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return ``(N, C, h, w)`` from inputs of the same shape."""
        terms = list(inputs)
        sums: dict[tuple[tuple[int, int], ...], Tensor] = {}
        activated: dict[tuple[tuple[int, int], ...], Tensor] = {}

        def evaluate(expression: Expression) -> Tensor:
            key = tuple(sorted(expression.items()))
            if key not in sums:
                parts = [terms[i] if factor == 1 else terms[i] * factor for i, factor in key]
                total = parts[0]
                for part in parts[1:]:
                    total = total + part
                sums[key] = total
            return sums[key]

        for module, (relu, source) in zip(self.ops, self.reads, strict=True):
            x = evaluate(source)
            if relu:
                key = tuple(sorted(source.items()))
                if key not in activated:
                    activated[key] = F.relu(x)
                x = activated[key]
            terms.append(module(x))
        result: Tensor = self.project([evaluate(expression) for expression in self.terms])
        return result


def _combine(rows: Sequence[Expression]) -> tuple[list[Expression], Tensor | None]:
    """Return fewer sums of which all nodes are combinations, and the coefficients; or the nodes themselves.

    Terms whose coefficients are proportional over all nodes always occur together: each such group is one sum.
    """
    groups: dict[tuple[float, ...], Expression] = {}
    for index in sorted({index for row in rows for index in row}):
        column = [row.get(index, 0) for row in rows]
        first = next(value for value in column if value)
        groups.setdefault(tuple(value / first for value in column), {})[index] = first
    if len(groups) >= len(rows):
        return list(rows), None
    mixing = torch.tensor(list(groups), dtype=torch.float32).T.contiguous()  # node = direction x sum of the group
    return list(groups.values()), mixing


def individual_cell(ops: Sequence[str], channels: int) -> Cell:
    """Return a cell of one input and four nodes (10 edges)."""
    return Cell(ops, channels, inputs=1, nodes=INDIVIDUAL_NODES)


def aggregation_cell(ops: Sequence[str], channels: int) -> Cell:
    """Return a cell of four inputs, all resized to its own scale, and two nodes (9 edges)."""
    return Cell(ops, channels, inputs=BRANCHES, nodes=AGGREGATION_NODES)
