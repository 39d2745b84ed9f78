"""Genotypes of kind ``fabric``: pose networks of the PNFS space (Pose Neural Fabrics Search).

A backbone gives a pyramid of feature maps; every body part has a fabric of cells over it. Cell (layer, level) reads
three edges of the layer before: ``parallel`` (its own level), ``above`` (the finer one) and ``below`` (the coarser
one), weighted by beta; inside, mixed edges weigh candidate operations by alpha. What a search or pruning removed is
simply not listed. Nothing here needs torch.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autopose.errors import GenotypeError
from autopose.genotype import AutoPoseGenotype, Genotype, Positive
from autopose.skeleton import SKELETONS

#: Edges of a cell in the order of beta.
EDGES = ("parallel", "above", "below")
Edge = Literal["parallel", "above", "below"]
FabricOp = Literal["zero", "skip", "sep3", "sep5", "atr3", "atr5", "avgpool3", "maxpool3"]

#: Published candidate sets, in the order of alpha.
FABRIC_OP_SETS: Mapping[str, tuple[FabricOp, ...]] = {
    "hrnet": ("zero", "skip", "atr3", "sep3"),
    "mobilenet": ("skip", "sep3", "atr3"),
    "pool": ("skip", "sep3", "atr3", "maxpool3"),
    "all": ("zero", "skip", "sep3", "sep5", "atr3", "atr5", "avgpool3", "maxpool3"),
}
LEVELS = 4
#: Channels of a cell at 1/4, 1/8, 1/16, 1/32: factor 16 of the paper's widths 4, 8, 16, 32.
CHANNELS = (64, 128, 256, 512)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Backbone(_Record):
    """What gives the pyramid.

    Attributes:
        network: ``hrnet`` (stem to the transition before stage 4), ``resnet50``, ``mobilenetv2``, ``autopose`` (a
            searched network without its head), ``stem`` (convolutions of stride 2 only) or ``fabric`` (the fabric's
            own stem and growing layers of shared cells).
        width: of HRNet's finest branch, ResNet's or the stem's first; 0 = as published (32 for HRNet, 64 otherwise).
            The other networks have widths of their own.
        autopose: the genotype of network ``autopose``.
    """

    network: Literal["hrnet", "resnet50", "mobilenetv2", "autopose", "stem", "fabric"]
    width: Annotated[int, Field(ge=0, le=8192)] = 0
    autopose: AutoPoseGenotype | None = None

    @model_validator(mode="after")
    def _width_where_it_counts(self) -> Self:
        if self.width and self.network in ("mobilenetv2", "autopose"):
            raise ValueError(
                f"backbone {self.network!r} has widths of its own; set its width to 0 instead of {self.width}"
            )
        return self

    @model_validator(mode="after")
    def _autopose_where_named(self) -> Self:
        if (self.network == "autopose") != (self.autopose is not None):
            raise ValueError(f"network {self.network!r} with autopose = {self.autopose!r}; they belong together")
        return self


class FabricCell(_Record):
    """One cell and what is kept of it.

    Attributes:
        layer: 1 = the first after the pyramid.
        level: 0 = 1/4 of the image, 1 = 1/8, ...
        edges: kept inputs, in the order of ``EDGES``. A neighbour that the layer before never had is replaced by the
            parallel input, as published.
        ops: kept operations of each mixed edge; node i has edges from the cell's input and the nodes before it.
        beta: logits of the kept edges; None = all zero.
        alpha: logits of the kept operations; None = all zero.
    """

    layer: Positive
    level: Annotated[int, Field(ge=0)]
    edges: Annotated[tuple[Edge, ...], Field(min_length=1)]
    ops: Annotated[tuple[Annotated[tuple[FabricOp, ...], Field(min_length=1)], ...], Field(min_length=1)]
    beta: tuple[float, ...] | None = None
    alpha: tuple[tuple[float, ...], ...] | None = None

    @model_validator(mode="after")
    def _logits_fit(self) -> Self:
        if self.edges != tuple(edge for edge in EDGES if edge in self.edges):
            raise ValueError(f"edges {self.edges} must be distinct and in the order {EDGES}")
        if any(len(set(ops)) != len(ops) for ops in self.ops):
            raise ValueError(f"ops {self.ops} repeat an operation on one edge")
        if self.beta is not None and len(self.beta) != len(self.edges):
            raise ValueError(f"beta has {len(self.beta)} logits for {len(self.edges)} edges")
        if self.alpha is not None and [len(row) for row in self.alpha] != [len(row) for row in self.ops]:
            raise ValueError("alpha must have one logit per kept operation of every mixed edge")
        return self


class FabricPart(_Record):
    """The fabric of one body part; ``name`` is a part of the skeleton."""

    name: str
    cells: Annotated[tuple[FabricCell, ...], Field(min_length=1)]

    def cell(self, layer: int, level: int) -> FabricCell | None:
        """Return the cell at a place, or None where there is none."""
        return next((cell for cell in self.cells if (cell.layer, cell.level) == (layer, level)), None)


class FabricGenotype(Genotype):
    """A network of the PNFS space.

    Attributes:
        backbone: what gives the pyramid.
        op_set: candidate set; its size scales the mix (``n * softmax(alpha)``), also after pruning.
        skeleton: name of the skeleton whose body parts are meant.
        parts: one fabric per part, in the skeleton's order.
        depth: layers of cells after the pyramid: layer i has ``depth - i + 1`` cells at most (published: depth 6 with
            the first 3 layers replaced by the pyramid = 3 here: cells 3 + 2 + 1).
        channels: of the cells at each level.
        hidden_states: nodes in a cell (1 as published).
        shared_alpha: one alpha for all cells of a part (the published ``one-shot-search``).
        weights: ``learned`` = alpha and beta are trained with the weights; ``fixed`` = they stay as written.
        idle_connections: also compute the connections of kept cells that have no weight, as the published pruning does,
            which removes cells and operations only. The maps are the same; the cost is what was published.
        vector: dimension D of a keypoint's vector, heatmap = ||v||^2 / (1 + ||v||^2); 1 = scalar maps.
    """

    kind: Literal["fabric"] = "fabric"
    backbone: Backbone
    op_set: Literal["hrnet", "mobilenet", "pool", "all"] = "hrnet"
    skeleton: str = "coco17"
    depth: Annotated[int, Field(ge=1, le=16)] = 3
    channels: Annotated[tuple[Positive, ...], Field(min_length=LEVELS, max_length=LEVELS)] = CHANNELS
    hidden_states: Annotated[int, Field(ge=1, le=16)] = 1
    shared_alpha: bool = True
    weights: Literal["learned", "fixed"] = "learned"
    idle_connections: bool = False
    vector: Positive = 8
    parts: Annotated[tuple[FabricPart, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _describes_a_fabric(self) -> Self:
        if self.skeleton not in SKELETONS:
            raise ValueError(f"skeleton {self.skeleton!r} is unknown ({', '.join(SKELETONS)})")
        groups = SKELETONS[self.skeleton].parts
        names = tuple(part.name for part in self.parts)
        if names not in [tuple(group) for group in groups.values()]:
            counts = ", ".join(map(str, groups))
            raise ValueError(f"parts {names} are none of the groups of {self.skeleton} (P = {counts})")
        for part in self.parts:
            self._check_part(part)
        return self

    def _check_part(self, part: FabricPart) -> None:
        where = f"part {part.name!r}"
        places = [(cell.layer, cell.level) for cell in part.cells]
        if len(set(places)) != len(places) or not set(places) <= set(cell_places(self.depth)):
            raise ValueError(f"{where}: cells {places} repeat or lie outside a fabric of depth {self.depth}")
        if (self.depth, 0) not in places:
            raise ValueError(f"{where}: the cell of the result (layer {self.depth}, level 0) is missing")
        mixed = self.hidden_states * (self.hidden_states + 1) // 2
        for cell in part.cells:
            place = f"{where}, cell ({cell.layer}, {cell.level})"
            if len(cell.ops) != mixed:
                raise ValueError(f"{place}: {len(cell.ops)} mixed edges; {self.hidden_states} nodes need {mixed}")
            strange = {op for row in cell.ops for op in row} - set(FABRIC_OP_SETS[self.op_set])
            if strange:
                raise ValueError(f"{place}: {', '.join(sorted(strange))} is not of op_set {self.op_set!r}")
            for edge in cell.edges:
                source = edge_source(cell.layer, cell.level, edge)
                if source[0] > 0 and source not in places:
                    raise ValueError(f"{place}: edge {edge!r} comes from cell {source}, which is not kept")
            if self.shared_alpha and (cell.ops, cell.alpha) != (part.cells[0].ops, part.cells[0].alpha):
                raise ValueError(f"{place}: ops or alpha differ from the part's first cell; shared_alpha forbids that")

    @property
    def joints(self) -> int:
        """Return the number of heatmaps."""
        return len(SKELETONS[self.skeleton])

    def joints_of(self, part: str) -> tuple[str, ...]:
        """Return the names of a part's keypoints."""
        return SKELETONS[self.skeleton].parts[len(self.parts)][part]

    def to_json(self) -> str:
        """Return readable JSON: one line per cell."""
        text = super().to_json()
        content = self.model_dump(mode="json")
        parts = []
        for part in content["parts"]:
            cells = ",\n".join(f"      {json.dumps(_brief(cell))}" for cell in part["cells"])
            parts.append(f'    {{"name": "{part["name"]}", "cells": [\n{cells}\n    ]}}')
        flat = f'"parts": {json.dumps(content["parts"])}'
        assert flat in text
        return text.replace(flat, '"parts": [\n' + ",\n".join(parts) + "\n  ]")

    def search_space_size(self) -> int:
        """Return the number of topologies: a non-empty set of edges per cell and of operations per alpha."""
        places = len(cell_places(self.depth))
        mixed = self.hidden_states * (self.hidden_states + 1) // 2
        alphas = mixed * (1 if self.shared_alpha else places)
        ops = 2 ** len(FABRIC_OP_SETS[self.op_set]) - 1
        return int(((2 ** len(EDGES) - 1) ** places * ops**alphas) ** len(self.parts))


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without the fields that are None, which is their default."""
    return {key: value for key, value in record.items() if value is not None}


def cell_places(depth: int) -> tuple[tuple[int, int], ...]:
    """Return (layer, level) of all cells of a fabric: a triangle that ends in one cell at 1/4."""
    return tuple((layer, level) for layer in range(1, depth + 1) for level in range(min(LEVELS, depth - layer + 1)))


def edge_source(layer: int, level: int, edge: Edge | str) -> tuple[int, int]:
    """Return (layer, level) that an edge comes from; layer 0 is the pyramid.

    A neighbour beyond the finest or the coarsest level is replaced by the parallel one.
    """
    source = level + {"parallel": 0, "above": -1, "below": 1}[edge]
    return (layer - 1, source if 0 <= source < LEVELS else level)


def full_parts(
    skeleton: str, parts: int, *, op_set: str = "hrnet", depth: int = 3, hidden_states: int = 1
) -> tuple[FabricPart, ...]:
    """Return unpruned fabrics for the ``parts`` body parts of a skeleton: every cell, edge and operation.

    Raises:
        GenotypeError: the skeleton is unknown or has no such parts.
    """
    groups = SKELETONS[skeleton].parts if skeleton in SKELETONS else {}
    if parts not in groups:
        known = ", ".join(name for name, other in SKELETONS.items() if other.parts)
        raise GenotypeError(
            f"Skeleton {skeleton!r} has no grouping into {parts} body parts; expected 1, 3, 5 or 8 of {known}."
        )
    mixed = hidden_states * (hidden_states + 1) // 2
    ops = (FABRIC_OP_SETS[op_set],) * mixed
    cells = tuple(FabricCell(layer=layer, level=level, edges=EDGES, ops=ops) for layer, level in cell_places(depth))
    return tuple(FabricPart(name=name, cells=cells) for name in groups[parts])


def without_unused(part: FabricPart, depth: int) -> FabricPart:
    """Return the part without the cells whose result no kept edge reads (repeated until none is left)."""
    cells = part.cells
    while True:
        read = {edge_source(cell.layer, cell.level, edge) for cell in cells for edge in cell.edges} | {(depth, 0)}
        kept = tuple(cell for cell in cells if (cell.layer, cell.level) in read)
        if len(kept) == len(cells):
            return FabricPart(name=part.name, cells=cells)
        cells = kept
