"""Cells against a literal reading of the paper: every edge run, every node summed, all nodes concatenated."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autopose.genotype import AGGREGATION_EDGES, INDIVIDUAL_EDGES, MOBILE_OPS
from autopose.models.cell import Cell, aggregation_cell, individual_cell
from autopose.models.ops import pre_activated


def literal(cell: Cell, ops: list[str], inputs: list[Tensor]) -> Tensor:
    """Evaluate a cell edge by edge, with the same weights."""
    edge, modules, sources = iter(ops), iter(cell.ops), list(inputs)
    for node in range(cell.nodes):
        total = torch.zeros_like(inputs[0])
        for source in sources[: cell.inputs + node]:
            op = next(edge)
            total = total + (source if op == "skip" else next(modules)(F.relu(source) if pre_activated(op) else source))
        sources.append(total)
    return cell.project.norm(F.conv2d(torch.cat(sources[cell.inputs :], 1), cell.project.weight))  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("skips", [0, 2, 20])
def test_against_the_literal_cell_in_value_and_gradient(seed: int, skips: int) -> None:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    individual = seed % 2 == 0
    count = INDIVIDUAL_EDGES if individual else AGGREGATION_EDGES
    ops = [rng.choice(["skip"] * skips + list(MOBILE_OPS)) for _ in range(count)]
    cell = (individual_cell if individual else aggregation_cell)(ops, 4).double()
    inputs = [torch.randn(2, 4, 6, 5, dtype=torch.double, requires_grad=True) for _ in range(1 if individual else 4)]
    cell.eval()
    gradients = []
    for output in (cell(*inputs), literal(cell, ops, inputs)):
        cell.zero_grad()
        for x in inputs:
            x.grad = None
        (output**2).sum().backward()
        gradients.append([output, *(x.grad for x in inputs), *(p.grad for p in cell.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)


def test_edge_counts() -> None:
    assert (INDIVIDUAL_EDGES, AGGREGATION_EDGES) == (10, 9)
    assert len(individual_cell(["conv1"] * 10, 4).ops) == 10
    assert len(aggregation_cell(["conv1"] * 9, 4).ops) == 9
    assert len(individual_cell(["skip"] * 10, 4).ops) == 0
