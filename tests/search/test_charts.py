"""The drawings of a search's report: everything lies where the axes say."""

import re
import xml.etree.ElementTree as ET

import pytest

from autopose.search.charts import PALETTE, line_chart, op_legend, probability_chart
from autopose.svg import OP_COLOURS

Point = tuple[float, float]


def _shapes(svg: str, kind: str) -> list[dict[str, str]]:
    return [dict(shape.attrib) for shape in ET.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{kind}")]


def _texts(svg: str, anchor: str) -> dict[str, Point]:
    found = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return {
        str(text.text): (float(text.get("x", 0)), float(text.get("y", 0)))
        for text in found
        if text.get("text-anchor") == anchor
    }


def _discs(svg: str) -> list[tuple[str, Point]]:
    return [(disc["fill"], (float(disc["cx"]), float(disc["cy"]))) for disc in _shapes(svg, "circle")]


def test_points_lie_where_the_axes_say() -> None:
    svg = line_chart("AP", {"a": [(1, 0.5), (2, 1.0), (3, 2.0)], "none": [], "b": [(3, 1.5)]})
    across, up = _texts(svg, "middle"), _texts(svg, "end")
    assert list(across) == ["1", "2", "3"]
    assert list(up) == ["0", "0.5", "1", "1.5", "2"]  # from zero: a small change must look small
    assert up["0"][1] > up["2"][1]
    assert across["1"][0] < across["3"][0]
    expected = [(0, "1", "0.5"), (0, "2", "1"), (0, "3", "2"), (1, "3", "1.5")]
    for (colour, (x, y)), (line, epoch, value) in zip(_discs(svg), expected, strict=True):
        assert colour == PALETTE[line]
        assert (x, y + 4) == pytest.approx((across[epoch][0], up[value][1]), abs=0.11)
    assert {"a", "b"} <= _texts(svg, "start").keys()
    assert "none" not in _texts(svg, "start")


def test_lines_of_any_values_can_be_drawn() -> None:
    assert "not recorded in this run" in line_chart("AP", {"AP": []})
    assert list(_texts(line_chart("x", {"a": [(1, 0.0)]}), "end")) == ["0", "0.25", "0.5", "0.75", "1"]
    assert list(_texts(line_chart("x", {"a": [(1, -1.0), (2, 3.0)]}), "end")) == ["-1", "0", "1", "2", "3"]
    many = line_chart("x", {"a": [(epoch, 1.0) for epoch in range(1, 14)]})
    assert [x for _, (x, _) in _discs(many)] == [_texts(many, "middle")["13"][0]]  # of many points the last


def test_shares_are_stacked_over_time_edge_by_edge() -> None:
    choices = ("conv3", "skip", "other")
    history = [[[0.5, 0.25, 0.25]] * 6, [[0.125, 0.625, 0.25]] * 6]
    svg = probability_chart("cells", history, choices)
    labels = {text: place for text, place in _texts(svg, "start").items() if text != "cells"}
    assert list(labels) == [f"{edge}: skip 0.62" for edge in range(6)]
    frames = _shapes(svg, "rect")[1:]  # after the paper
    areas = _shapes(svg, "path")
    assert [(float(box["x"]), float(box["y"]) + 52 + 13) for box in frames] == list(labels.values())
    assert float(frames[5]["y"]) > float(frames[4]["y"]) == float(frames[0]["y"])  # five in a row
    for edge, frame in enumerate(frames):
        left, top, width, height = (float(frame[key]) for key in ("x", "y", "width", "height"))
        for op, share in enumerate(((0.5, 0.125), (0.75, 0.75), (1.0, 1.0))):  # with those of the operations before
            area = areas[3 * edge + 2 - op]  # the deepest first
            assert area["fill"] == OP_COLOURS.get(choices[op], PALETTE[2])
            assert [float(number) for number in re.findall(r"[\d.]+", area["d"])] == pytest.approx(
                [left, top, top + share[0] * height, left + width / 2, top + share[1] * height, left + width, top],
                abs=0.06,
            )
    long = probability_chart("cells", history * 25, choices)
    assert len(long) < 40_000  # 50 epochs of 6 edges: an element of each share would be 90 kB
    legend = op_legend(choices)
    assert list(_texts(legend, "start")) == list(choices)
    assert [box["fill"] for box in _shapes(legend, "rect")[1:]] == [OP_COLOURS["conv3"], OP_COLOURS["skip"], PALETTE[2]]
