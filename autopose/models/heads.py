"""From four branch streams to the output maps: keypoint heatmaps, or person centres and sizes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.models.ops import ConvBN


def _upsample_to(x: Tensor, finest: Tensor) -> Tensor:
    """Bring a coarser map to the size of the finest by nearest neighbours."""
    factor = finest.shape[-1] // x.shape[-1]
    return x if factor == 1 else F.interpolate(x, scale_factor=float(factor), mode="nearest")


class ConcatHead(nn.Module):
    """All branches upsampled to 1/4 and concatenated, one 3x3 convolution to the heatmaps (section 4.2)."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.predict = nn.Conv2d(sum(channels), outputs, 3, padding=1)
        nn.init.normal_(self.predict.weight, std=1e-3)
        nn.init.zeros_(self.predict.bias)  # type: ignore[arg-type]

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Return maps ``(N, outputs, H/4, W/4)``."""
        maps: Tensor = self.predict(F.relu(torch.cat([_upsample_to(x, streams[0]) for x in streams], dim=1)))
        return maps


class SumHead(nn.Module):
    """Branches matched to the finest width, upsampled and summed, one 3x3 convolution (the reading of section 3)."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        width = channels[0]
        self.match = nn.ModuleList(ConvBN(inputs, width, 1) for inputs in channels)
        self.predict = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.normal_(self.predict.weight, std=1e-3)
        nn.init.zeros_(self.predict.bias)  # type: ignore[arg-type]

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Return maps ``(N, outputs, H/4, W/4)``."""
        total = sum(_upsample_to(match(F.relu(x)), streams[0]) for match, x in zip(self.match, streams, strict=True))
        maps: Tensor = self.predict(F.relu(total))  # type: ignore[arg-type]
        return maps


class CenterHead(nn.Module):
    """Objects as Points (Zhou et al. 2019) for one class: centre heatmap, size and sub-cell offset of each person.

    Args:
        channels: widths of the branches.
        width: of the fused map.
        stride: of the output maps, 4 or 8.
    """

    #: Output channels: centre logit; width, height in units of the stride (through exp); x, y offset in cells.
    OUTPUTS = 5

    def __init__(self, channels: Sequence[int], width: int, stride: int) -> None:
        super().__init__()
        self.first = {4: 0, 8: 1}[stride]
        self.match = nn.ModuleList(ConvBN(inputs, width, 1) for inputs in channels)
        self.pool = nn.AvgPool2d(2) if self.first else None
        self.mix = nn.Sequential(nn.ReLU(), ConvBN(width, width, 3), nn.ReLU())
        self.predict = nn.Conv2d(width, self.OUTPUTS, 1)
        nn.init.normal_(self.predict.weight, std=1e-3)
        with torch.no_grad():  # the focal loss starts from a probability of 0.01 everywhere
            self.predict.bias.copy_(torch.tensor([-4.6, 1.5, 2.5, 0.5, 0.5]))  # type: ignore[union-attr]

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Return maps ``(N, 5, H/stride, W/stride)``."""
        matched = [match(F.relu(x)) for match, x in zip(self.match, streams, strict=True)]
        target = matched[self.first]
        total = target
        for branch, x in enumerate(matched):
            if branch > self.first:
                total = total + _upsample_to(x, target)
            elif branch < self.first:
                assert self.pool is not None
                total = total + self.pool(x)
        maps: Tensor = self.predict(self.mix(total))
        return maps
