"""Resizing between branches and the multi-scale module (AutoPose section 3.1, Figure 2)."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.genotype import BRANCHES
from autopose.models.cell import aggregation_cell, individual_cell
from autopose.models.ops import ConvBN


class Downsample(nn.Sequential):
    """A chain of 3x3 convolutions of stride 2; only the last changes the width (HRNet's fuse layer)."""

    def __init__(self, inputs: int, outputs: int, steps: int, *, affine: bool = True) -> None:
        layers: list[nn.Module] = []
        for step in range(steps):
            layers += [nn.ReLU(), ConvBN(inputs, outputs if step == steps - 1 else inputs, 3, 2, affine=affine)]
        super().__init__(*layers)


class Upsample(nn.Module):
    """ReLU, 1x1 convolution and normalisation at the coarse scale, then nearest neighbours."""

    def __init__(self, inputs: int, outputs: int, steps: int, *, affine: bool = True) -> None:
        super().__init__()
        self.match = ConvBN(inputs, outputs, 1, affine=affine)
        self.factor = 2**steps

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C_in, h, w)`` to ``(N, C_out, h f, w f)``."""
        return F.interpolate(self.match(F.relu(x)), scale_factor=float(self.factor), mode="nearest")


def resize(source: int, target: int, channels: Sequence[int], *, affine: bool = True) -> nn.Module:
    """Return the module that brings branch ``source`` to the scale and width of branch ``target`` (0 = 1/4)."""
    if source == target:
        return nn.Identity()
    if source < target:
        return Downsample(channels[source], channels[target], target - source, affine=affine)
    return Upsample(channels[source], channels[target], source - target, affine=affine)


class ConcatFusion(nn.Module):
    """Plain concatenation of the four resized branches and a 1x1 convolution (ablation of Table 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = ConvBN(BRANCHES * channels, channels, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return ``(N, C, h, w)`` from four inputs of the same shape."""
        result: Tensor = self.project(F.relu(torch.cat(inputs, dim=1)))
        return result


class MultiScaleModule(nn.Module):
    """One module: every active branch runs individual, individual and aggregation cell; the others pass through.

    An inactive branch is the identity, yet its unprocessed stream feeds the aggregation cells of the active ones
    (section 3.1.1).

    Args:
        individual: per branch, operations of its individual cells (both share the architecture, not the weights).
        aggregation: per branch, operations of its aggregation cell.
        active: per branch, whether it is processed.
        channels: widths of the branches.
        fusion: ``cells`` or ``concat`` (see :class:`autopose.genotype.AutoPoseGenotype`).
    """

    def __init__(
        self,
        individual: Sequence[Sequence[str]],
        aggregation: Sequence[Sequence[str]],
        active: Sequence[int],
        channels: Sequence[int],
        fusion: str = "cells",
    ) -> None:
        super().__init__()
        self.active = [branch for branch in range(BRANCHES) if active[branch]]
        self.individual = nn.ModuleDict()
        self.resize = nn.ModuleDict()
        self.aggregation = nn.ModuleDict()
        for b in self.active:
            width = channels[b]
            self.individual[str(b)] = nn.Sequential(*(individual_cell(individual[b], width) for _ in range(2)))
            self.resize[str(b)] = nn.ModuleList(resize(a, b, channels) for a in range(BRANCHES))
            self.aggregation[str(b)] = (
                aggregation_cell(aggregation[b], width) if fusion == "cells" else ConcatFusion(width)
            )

    def forward(self, streams: Sequence[Tensor], active: Sequence[int] | None = None) -> list[Tensor]:
        """Map the four streams (finest first) to four streams of the same shapes.

        Args:
            streams: one per branch.
            active: the branches to process, of those that the module has; all of them if None.
        """
        active = self.active if active is None else active
        processed = list(streams)
        for b in active:
            processed[b] = self.individual[str(b)](streams[b])
        result = list(streams)
        for b in active:
            resizes = cast(nn.ModuleList, self.resize[str(b)])
            at_scale = [module(x) for module, x in zip(resizes, processed, strict=True)]
            result[b] = self.aggregation[str(b)](*at_scale)
        return result
