"""The AutoPose space: cells by gradient, one vector of branch activations per stage by the controller (section 3)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from autopose.config import Config
from autopose.genotype import (
    AGGREGATION_EDGES,
    BRANCHES,
    INDIVIDUAL_EDGES,
    OP_SETS,
    STAGES,
    WIDEST,
    AutoPoseGenotype,
    Genotype,
    Positive,
    Repeats,
)
from autopose.search.latency import LatencyTable, all_units, map_sizes, unit_name, units
from autopose.search.relaxation import AlphaGradient
from autopose.search.space import Macro, SearchSpace, Supernet
from autopose.search.supernet import AutoPoseSupernet, Bits, Sharing


class AutoPoseSpaceConfig(Config):
    """What is searched over.

    Attributes:
        op_set: ``paper`` (six operations) or ``mobile`` (adds depthwise-separable 3x3 and 5x5).
        channels: widths of the supernet's branches, finest first.
        derived_multiplier: widths of the derived network = channels x this (2 in the paper).
        modules_per_stage: multi-scale modules in each stage.
        stem_channels: width of the stem, in the supernet and the derived network.
        stem_expansion: the stem's output = stem_channels x this.
        head: ``concat`` (all branches enlarged and joined) or ``sum``, see
            :class:`autopose.genotype.AutoPoseGenotype`.
        fusion: ``cells``, or ``concat`` (ablation: no aggregation cells).
        branches: scale vectors the controller may choose: ``searched`` (all 16 per stage), ``single`` (at most one
            branch: ablation), ``all`` (always four, no controller: ablation).
        token: ``vector`` (one choice among the vectors per stage) or ``bits`` (four yes/no choices per stage).
        sharing: ``branch``: a pair of cells for each branch; ``global``: one pair for all, see
            :class:`autopose.search.supernet.AutoPoseSupernet`.
        alpha_gradient: ``single`` (only the sampled operation runs), ``full`` (exact straight-through gradient) or
            ``soft`` (all are weighed), see :mod:`autopose.search.relaxation`.
        init_std: standard deviation of the initial logits.
        weights: a trained network, by name or file: only the branches are searched, with its cells and widths, and the
            shared weights begin at its own (see :class:`autopose.search.trained_space.TrainedSpace`). What this section
            says of operations, widths, stem, head, modules and cells then does not count.
    """

    op_set: Literal["paper", "mobile"] = "paper"
    channels: tuple[Positive, Positive, Positive, Positive] = (16, 32, 64, 128)
    derived_multiplier: int = Field(2, ge=1)
    modules_per_stage: Repeats = 2
    stem_channels: Positive = 64
    stem_expansion: Positive = 4
    head: Literal["concat", "sum"] = "concat"
    fusion: Literal["cells", "concat"] = "cells"
    branches: Literal["searched", "single", "all"] = "searched"
    token: Literal["vector", "bits"] = "vector"
    sharing: Sharing = "branch"
    alpha_gradient: AlphaGradient = "single"
    init_std: float = Field(1e-3, ge=0)
    weights: str | None = None

    @model_validator(mode="after")
    def _derived_network_is_of_the_space(self) -> "AutoPoseSpaceConfig":
        widest = max(self.channels) * self.derived_multiplier
        if widest > WIDEST:
            raise ValueError(f"channels x derived_multiplier gives {widest} channels; at most {WIDEST} are possible")
        return self

    @model_validator(mode="after")
    def _bits_choose_freely(self) -> "AutoPoseSpaceConfig":
        if self.token == "bits" and self.branches == "single":
            raise ValueError(
                "token = 'bits' switches every branch by itself; branches = 'single' needs token = 'vector'"
            )
        return self

    @model_validator(mode="after")
    def _something_is_searched(self) -> "AutoPoseSpaceConfig":
        if self.weights is not None and self.branches == "all":
            raise ValueError(
                "weights keeps a trained network's cells and branches = 'all' every branch: nothing is left to search"
            )
        return self


def scale_vectors(branches: Literal["searched", "single", "all"]) -> tuple[Bits, ...]:
    """Return the scale vectors that a token can stand for; the bit of the finest branch comes first."""
    vectors = tuple(itertools.product((0, 1), repeat=BRANCHES))
    if branches == "single":
        return tuple(vector for vector in vectors if sum(vector) <= 1)
    return vectors if branches == "searched" else ((1,) * BRANCHES,)


class AutoPoseSpace(SearchSpace):
    """Cells of six operations, shared by stages, and 3 x 4 branch activations."""

    name = "autopose"

    def __init__(self, config: AutoPoseSpaceConfig) -> None:
        self.config = config
        self.vectors = scale_vectors(config.branches)
        self.macro_choices = {
            "all": (),
            "single": (len(self.vectors),) * STAGES,
            "searched": (len(self.vectors),) * STAGES if config.token == "vector" else (2,) * (STAGES * BRANCHES),
        }[config.branches]

    def stage_bits(self, macro: Macro) -> tuple[Bits, ...]:
        """Return the scale vector of each stage."""
        if not self.macro_choices:
            return ((1,) * BRANCHES,) * STAGES
        if self.config.token == "bits":
            return tuple(tuple(macro[stage * BRANCHES : (stage + 1) * BRANCHES]) for stage in range(STAGES))
        return tuple(self.vectors[token] for token in macro)

    def template(self, multiplier: int, **fields: Any) -> AutoPoseGenotype:
        """Return a genotype of the space; its cells are 1x1 convolutions unless ``fields`` say otherwise."""
        config, first = self.config, OP_SETS[self.config.op_set][0]
        defaults: dict[str, Any] = {
            "individual": ((first,) * INDIVIDUAL_EDGES,) * BRANCHES,
            "aggregation": ((first,) * AGGREGATION_EDGES,) * BRANCHES,
            "scales": ((1,) * BRANCHES,) * STAGES,
        }
        return AutoPoseGenotype(
            op_set=config.op_set,
            channels=tuple(width * multiplier for width in config.channels),
            modules_per_stage=config.modules_per_stage,
            stem_channels=config.stem_channels,
            stem_expansion=config.stem_expansion,
            head=config.head,
            fusion=config.fusion,
            **(defaults | fields),
        )

    def supernet(self, joints: int) -> Supernet:
        """Return a fresh supernet at the search's widths."""
        return AutoPoseSupernet(
            self.template(1),
            joints,
            self.stage_bits,
            sharing=self.config.sharing,
            alpha_gradient=self.config.alpha_gradient,
            init_std=self.config.init_std,
        )

    def derive(self, supernet: Supernet, macro: Macro, *, name: str, provenance: Mapping[str, Any]) -> AutoPoseGenotype:
        """Return argmax cells (all predecessors kept: section 3.3) with the scale vectors of ``macro``."""
        assert isinstance(supernet, AutoPoseSupernet)
        cells: dict[str, Any] = {}
        for kind in ("individual", "aggregation"):
            names = [table for table in supernet.table_names(kind) if table in supernet.arch]
            if names:
                cells[kind] = tuple(
                    tuple(supernet.choices[table][k] for k in supernet.arch[table].argmax(-1).tolist())
                    for table in names
                )
        return self.template(
            self.config.derived_multiplier,
            scales=self.stage_bits(macro),
            name=name,
            provenance=dict(provenance),
            **cells,
        )

    def describe_macro(self, macro: Macro) -> str:
        """Return the three scale vectors, finest branch first, as in ``1010 0110 1111``."""
        return " ".join("".join(str(bit) for bit in bits) for bits in self.stage_bits(macro))

    def latency_units(self, genotype: Genotype, input_size_wh: tuple[int, int]) -> Sequence[str]:
        """Return the keys of the latency table that make up a derived network."""
        assert isinstance(genotype, AutoPoseGenotype)
        return units(genotype, input_size_wh)

    def possible_units(self, input_size_wh: tuple[int, int]) -> Sequence[str]:
        """Return every key of the latency table that a derived network may need."""
        return all_units(self.template(self.config.derived_multiplier), input_size_wh)

    def expected_latency_ms(
        self, tables: Mapping[str, Tensor], macro: Macro, table: LatencyTable, input_size_wh: tuple[int, int]
    ) -> Tensor:
        """Return the expected latency of a derived network under the softmax of the tables."""
        bits, ops, sizes = self.stage_bits(macro), OP_SETS[self.config.op_set], map_sizes(input_size_wh)
        idle = self.template(
            self.config.derived_multiplier,
            scales=bits,
            individual=(("skip",) * INDIVIDUAL_EDGES,) * BRANCHES,
            aggregation=(("skip",) * AGGREGATION_EDGES,) * BRANCHES,
        )
        total = torch.tensor(table.fitted_ms(units(idle, input_size_wh)))
        for b in range(BRANCHES):
            uses = sum(stage[b] for stage in bits) * self.config.modules_per_stage
            names = [unit_name(op, idle.channels[b], sizes[b]) for op in ops]
            cost = torch.tensor([0.0 if op == "skip" else table.of(name) for op, name in zip(ops, names, strict=True)])
            for kind, cells in (("individual", 2), ("aggregation", 1)):
                logits = tables.get(f"{kind}_{b}" if self.config.sharing == "branch" else kind)
                if logits is not None and uses:
                    cost = cost.to(logits)
                    total = total.to(logits) + uses * cells * table.scale * (logits.softmax(-1) @ cost).sum()
        return total.clamp_min(table.least_ms)
