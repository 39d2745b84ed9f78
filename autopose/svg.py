"""A minimal SVG canvas: rectangles, lines, arrows, circles, text. Coordinates are pixels, y down."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

FONT = "Helvetica, Arial, sans-serif"
INK, FAINT, PAPER = "#222222", "#bbbbbb", "#ffffff"

#: Colours of operations in both spaces: blues convolve, greens and violets are separable, oranges pool, grey passes.
OP_COLOURS: Mapping[str, str] = {
    "conv1": "#9ecae1",
    "conv3": "#4292c6",
    "conv5": "#08519c",
    "dwsep3": "#a1d99b",
    "dwsep5": "#31a354",
    "sep3": "#74c476",
    "sep5": "#238b45",
    "atr3": "#9e9ac8",
    "atr5": "#6a51a3",
    "avgpool3": "#fdd0a2",
    "maxpool3": "#fd8d3c",
    "skip": "#d0d0d0",
    "zero": "#ffffff",
}
OP_TITLES: Mapping[str, str] = {
    "conv1": "1×1 conv",
    "conv3": "3×3 conv",
    "conv5": "5×5 conv",
    "dwsep3": "3×3 depthwise separable",
    "dwsep5": "5×5 depthwise separable",
    "sep3": "3×3 separable",
    "sep5": "5×5 separable",
    "atr3": "3×3 atrous separable",
    "atr5": "5×5 atrous separable",
    "avgpool3": "3×3 average pool",
    "maxpool3": "3×3 max pool",
    "skip": "skip",
    "zero": "none",
}
#: Colours of the branches at 1/4, 1/8, 1/16, 1/32.
LEVEL_COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a")


class Canvas:
    """Shapes in the order they are drawn."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._shapes: list[str] = []
        self._markers: dict[str, str] = {}

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        stroke: str = "none",
        radius: float = 4,
        dash: str = "",
    ) -> None:
        """Draw a rounded rectangle by its top left corner."""
        self._shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}" fill="{fill}" '
            f'stroke="{stroke}"{_dash(dash)}/>'
        )

    def steps(self, x: float, y: float, width: float, depths: Sequence[float], *, fill: str) -> None:
        """Fill from the level ``y`` down to one depth after the other, each ``width`` wide, from ``x`` to the right."""
        path = "".join(f"V{depth:.1f}H{x + (position + 1) * width:.1f}" for position, depth in enumerate(depths))
        self._shapes.append(f'<path d="M{x:.1f},{y:.1f}{path}V{y:.1f}z" fill="{fill}"/>')

    def circle(self, x: float, y: float, radius: float, *, fill: str, stroke: str = "none") -> None:
        """Draw a disc by its centre."""
        self._shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{stroke}"/>')

    def line(
        self,
        points: list[tuple[float, float]],
        *,
        colour: str = INK,
        width: float = 1.5,
        arrow: bool = False,
        dash: str = "",
        opacity: float = 1.0,
    ) -> None:
        """Draw a polyline, with an arrow head at its end if asked."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        head = f' marker-end="url(#{self._marker(colour)})"' if arrow else ""
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"'
            f"{_dash(dash)}{head}/>"
        )

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        size: float = 12,
        anchor: str = "start",
        colour: str = INK,
        bold: bool = False,
    ) -> None:
        """Write text at its baseline; ``anchor`` is ``start``, ``middle`` or ``end``."""
        weight = ' font-weight="bold"' if bold else ""
        self._shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>'
            f"{escape(content)}</text>"
        )

    def op_legend(self, x: float, y: float, ops: list[str]) -> float:
        """Draw colour chips with the operations' names, six in a row; return the height taken."""
        for position, op in enumerate(ops):
            row, column = divmod(position, 6)
            left, base = x + column * 178.0, y + row * 22.0
            self.rect(left, base - 11, 14, 14, fill=OP_COLOURS[op], stroke=INK, radius=2)
            self.text(left + 20, base, OP_TITLES[op])
        return 22.0 * ((len(ops) + 5) // 6)

    def _marker(self, colour: str) -> str:
        name = f"head{colour.lstrip('#')}"
        self._markers[name] = (
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{colour}"/></marker>'
        )
        return name

    def to_svg(self) -> str:
        """Return the whole document."""
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}">',
            f"<title>{escape(self.title)}</title>",
            f"<defs>{''.join(self._markers.values())}</defs>",
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            *self._shapes,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def _dash(pattern: str) -> str:
    return f' stroke-dasharray="{pattern}"' if pattern else ""
