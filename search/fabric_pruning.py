"""From the learned alpha and beta of a fabric to what is kept of it (PNFS's pruning, with a threshold).

The published code removes a cell or an operation when its softmax weight is exactly 0.0 in FP32, which only very long
runs reach. Here everything below a threshold goes, exact zeros among it, then every cell that nothing reads.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autopose.fabric_genotype import (
    EDGES,
    FABRIC_OP_SETS,
    FabricCell,
    FabricOp,
    FabricPart,
    cell_places,
    without_unused,
)


def kept_positions(logits: Tensor, threshold: float) -> list[int]:
    """Return the positions of a row whose softmax weight reaches the threshold; the largest is always kept.

    An exact zero is removed whatever the threshold is.
    """
    weights = logits.detach().double().softmax(-1)
    floor = max(threshold, torch.finfo(torch.float32).tiny)  # what FP32 would round to zero is zero
    kept = [position for position, weight in enumerate(weights.tolist()) if weight >= floor]
    return kept or [int(weights.argmax())]


def pruned_part(
    name: str,
    beta: Tensor,
    alpha: Tensor,
    *,
    depth: int,
    op_set: str,
    mixed: int,
    shared: bool,
    threshold: float,
) -> FabricPart:
    """Return the kept cells, edges and operations of one part.

    Args:
        name: of the part.
        beta: ``(cells, 3)`` logits, cells in the order of ``cell_places``.
        alpha: ``(mixed, operations)`` logits if shared by all cells, else ``(cells * mixed, operations)``.
        depth: layers of cells.
        op_set: candidate set.
        mixed: mixed edges in a cell.
        shared: one alpha for all cells.
        threshold: smallest softmax weight that is kept.
    """
    names = FABRIC_OP_SETS[op_set]
    cells = []
    for number, (layer, level) in enumerate(cell_places(depth)):
        edges = kept_positions(beta[number], threshold)
        rows = alpha if shared else alpha[number * mixed : (number + 1) * mixed]
        ops = [kept_positions(row, threshold) for row in rows]
        cells.append(
            FabricCell(
                layer=layer,
                level=level,
                edges=tuple(EDGES[position] for position in edges),
                ops=tuple(_chosen(names, row) for row in ops),
                beta=tuple(beta[number, edges].tolist()),
                alpha=tuple(tuple(row[kept].tolist()) for row, kept in zip(rows, ops, strict=True)),
            )
        )
    return without_unused(FabricPart(name=name, cells=tuple(cells)), depth)


def _chosen(names: Sequence[FabricOp], positions: Sequence[int]) -> tuple[FabricOp, ...]:
    return tuple(names[position] for position in positions)


def sliced_logits(part: FabricPart, *, shared: bool) -> Mapping[str, Tensor]:
    """Return a part's kept logits under the names that its network gives them (below ``fabrics.PART.``)."""
    result: dict[str, Tensor] = {}
    for cell in part.cells:
        key = f"{cell.layer}-{cell.level}"
        assert cell.beta is not None
        assert cell.alpha is not None
        result[f"beta.{key}"] = torch.tensor(cell.beta)
        for number, row in enumerate(cell.alpha):
            result[f"alpha.{'shared' if shared else key}-{number}"] = torch.tensor(row)
    return result
