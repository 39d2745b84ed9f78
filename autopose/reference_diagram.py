"""Drawing of the reference networks: HRNet's branches and exchanges, SimpleBaseline's chain."""

from autopose.console import counted
from autopose.reference_genotype import ReferenceGenotype
from autopose.svg import INK, LEVEL_COLOURS, Canvas

TOP, ROW = 116.0, 62.0
#: (branches, modules) of HRNet's stages.
HRNET_STAGES = ((1, 1), (2, 1), (3, 4), (4, 3))


def reference_svg(genotype: ReferenceGenotype) -> str:
    """Draw a reference network."""
    return _hrnet_svg(genotype) if genotype.network == "hrnet" else _simplebaseline_svg(genotype)


def _box(canvas: Canvas, x: float, y: float, width: float, lines: list[str], fill: str = "#ffffff") -> None:
    height = 14.0 * len(lines) + 14
    canvas.rect(x, y - height / 2, width, height, fill=fill, stroke=INK)
    for position, line in enumerate(lines):
        offset = (position - (len(lines) - 1) / 2) * 14 + 4
        canvas.text(x + width / 2, y + offset, line, anchor="middle", size=11)


def _hrnet_svg(genotype: ReferenceGenotype) -> str:
    canvas = Canvas(1010, TOP + 4 * ROW, f"HRNet-W{genotype.width}")
    canvas.text(20, 30, f"{genotype.name}: HRNet-W{genotype.width}", size=18, bold=True)
    canvas.text(20, 50, "Each block: four residual units; crossing arrows: exchange of all branches, once per module")
    _box(canvas, 20, TOP, 74, ["two 3×3", "stride 2, 64"])
    step, width = 190.0, 118.0
    for stage, (branches, modules) in enumerate(HRNET_STAGES):
        x = 130 + stage * step
        canvas.text(
            x + width / 2,
            TOP - 30,
            f"Stage {stage + 1} · {counted(modules, 'module')}",
            anchor="middle",
            bold=True,
        )
        for branch in range(branches):
            y, colour = TOP + branch * ROW, LEVEL_COLOURS[branch]
            channels = 256 if stage == 0 else genotype.width * 2**branch
            for source in range(max(branches - 1, 1)):
                start = (94.0 if stage == 0 else x - step + width, TOP + source * ROW)
                canvas.line(
                    [start, (x, y)], colour=LEVEL_COLOURS[source], width=2 if source == branch else 1, arrow=True
                )
            title = ["4 bottlenecks", "256"] if stage == 0 else [f"1/{4 * 2**branch}", f"{channels} ch"]
            _box(canvas, x, y, width, title, fill=f"{colour}30")
    x = 130 + 3 * step + width
    for source in range(4):
        canvas.line([(x, TOP + source * ROW), (x + 40, TOP)], colour=LEVEL_COLOURS[source], width=1.5, arrow=True)
    _box(canvas, x + 40, TOP, 100, ["1×1 conv", "heatmaps at 1/4"])
    return canvas.to_svg()


def _simplebaseline_svg(genotype: ReferenceGenotype) -> str:
    canvas = Canvas(1120, 190, f"SimpleBaseline, ResNet-{genotype.depth}")
    canvas.text(20, 30, f"{genotype.name}: ResNet-{genotype.depth} and three deconvolutions", size=18, bold=True)
    width = genotype.width
    boxes = [(["7×7 conv, pool", f"1/4 · {width} ch"], "#ffffff")]
    for layer in range(4):
        title = [f"layer {layer + 1}", f"1/{4 * 2**layer} · {4 * width * 2**layer} ch"]
        boxes.append((title, f"{LEVEL_COLOURS[layer]}30"))
    for level in (2, 1, 0):
        boxes.append((["deconv 4×4", f"1/{4 * 2**level} · {4 * width} ch"], f"{LEVEL_COLOURS[level]}30"))
    boxes.append((["1×1 conv", "heatmaps"], "#ffffff"))
    for position, (title, fill) in enumerate(boxes):
        x = 20 + position * 121.0
        if position:
            canvas.line([(x - 17, 100), (x, 100)], arrow=True)
        _box(canvas, x, 100, 104, title, fill=fill)
    return canvas.to_svg()
