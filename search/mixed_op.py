"""The mixed edges of a supernet's cell: only the sampled operations run, and they share what they can.

Per source one ReLU and one pooling of each kind serve all edges (in search, normalisation has no scale and shift, so
two edges that pool the same source are the same tensor). A gate, whose value is 1, enters as the scale of the
operation's normalisation: its gradient is then what the normalisation's backward pass computes anyway, and learning
alpha saves no tensor more than learning weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.models.ops import OPS, pre_activated
from autopose.search.relaxation import Choice


class WeightedSum(torch.autograd.Function):
    """Sum of operations times weights; terms of weight 0 get no gradient and their operations no backward pass.

    ``WeightedSum.apply(weights (n,), o_1, ..., o_n)``.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *terms: Tensor) -> Tensor:
        ctx.factors = weights.tolist()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(*terms)
        total: Tensor = terms[0] * ctx.factors[0]
        for factor, term in zip(ctx.factors[1:], terms[1:], strict=True):
            if factor != 0.0:
                total.add_(term, alpha=factor)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = upstream
        weights = torch.stack([(term * grad).sum() for term in ctx.saved_tensors]) if ctx.saved_tensors else None
        wanted = ctx.needs_input_grad[1:]
        return weights, *(
            grad * factor if want and factor != 0.0 else None for want, factor in zip(wanted, ctx.factors, strict=True)
        )


def gated(module: nn.Module, x: Tensor, gate: Tensor) -> Tensor:
    """Return ``module(x) * gate``, a scalar, multiplied inside the last batch normalisation where there is one."""
    if isinstance(module, nn.Sequential):
        for part in list(module)[:-1]:
            x = part(x)
        return gated(module[-1], x, gate)
    if isinstance(module, nn.BatchNorm2d) and module.weight is None:
        mean, var = module.running_mean, module.running_var
        batch = mean is None or module.training
        return F.batch_norm(x, mean, var, gate.expand(module.num_features).contiguous(), None, batch, 0.0, module.eps)
    result: Tensor = module(x) * gate
    return result


class Source:
    """An input or node of a cell: its ReLU and its poolings are computed when first wanted, once."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._activated: Tensor | None = None
        self._pooled: dict[str, Tensor] = {}

    @property
    def activated(self) -> Tensor:
        """Return ReLU(x)."""
        if self._activated is None:
            self._activated = F.relu(self.x)
        return self._activated

    def apply(self, op: str, module: nn.Module, gate: Tensor | None = None) -> Tensor:
        """Return the operation's output, times its gate if it has one."""
        if pre_activated(op):
            result: Tensor = module(self.activated) if gate is None else gated(module, self.activated, gate)
            return result
        if op == "skip":
            return self.x if gate is None else self.x * gate
        if gate is None:
            if op not in self._pooled:
                self._pooled[op] = module(self.x)
            return self._pooled[op]
        assert isinstance(module, nn.Sequential)
        pool, norm = module[0], module[1]
        raw = f"{op} without normalisation"
        if raw not in self._pooled:
            self._pooled[raw] = pool(self.x)
        return gated(norm, self._pooled[raw], gate)


def add(edges: Sequence[Tensor]) -> Tensor:
    """Return the sum, allocating once; no operand is modified."""
    if len(edges) == 1:
        return edges[0]
    total = edges[0] + edges[1]
    for edge in edges[2:]:
        total += edge
    return total


class MixedCell(nn.Module):
    """A cell in which every edge holds every operation (the relaxed :class:`autopose.models.cell.Cell`).

    Args:
        ops: the operations, in the order of the table's columns.
        channels: width of inputs, nodes and output.
        inputs: number of inputs.
        nodes: number of nodes.
    """

    def __init__(self, ops: Sequence[str], channels: int, inputs: int, nodes: int) -> None:
        super().__init__()
        self.ops, self.inputs, self.nodes = tuple(ops), inputs, nodes
        edges = sum(inputs + node for node in range(nodes))
        self.edges = nn.ModuleList(nn.ModuleList(OPS[op](channels, False) for op in ops) for _ in range(edges))
        self.project = Project(nodes, channels)

    def forward(self, inputs: Sequence[Tensor], choice: Choice) -> Tensor:
        """Return ``(N, C, h, w)`` from inputs of the same shape, doing what ``choice`` says for each edge."""
        sources = [Source(x) for x in inputs]
        row = 0
        for _ in range(self.nodes):
            count = len(sources)
            rows = range(row, row + count)
            if choice.weights is None:
                node = add(
                    [
                        self.run_edge(
                            source, edge, choice.index[edge], None if choice.gate is None else choice.gate[edge]
                        )
                        for source, edge in zip(sources, rows, strict=True)
                    ]
                )
            else:
                terms = [
                    self.run_edge(source, edge, k)
                    for source, edge in zip(sources, rows, strict=True)
                    for k in range(len(self.ops))
                ]
                node = WeightedSum.apply(choice.weights[row : row + count].flatten(), *terms)  # type: ignore[no-untyped-call]
            sources.append(Source(node))
            row += count
        result: Tensor = self.project([source.x for source in sources[self.inputs :]])
        return result

    def run_edge(self, source: Source, edge: int, op: int, gate: Tensor | None = None) -> Tensor:
        """Return one operation of one edge."""
        return source.apply(self.ops[op], self.edges[edge][op], gate)  # type: ignore[index]


class Project(nn.Module):
    """Concatenation, 1x1 convolution and normalisation, written as a sum of convolutions: nothing is copied.

    Args:
        inputs: number of maps.
        channels: width of each and of the output.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(inputs))
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return ``(N, C, h, w)`` from maps of that shape: the nodes of a cell, or branches after their ReLU."""
        total: Tensor | None = None
        for part, x in zip(self.parts, maps, strict=True):
            y = part(x)
            total = y if total is None else total.add_(y)
        result: Tensor = self.norm(total)
        return result
