"""Drawings of networks as SVG, from their genotypes: the branch graph of AutoPose's Figure 4, fabrics, references."""

from autopose.errors import GenotypeError
from autopose.fabric_diagram import fabric_svg
from autopose.fabric_genotype import FabricGenotype
from autopose.genotype import (
    AGGREGATION_NODES,
    BRANCHES,
    INDIVIDUAL_NODES,
    OP_SETS,
    AutoPoseGenotype,
    Genotype,
)
from autopose.reference_diagram import reference_svg
from autopose.reference_genotype import ReferenceGenotype
from autopose.svg import FAINT, INK, LEVEL_COLOURS, OP_COLOURS, Canvas

LEFT, TOP, ROW = 118.0, 96.0, 70.0
MODULE, GAP, HEAD = 158.0, 22.0, 146.0
CHIP = 17.0


def network_svg(genotype: Genotype) -> str:
    """Draw any genotype.

    Returns:
        A self-contained SVG document.

    Raises:
        GenotypeError: a kind that has no drawing.
    """
    if isinstance(genotype, AutoPoseGenotype):
        return branch_graph_svg(genotype)
    if isinstance(genotype, FabricGenotype):
        return fabric_svg(genotype)
    if isinstance(genotype, ReferenceGenotype):
        return reference_svg(genotype)
    raise GenotypeError(f"No drawing for genotypes of kind {genotype.kind!r}.")


def branch_graph_svg(genotype: AutoPoseGenotype) -> str:
    """Draw stages x branches (Figure 4 of AutoPose): active cells, branches passed on, aggregation, the cells."""
    modules = genotype.modules_per_stage
    stage_width = modules * MODULE
    right = LEFT + 34 + len(genotype.scales) * (stage_width + GAP)
    bottom = TOP + (BRANCHES - 1) * ROW
    cells_top = bottom + 96
    with_aggregation = genotype.fusion == "cells"
    height = cells_top + 5 * CHIP + 90
    canvas = Canvas(max(right + HEAD, 1120.0), height, f"AutoPose network {genotype.name}")
    canvas.text(20, 30, f"{genotype.name}: branch graph", size=18, bold=True)
    active = sum(map(sum, genotype.scales))
    possible = len(genotype.scales) * BRANCHES
    fusion = "M aggregation cell" if with_aggregation else "+ concatenation and 1×1 convolution"
    note = f"I individual cell (two in series) · {fusion} · dashed: passed on unchanged"
    canvas.text(20, 50, f"{active} of {possible} stage-branches processed · {note}")
    _stem(canvas, genotype)
    for stage, bits in enumerate(genotype.scales):
        left = LEFT + 34 + stage * (stage_width + GAP)
        canvas.rect(left - 4, TOP - 34, stage_width + 2, bottom - TOP + 62, fill="#f5f5f2", radius=8)
        canvas.text(left + stage_width / 2 - 8, TOP - 18, f"Stage {stage + 1}", anchor="middle", bold=True)
        for module in range(modules):
            _module(canvas, left + module * MODULE, bits, "M" if with_aggregation else "+")
        for branch in range(BRANCHES):
            y = TOP + branch * ROW
            canvas.line([(left + stage_width, y), (left + stage_width + GAP, y)], colour=LEVEL_COLOURS[branch])
    _head(canvas, genotype, right)
    _cell_tables(canvas, genotype, cells_top)
    canvas.op_legend(20, height - 40, list(OP_SETS[genotype.op_set]))
    return canvas.to_svg()


def _stem(canvas: Canvas, genotype: AutoPoseGenotype) -> None:
    bottom = TOP + (BRANCHES - 1) * ROW
    canvas.rect(20, TOP - 16, 26, bottom - TOP + 32, fill="#ffffff", stroke=INK)
    middle = (TOP + bottom) / 2
    for position, letter in enumerate("stem"):
        canvas.text(33, middle - 18 + 14 * position, letter, anchor="middle")
    for branch, (stride, width) in enumerate(zip(genotype.strides, genotype.channels, strict=True)):
        y = TOP + branch * ROW
        canvas.line([(46, y), (LEFT + 34, y)], colour=LEVEL_COLOURS[branch])
        canvas.text(54, y - 7, f"1/{stride} · {width} ch", size=11, colour=LEVEL_COLOURS[branch], bold=True)


def _module(canvas: Canvas, left: float, bits: tuple[int, ...], symbol: str) -> None:
    """Draw one multi-scale module whose streams enter at ``left``."""
    source, target, end = left + 66, left + 122, left + MODULE
    for branch in range(BRANCHES):
        y, colour = TOP + branch * ROW, LEVEL_COLOURS[branch]
        if bits[branch]:
            canvas.line([(left, y), (source, y)], colour=colour, width=2)
            canvas.line([(target, y), (end, y)], colour=colour, width=2)
        else:
            canvas.line([(left, y), (end, y)], colour=colour, width=1.2, dash="4 3")
    for branch in range(BRANCHES):
        y = TOP + branch * ROW
        for other in range(BRANCHES):
            if bits[other]:
                start, stop = (source, y), (target - 9, TOP + other * ROW + 3.0 * (branch - other))
                canvas.line([start, stop], colour=LEVEL_COLOURS[branch], width=1.3, arrow=True, opacity=0.85)
    for branch in range(BRANCHES):
        y, colour = TOP + branch * ROW, LEVEL_COLOURS[branch]
        if bits[branch]:
            for cell in range(2):
                canvas.rect(left + 8 + 28 * cell, y - 12, 22, 24, fill=colour, stroke=INK)
                canvas.text(left + 19 + 28 * cell, y + 4, "I", anchor="middle", colour="#ffffff", bold=True)
            canvas.circle(source, y, 2.5, fill=colour)
            canvas.circle(target, y, 11, fill=colour, stroke=INK)
            canvas.text(target, y + 4, symbol, anchor="middle", colour="#ffffff", bold=True, size=11)
        else:
            canvas.circle(source, y, 3, fill="#ffffff", stroke=colour)


def _head(canvas: Canvas, genotype: AutoPoseGenotype, x: float) -> None:
    lines = {
        "concat": ("upsample,", "concatenate,", "3×3 conv"),
        "sum": ("match, upsample,", "sum,", "3×3 conv"),
        "center": ("centre, size,", "offset at", f"1/{genotype.head_stride}"),
    }[genotype.head]
    y = TOP + (BRANCHES - 1) * ROW / 2
    for branch in range(BRANCHES):
        start = TOP + branch * ROW
        canvas.line([(x - 2, start), (x + 14, y + 6.0 * (branch - 1.5))], colour=LEVEL_COLOURS[branch], width=2)
    canvas.rect(x + 14, y - 34, 112, 68, fill="#ffffff", stroke=INK)
    for position, line in enumerate(lines):
        canvas.text(x + 70, y - 12 + 17 * position, line, anchor="middle", size=12)


def _cell_tables(canvas: Canvas, genotype: AutoPoseGenotype, top: float) -> None:
    """Draw the operations of each branch's cells: one row per node, one column per source."""
    inputs = ["in"]
    canvas.text(20, top - 34, "Cells: row = node, column = where the edge comes from", bold=True)
    for branch, stride in enumerate(genotype.strides):
        left = 20 + branch * 270.0
        used = any(bits[branch] for bits in genotype.scales)
        colour = LEVEL_COLOURS[branch] if used else FAINT
        note = "" if used else " (never processed)"
        canvas.text(left, top - 14, f"1/{stride}{note}", colour=colour, bold=True)
        _table(canvas, left, top, genotype.individual[branch], inputs, INDIVIDUAL_NODES, "individual")
        if genotype.fusion == "cells":
            scales = [f"1/{value}" for value in genotype.strides]
            _table(canvas, left + 112, top, genotype.aggregation[branch], scales, AGGREGATION_NODES, "aggregation")


def _table(
    canvas: Canvas, left: float, top: float, ops: tuple[str, ...], inputs: list[str], nodes: int, title: str
) -> None:
    sources = [*inputs, *(str(node + 1) for node in range(nodes - 1))]
    step = CHIP + 5
    for column, source in enumerate(sources):
        canvas.text(left + 14 + column * step + CHIP / 2, top + 4, source, anchor="middle", size=9)
    remaining = iter(ops)
    for node in range(nodes):
        y = top + 9 + node * CHIP
        canvas.text(left + 10, y + 12, str(node + 1), anchor="end", size=9)
        for column in range(len(inputs) + node):
            canvas.rect(
                left + 14 + column * step, y, CHIP, CHIP - 2, fill=OP_COLOURS[next(remaining)], stroke=INK, radius=2
            )
    canvas.text(left + 14, top + 24 + nodes * CHIP, title, size=10)
