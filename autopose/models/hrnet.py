"""HRNet (Sun et al. 2019): parallel branches, exchanged by fuse layers; whole, and as a four-level pyramid.

Sub-modules are named as in the published pose weights (``stage2.0.fuse_layers.0.1.0`` ...).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from autopose.models.residual import BasicBlock, Bottleneck, residual_chain

#: Modules of stages 2, 3, 4 (section 3.3: 1, 4 and 3 exchange blocks), four residual units in every branch.
MODULES = (1, 4, 3)
UNITS = 4
STEM = 64


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


def _down(inputs: int, outputs: int, steps: int) -> nn.Sequential:
    """Return a chain of 3x3 convolutions of stride 2; ReLU between, the width changes at the last."""
    chain = [nn.Sequential(*_conv_bn(inputs, inputs, 3, 2), nn.ReLU()) for _ in range(steps - 1)]
    return nn.Sequential(*chain, nn.Sequential(*_conv_bn(inputs, outputs, 3, 2)))


class ExchangeModule(nn.Module):
    """Four residual units in every branch, then every branch receives the sum of all, resized.

    Args:
        channels: of the branches, finest first.
        outputs: how many of the finest branches are fused and returned.
    """

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(residual_chain(BasicBlock, width, width, UNITS) for width in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._resize(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    @staticmethod
    def _resize(channels: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source < target:
            return _down(channels[source], channels[target], target - source)
        up = nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest")
        return nn.Sequential(*_conv_bn(channels[source], channels[target], 1), up)

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """Map the streams, finest first, to the fused streams."""
        processed = [branch(x) for branch, x in zip(self.branches, streams, strict=True)]
        fused: list[Tensor] = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            total = row[0](processed[0])
            for module, x in zip(list(row)[1:], processed[1:], strict=True):
                total = total + module(x)
            fused.append(F.relu(total))
        return fused


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Return per branch what brings the streams to the next stage; the new branch comes from the coarsest one."""
    layers: list[nn.Module] = []
    for target, width in enumerate(after):
        if target >= len(before):
            layers.append(nn.Sequential(nn.Sequential(*_conv_bn(before[-1], width, 3, 2), nn.ReLU())))
        elif before[target] != width:
            layers.append(nn.Sequential(*_conv_bn(before[target], width, 3), nn.ReLU()))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def _advance(transition: nn.ModuleList, streams: list[Tensor]) -> list[Tensor]:
    return [module(streams[min(target, len(streams) - 1)]) for target, module in enumerate(transition)]


class HRNetPyramid(nn.Module):
    """HRNet's stem, stages 1 to 3 and the transition to stage 4: four streams at 1/4 ... 1/32.

    Args:
        width: channels of the finest branch (32 for W32); each coarser one has twice as many.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        #: Channels of the four streams, finest first.
        self.channels = tuple(width * 2**branch for branch in range(4))
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM)
        self.layer1 = residual_chain(Bottleneck, STEM, STEM, UNITS)
        before: Sequence[int] = (STEM * Bottleneck.expansion,)
        for stage in (2, 3):
            after = self.channels[:stage]
            self.add_module(f"transition{stage - 1}", _transition(before, after))
            modules = (ExchangeModule(after, stage) for _ in range(MODULES[stage - 2]))
            self.add_module(f"stage{stage}", nn.Sequential(*modules))
            before = after
        self.transition3 = _transition(before, self.channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four streams, finest first."""
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(image))))))
        streams = [self.layer1(x)]
        for stage in (2, 3):
            transition = self.get_submodule(f"transition{stage - 1}")
            assert isinstance(transition, nn.ModuleList)
            streams = self.get_submodule(f"stage{stage}")(_advance(transition, streams))
        return _advance(self.transition3, streams)


class HRNet(HRNetPyramid):
    """HRNet for pose: the pyramid, stage 4 and one 1x1 convolution on the finest branch.

    Args:
        joints: number of heatmaps.
        width: 32 for HRNet-W32, 48 for HRNet-W48.
    """

    def __init__(self, joints: int, width: int = 32) -> None:
        super().__init__(width)
        count = MODULES[2]
        # The last module fuses into the finest branch alone, which is all that the head reads.
        modules = (ExchangeModule(self.channels, 1 if number == count - 1 else 4) for number in range(count))
        self.stage4 = nn.Sequential(*modules)
        self.final_layer = nn.Conv2d(width, joints, 1)
        nn.init.normal_(self.final_layer.weight, std=1e-3)
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        """Map ``(N, 3, H, W)`` to heatmaps ``(N, joints, H/4, W/4)``."""
        maps: Tensor = self.final_layer(self.stage4(super().forward(image))[0])
        return maps
