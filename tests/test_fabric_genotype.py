"""Fabric genotypes: the triangle, what validation refuses, round trips."""

import json
from pathlib import Path
from typing import Any

import pytest

from autopose.errors import GenotypeError
from autopose.fabric_genotype import FabricGenotype, cell_places, edge_source, full_parts, without_unused
from autopose.genotype import Genotype
from autopose.skeleton import COCO17, MPII16

#: Table of the published figure: part -> cells (layer, level) and their edges; b below, a above, p parallel.
PUBLISHED = {
    "head_shoulder": {(1, 0): "b", (1, 1): "ab", (1, 2): "apb", (2, 1): "apb", (3, 0): "b"},
    "left_arm": {(1, 1): "ab", (1, 2): "ab", (2, 1): "pb", (3, 0): "b"},
    "right_arm": {(1, 0): "p", (1, 1): "a", (1, 2): "apb", (2, 1): "apb", (3, 0): "b"},
    "hips": {(1, 1): "pb", (1, 2): "ab", (2, 1): "pb", (3, 0): "b"},
    "legs": {(1, 0): "b", (1, 1): "b", (1, 2): "ab", (2, 1): "apb", (3, 0): "b"},
}


def _load(name: str) -> FabricGenotype:
    genotype = Genotype.load(name)
    assert isinstance(genotype, FabricGenotype)
    return genotype


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_refuses_weights_that_are_no_numbers(tmp_path: Path, value: str) -> None:
    """Such a part would give maps of nothing, decoded to the corner of the crop."""
    content = json.loads(_load("fabric-tiny").to_json())
    cell = content["parts"][0]["cells"][0]
    cell["beta"] = [float(value)] + [0.0] * (len(cell["edges"]) - 1)
    (tmp_path / "none.json").write_text(json.dumps(content))
    with pytest.raises(GenotypeError, match=r"parts\.0\.cells\.0\.beta.*finite number"):
        Genotype.load(tmp_path / "none.json")


def test_published_fabric_is_a_triangle_of_six_cells() -> None:
    assert cell_places(3) == ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0))


@pytest.mark.parametrize(
    ("place", "edge", "source"),
    [
        ((1, 0), "below", (0, 1)),
        ((1, 2), "below", (0, 3)),  # the coarsest map of the pyramid
        ((2, 1), "above", (1, 0)),
        ((2, 1), "below", (1, 2)),
        ((1, 0), "above", (0, 0)),  # no finer level: the parallel input stands in
        ((3, 0), "above", (2, 0)),
    ],
)
def test_edges_come_from_the_layer_before(place: tuple[int, int], edge: str, source: tuple[int, int]) -> None:
    assert edge_source(*place, edge) == source


def test_deep_fabrics_never_leave_four_levels() -> None:
    places = cell_places(6)
    assert max(level for _, level in places) == 3
    assert edge_source(2, 3, "below") == (1, 3)  # nothing coarser: the parallel input


@pytest.mark.parametrize("name", ["pnfs-hrnet-cnf5-pruned", "pnfs-hrnet-cnf5-slim"])
def test_pruned_preset_is_the_published_topology(name: str) -> None:
    found = {
        part.name: {(cell.layer, cell.level): {edge[0] for edge in cell.edges} for cell in part.cells}
        for part in _load(name).parts
    }
    assert found == {part: {place: set(edges) for place, edges in cells.items()} for part, cells in PUBLISHED.items()}
    for part in _load(name).parts:
        assert {cell.ops for cell in part.cells} == {(("sep3",) if part.name == "hips" else ("atr3", "sep3"),)}


@pytest.mark.parametrize("skeleton", [COCO17, MPII16], ids=lambda skeleton: str(skeleton.name))
@pytest.mark.parametrize("parts", [1, 3, 5, 8])
def test_every_joint_is_in_a_part(skeleton: Any, parts: int) -> None:
    groups = skeleton.parts[parts]
    assert len(groups) == parts
    joints = [joint for group in groups.values() for joint in group]
    assert set(joints) == set(skeleton.joints)
    assert (len(joints) == len(skeleton)) == (parts < 8)  # only eight parts share joints


def test_roundtrip_json(tmp_path: Path) -> None:
    genotype = _load("pnfs-hrnet-cnf5-pruned")
    genotype.save(tmp_path / "g.json")
    again = Genotype.load(tmp_path / "g.json")
    assert again == genotype
    assert again.fingerprint() == genotype.fingerprint() != _load("pnfs-hrnet-cnf5-slim").fingerprint()


def test_unused_cells_are_removed_to_the_last() -> None:
    (part,) = full_parts("coco17", 1)
    only_below = tuple(cell.model_copy(update={"edges": ("below",)}) for cell in part.cells)
    kept = without_unused(part.model_copy(update={"cells": only_below}), 3)
    assert [(cell.layer, cell.level) for cell in kept.cells] == [(1, 2), (2, 1), (3, 0)]


def _refuse(change: dict[str, Any], match: str) -> None:
    content = json.loads(_load("fabric-tiny").to_json()) | change
    with pytest.raises(GenotypeError, match=match):
        Genotype.from_dict(content)


def test_refuses_impossible_fabrics() -> None:
    content = json.loads(_load("fabric-tiny").to_json())
    _refuse({"skeleton": "coco"}, "skeleton 'coco' is unknown")
    _refuse({"parts": content["parts"][:2]}, "none of the groups")
    _refuse({"backbone": {"network": "autopose"}}, "belong together")
    _refuse({"backbone": {"network": "vgg"}}, "backbone.network")
    _refuse({"op_set": "mobilenet"}, "zero is not of op_set 'mobilenet'")
    _refuse({"hidden_states": 2}, "2 nodes need 3")

    def first_part(**change: Any) -> dict[str, Any]:
        return {"parts": [content["parts"][0] | change, *content["parts"][1:]]}

    cells = content["parts"][0]["cells"]
    _refuse(first_part(cells=cells[:-1]), "cell of the result")
    _refuse(first_part(cells=cells[1:]), "which is not kept")
    _refuse(first_part(cells=[*cells, cells[0]]), "repeat")
    _refuse(first_part(cells=[cells[0] | {"edges": ["below", "above"]}, *cells[1:]]), "in the order")
    _refuse(first_part(cells=[cells[0] | {"beta": [0.0]}, *cells[1:]]), "1 logits for 3 edges")
    _refuse(first_part(cells=[cells[0] | {"ops": [["skip"]]}, *cells[1:]]), "shared_alpha")
    _refuse(first_part(cells=[cells[0] | {"ops": [["skip", "skip"]]}, *cells[1:]]), "repeat an operation")
    _refuse(first_part(cells=[cells[0] | {"alpha": [[0.0]]}, *cells[1:]]), "one logit per kept operation")


def test_size_of_the_space_by_hand() -> None:
    # Per part: 7 non-empty subsets of three edges in each of six cells, 15 of four operations for the shared alpha.
    assert _load("pnfs-hrnet-cnf5").search_space_size() == (7**6 * 15) ** 5


def test_refuses_parts_that_a_skeleton_has_not() -> None:
    with pytest.raises(GenotypeError, match="no grouping into 4 body parts"):
        full_parts("coco17", 4)
    with pytest.raises(GenotypeError, match="Skeleton 'hand21' has no grouping"):
        full_parts("hand21", 3)


def test_presets_name_the_size_of_their_published_figures() -> None:
    genotype = _load("pnfs-hrnet-cnf5-mpii")
    assert genotype.input_size_wh == (256, 256)
    assert genotype.joints == 16
    assert "16.4 M" in genotype.published
    assert _load("fabric-tiny").input_size_wh is None
