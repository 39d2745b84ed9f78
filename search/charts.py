"""The drawings of a search's report: curves over epochs, and each edge's probabilities over time."""

from collections.abc import Mapping, Sequence

from autopose.svg import FAINT, INK, OP_COLOURS, Canvas

#: Colours for operations and lines that have none of their own.
PALETTE = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")


def line_chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return an SVG of named lines of (epoch, value); lines without points are left out."""
    lines = {name: points for name, points in lines.items() if points}
    width, height = 420, 220
    canvas = Canvas(width, height, title)
    canvas.text(12, 18, title, size=13, bold=True)
    if not lines:
        canvas.text(12, 44, "not recorded in this run", colour=FAINT)
        return canvas.to_svg()
    left, right, top, bottom = 58.0, width - 14, 34.0, height - 44
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    low, high = min(*ys, 0.0), max(ys)  # from zero: a small change must look small
    high = high if high > low else low + 1.0
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - first) / (last - first) * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    for k in range(5):
        value = low + (high - low) * k / 4
        _, y = place(first, value)
        canvas.line([(left, y), (right, y)], colour="#e4e4e4", width=1)
        canvas.text(left - 6, y + 4, f"{value:.3g}", size=10, anchor="end")
    for x in sorted({first, (first + last) // 2, last}):
        canvas.text(place(x, low)[0], bottom + 14, f"{x:.0f}", size=10, anchor="middle")
    canvas.line([(left, top), (left, bottom), (right, bottom)], colour=INK, width=1)
    for position, (name, points) in enumerate(lines.items()):
        colour = PALETTE[position % len(PALETTE)]
        placed = [place(x, y) for x, y in points]
        canvas.line(placed, colour=colour, width=2)
        for x, y in placed if len(placed) <= 12 else placed[-1:]:
            canvas.circle(x, y, 2.5, fill=colour)
        canvas.line([(left + position * 118, height - 12), (left + position * 118 + 16, height - 12)], colour=colour)
        canvas.text(left + position * 118 + 20, height - 8, name, size=11)
    return canvas.to_svg()


def probability_chart(name: str, history: Sequence[Sequence[Sequence[float]]], choices: Sequence[str]) -> str:
    """Return an SVG with one small stacked area per edge of a table.

    Args:
        name: of the table.
        history: ``(epochs, rows, choices)`` probabilities.
        choices: names of the operations.
    """
    rows, columns = len(history[0]), 5
    cell_w, cell_h, gap = 128.0, 52.0, 14.0
    lines = (rows + columns - 1) // columns
    canvas = Canvas(columns * (cell_w + gap) + gap, lines * (cell_h + 30) + 34, name)
    canvas.text(gap, 20, name, size=13, bold=True)
    for row in range(rows):
        line, column = divmod(row, columns)
        left, top = gap + column * (cell_w + gap), 34 + line * (cell_h + 30)
        bar = cell_w / len(history)
        # One shape per operation, from the top down to its last share, the later ones' below: a rectangle per epoch
        # and operation would make a report of the paper's recipe 3 MB.
        for last in range(len(choices) - 1, -1, -1):
            colour = OP_COLOURS.get(choices[last], PALETTE[last % len(PALETTE)])
            depths = [top + sum(table[row][: last + 1]) * cell_h for table in history]
            canvas.steps(left, top, bar, depths, fill=colour)
        canvas.rect(left, top, cell_w, cell_h, stroke=INK, radius=0)
        final = history[-1][row]
        best = max(range(len(final)), key=lambda k: final[k])
        canvas.text(left, top + cell_h + 13, f"{row}: {choices[best]} {final[best]:.2f}", size=11)
    return canvas.to_svg()


def op_legend(choices: Sequence[str]) -> str:
    """Return an SVG with the colours of a table's choices."""
    canvas = Canvas(720, 30, "operations")
    for position, op in enumerate(choices):
        colour = OP_COLOURS.get(op, PALETTE[position % len(PALETTE)])
        canvas.rect(14 + position * 88, 8, 14, 14, fill=colour, stroke=INK, radius=2)
        canvas.text(32 + position * 88, 20, op, size=11)
    return canvas.to_svg()
