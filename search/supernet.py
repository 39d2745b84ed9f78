"""The supernet of the AutoPose space: stem, three stages of two multi-scale modules, head (sections 3.1 and 4.2)."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from autopose.genotype import (
    AGGREGATION_EDGES,
    AGGREGATION_NODES,
    BRANCHES,
    INDIVIDUAL_EDGES,
    INDIVIDUAL_NODES,
    OP_SETS,
    STAGES,
    AutoPoseGenotype,
)
from autopose.models.heads import ConcatHead, SumHead
from autopose.models.multiscale import resize
from autopose.models.network import Stem
from autopose.search.mixed_op import MixedCell, Project
from autopose.search.relaxation import AlphaGradient, Choice, relax
from autopose.search.space import Draw, Macro, Supernet, use_batch_statistics

Sharing = Literal["branch", "global"]
Bits = tuple[int, ...]


class MixedModule(nn.Module):
    """A multi-scale module with every operation on every edge and every branch (Figure 2).

    Args:
        ops: operation names.
        channels: widths of the branches.
        aggregate: False replaces the aggregation cells by plain concatenation and a 1x1 convolution (Table 4).
    """

    def __init__(self, ops: Sequence[str], channels: Sequence[int], *, aggregate: bool = True) -> None:
        super().__init__()
        self.individual = nn.ModuleList(
            nn.ModuleList(MixedCell(ops, width, 1, INDIVIDUAL_NODES) for _ in range(2)) for width in channels
        )
        self.resize = nn.ModuleList(
            nn.ModuleList(resize(a, b, channels, affine=False) for a in range(BRANCHES)) for b in range(BRANCHES)
        )
        self.aggregation = nn.ModuleList(
            MixedCell(ops, width, BRANCHES, AGGREGATION_NODES) if aggregate else Project(BRANCHES, width)
            for width in channels
        )

    def forward(
        self, streams: list[Tensor], active: Bits, individual: Sequence[Choice], aggregation: Sequence[Choice]
    ) -> list[Tensor]:
        """Map four streams to four; inactive branches pass through, unprocessed, and still feed the active ones."""
        processed = list(streams)
        for b in range(BRANCHES):
            if active[b]:
                for cell in self.individual[b]:  # type: ignore[attr-defined]
                    processed[b] = cell([processed[b]], individual[b])
        result = list(streams)
        for b in range(BRANCHES):
            if active[b]:
                paths = self.resize[b]
                assert isinstance(paths, nn.ModuleList)
                at_scale = [path(x) for path, x in zip(paths, processed, strict=True)]
                fuse = self.aggregation[b]
                if isinstance(fuse, MixedCell):
                    result[b] = fuse(at_scale, aggregation[b])
                else:
                    result[b] = fuse([x.relu() for x in at_scale])
        return result


class AutoPoseSupernet(Supernet):
    """All networks of the AutoPose space at the search's widths.

    Args:
        template: a genotype of the space; its channels, stem, head, op set, fusion and modules per stage are used.
        joints: number of heatmaps.
        stage_bits: turns the controller's tokens into one scale vector per stage.
        sharing: ``branch``: one individual and one aggregation table per branch, shared by stages, modules and both
            individual cells (76 rows, the reading of section 4.2 nearest to the published size); ``global``: one pair
            shared by the branches too (19 rows).
        alpha_gradient: see :mod:`autopose.search.relaxation`.
        init_std: standard deviation of the initial logits.
    """

    def __init__(
        self,
        template: AutoPoseGenotype,
        joints: int,
        stage_bits: Callable[[Macro], tuple[Bits, ...]],
        *,
        sharing: Sharing = "branch",
        alpha_gradient: AlphaGradient = "single",
        init_std: float = 1e-3,
    ) -> None:
        super().__init__()
        ops = OP_SETS[template.op_set]
        self.channels, self.sharing = template.channels, sharing
        self.alpha_gradient: AlphaGradient = alpha_gradient
        self.stage_bits = stage_bits
        self.per_stage = template.modules_per_stage
        aggregate = template.fusion == "cells"
        for kind, rows in (("individual", INDIVIDUAL_EDGES), ("aggregation", AGGREGATION_EDGES)):
            if kind == "aggregation" and not aggregate:
                continue
            for name in self.table_names(kind):
                if name not in self.arch:
                    self.arch[name] = nn.Parameter(init_std * torch.randn(rows, len(ops)))
                    self.choices[name] = ops
        self.stem = Stem(template)
        self.stages = nn.ModuleList(
            MixedModule(ops, template.channels, aggregate=aggregate) for _ in range(STAGES * self.per_stage)
        )
        self.head = (ConcatHead if template.head == "concat" else SumHead)(template.channels, joints)
        use_batch_statistics(self)

    def table_names(self, kind: str) -> list[str]:
        """Return the name of each branch's table (the same one four times where the branches share it)."""
        return [f"{kind}_{b}" if self.sharing == "branch" else kind for b in range(BRANCHES)]

    def forward(self, images: Tensor, draw: Draw) -> Tensor:
        """Map normalised images ``(N, 3, H, W)``, sides divisible by 32, to heatmaps ``(N, K, H/4, W/4)``."""
        noise = draw.noise
        choices = {
            name: relax(table, None if noise is None else noise[name], self.temperature, self.alpha_gradient)
            for name, table in self.arch.items()
        }
        individual = [choices[name] for name in self.table_names("individual")]
        aggregation = [choices.get(name, Choice([])) for name in self.table_names("aggregation")]
        streams = self.stem(images)
        for stage, bits in enumerate(self.stage_bits(draw.macro)):
            if any(bits):
                for module in self.stages[stage * self.per_stage : (stage + 1) * self.per_stage]:
                    streams = module(streams, bits, individual, aggregation)
        maps: Tensor = self.head(streams)
        return maps
