"""Drawing of a fabric genotype: one panel per body part, its kept cells and edges over the shared pyramid."""

import math
from collections.abc import Sequence

from autopose.fabric_genotype import (
    EDGES,
    FABRIC_OP_SETS,
    LEVELS,
    FabricCell,
    FabricGenotype,
    FabricPart,
    cell_places,
    edge_source,
)
from autopose.svg import FAINT, INK, LEVEL_COLOURS, OP_COLOURS, Canvas

COLUMN, ROW = 96.0, 58.0
PANEL_LEFT, PANEL_TOP = 62.0, 74.0
CELL_WIDTH, CELL_HEIGHT = 46.0, 26.0
COLUMNS_OF_PANELS = 3
#: Vertical shift of the three edges' arrow heads, so that they stay apart.
PORTS = {"parallel": 0.0, "above": -7.0, "below": 7.0}


def fabric_svg(genotype: FabricGenotype) -> str:
    """Draw the pyramid, and for every part its cells (bars: shares of the operations) and edges (width: beta)."""
    panel_width = PANEL_LEFT + (genotype.depth + 1) * COLUMN + 30
    panel_height = PANEL_TOP + LEVELS * ROW
    columns = min(COLUMNS_OF_PANELS, len(genotype.parts))
    rows = math.ceil(len(genotype.parts) / columns)
    width, height = max(columns * panel_width + 40, 1110.0), 84 + rows * panel_height + 86
    canvas = Canvas(width, height, f"Fabric network {genotype.name}")
    canvas.text(20, 30, f"{genotype.name}: one fabric per body part (P = {len(genotype.parts)})", size=18, bold=True)
    vectors = f"keypoint vectors of dimension {genotype.vector}" if genotype.vector > 1 else "scalar keypoint maps"
    canvas.text(20, 52, f"Backbone {_backbone_title(genotype)} · {vectors} · channels {_channels(genotype.channels)}")
    for number, part in enumerate(genotype.parts):
        row, column = divmod(number, columns)
        _panel(canvas, genotype, part, 20 + column * panel_width, 70 + row * panel_height, panel_width)
    y = height - 66
    y += canvas.op_legend(20, y, list(FABRIC_OP_SETS[genotype.op_set]))
    canvas.line([(20, y + 6), (52, y + 6)], arrow=True)
    canvas.text(60, y + 10, "kept edge")
    canvas.line([(150, y + 6), (182, y + 6)], colour=FAINT, dash="3 3")
    canvas.text(190, y + 10, "removed")
    canvas.text(
        260,
        y + 10,
        "In a cell: bars show the share of each kept operation; at level 1/4 the finer input is the parallel one.",
    )
    return canvas.to_svg()


def _backbone_title(genotype: FabricGenotype) -> str:
    width = genotype.backbone.width
    return {
        "hrnet": f"HRNet-W{width or 32} (stem to stage 3)",
        "resnet50": "ResNet-50",
        "mobilenetv2": "MobileNetV2",
        "autopose": "AutoPose network" + (f" {genotype.backbone.autopose.name}" if genotype.backbone.autopose else ""),
        "stem": f"stem (width {width or 64})",
        "fabric": "the fabric's own stem",
    }[genotype.backbone.network]


def _channels(channels: Sequence[int]) -> str:
    return "/".join(str(width) for width in channels)


def _softmax(logits: Sequence[float] | None, count: int) -> list[float]:
    if logits is None:
        return [1 / count] * count
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def _panel(canvas: Canvas, genotype: FabricGenotype, part: FabricPart, left: float, top: float, width: float) -> None:
    canvas.rect(left, top, width - 12, PANEL_TOP + LEVELS * ROW - 12, fill="#f8f8f5", radius=8)
    kept, possible = len(part.cells), len(cell_places(genotype.depth))
    canvas.text(left + 12, top + 20, f"{part.name} · {kept} of {possible} cells", bold=True, size=13)
    joints = ", ".join(genotype.joints_of(part.name))
    canvas.text(left + 12, top + 36, joints if len(joints) <= 84 else joints[:82] + "…", size=10, colour="#555555")

    def place(layer: int, level: int) -> tuple[float, float]:
        return left + PANEL_LEFT + layer * COLUMN, top + PANEL_TOP + level * ROW

    for layer in range(genotype.depth + 1):
        title = "pyramid" if layer == 0 else f"layer {layer}"
        canvas.text(place(layer, 0)[0], top + 52, title, anchor="middle", size=10, colour="#555555")
    for level in range(LEVELS):
        x, y = place(0, level)
        canvas.text(left + 10, y + 4, f"1/{4 * 2**level}", size=11, colour=LEVEL_COLOURS[level], bold=True)
    for layer, level in cell_places(genotype.depth):
        cell = part.cell(layer, level)
        shares = dict(zip(cell.edges, _softmax(cell.beta, len(cell.edges)), strict=True)) if cell else {}
        for edge in EDGES:
            source = edge_source(layer, level, edge)
            twin = edge != "parallel" and source == (layer - 1, level)  # stands in for a neighbour that never was
            if source[0] > 0 and part.cell(*source) is None and edge not in shares:
                continue
            if twin and edge not in shares:
                continue
            start, stop = place(*source), place(layer, level)
            bend = 5.0 * PORTS[edge] / 7 if twin else 0.0
            points = [(start[0] + CELL_WIDTH / 2, start[1] + bend), (stop[0] - CELL_WIDTH / 2, stop[1] + PORTS[edge])]
            if edge in shares:
                colour = LEVEL_COLOURS[source[1]]
                canvas.line(points, colour=colour, width=round(0.8 + 2.4 * shares[edge], 2), arrow=True)
            else:
                canvas.line(points, colour=FAINT, width=1, dash="3 3")
    for level in range(LEVELS):
        x, y = place(0, level)
        canvas.rect(x - CELL_WIDTH / 2, y - 10, CELL_WIDTH, 20, fill=LEVEL_COLOURS[level], stroke=INK)
    for layer, level in cell_places(genotype.depth):
        _cell(canvas, part.cell(layer, level), *place(layer, level))
    x, y = place(genotype.depth, 0)
    canvas.line([(x + CELL_WIDTH / 2, y), (x + CELL_WIDTH / 2 + 26, y)], width=2, arrow=True)


def _cell(canvas: Canvas, cell: FabricCell | None, x: float, y: float) -> None:
    """Draw a cell with one row of bars per mixed edge, or the dashed outline of a removed one."""
    left, top = x - CELL_WIDTH / 2, y - CELL_HEIGHT / 2
    if cell is None:
        canvas.rect(left, top, CELL_WIDTH, CELL_HEIGHT, stroke=FAINT, dash="3 3", fill="#ffffff")
        return
    canvas.rect(left, top, CELL_WIDTH, CELL_HEIGHT, fill="#ffffff", stroke=INK)
    height = (CELL_HEIGHT - 8) / len(cell.ops)
    for row, ops in enumerate(cell.ops):
        offset = left + 4
        for op, share in zip(ops, _softmax(cell.alpha[row] if cell.alpha else None, len(ops)), strict=True):
            bar = share * (CELL_WIDTH - 8)
            canvas.rect(
                offset, top + 4 + row * height, bar, height - 1, fill=OP_COLOURS[op], stroke="#777777", radius=1
            )
            offset += bar
