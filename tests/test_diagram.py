"""Drawings hold what the genotype holds, as well-formed SVG."""

import xml.etree.ElementTree as ET

import pytest

from autopose.diagram import branch_graph_svg, network_svg
from autopose.fabric_genotype import FabricGenotype
from autopose.genotype import AutoPoseGenotype, Genotype, presets

SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_drawn_inside_its_frame(name: str) -> None:
    root = ET.fromstring(network_svg(Genotype.load(name)))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    points = [
        (float(x), float(y))
        for line in root.iter(f"{SVG}polyline")
        for x, y in (point.split(",") for point in line.attrib["points"].split())
    ]
    assert points
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert any(name in text for text in _texts(network_svg(Genotype.load(name))))


def test_branch_graph_shows_the_processed_branches_only() -> None:
    genotype = Genotype.load("reference")
    assert isinstance(genotype, AutoPoseGenotype)
    texts = _texts(branch_graph_svg(genotype))
    processed = sum(map(sum, genotype.scales)) * genotype.modules_per_stage
    assert texts.count("I") == 2 * processed
    assert texts.count("M") == processed
    # Every processed branch aggregates all four streams.
    arrows = [
        line for line in ET.fromstring(branch_graph_svg(genotype)).iter(f"{SVG}polyline") if "marker-end" in line.attrib
    ]
    assert len(arrows) == 4 * processed


def test_branch_graph_of_the_ablation_without_aggregation_cells() -> None:
    content = Genotype.load("reference").model_dump() | {"fusion": "concat"}
    texts = _texts(network_svg(Genotype.from_dict(content)))
    assert "M" not in texts
    assert "aggregation" not in texts


def test_fabric_shows_every_kept_edge_and_cell() -> None:
    genotype = Genotype.load("pnfs-hrnet-cnf5-pruned")
    assert isinstance(genotype, FabricGenotype)
    svg = network_svg(genotype)
    arrows = [line for line in ET.fromstring(svg).iter(f"{SVG}polyline") if "marker-end" in line.attrib]
    edges = sum(len(cell.edges) for part in genotype.parts for cell in part.cells)
    assert len(arrows) == edges + len(genotype.parts) + 1  # each part's result, and the legend's
    assert sum("of 6 cells" in text for text in _texts(svg)) == 5
