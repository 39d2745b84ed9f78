"""Backbones that feed the fabrics: each maps an image to four maps at 1/4 ... 1/32 and tells their channels."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from autopose.fabric_genotype import LEVELS, Backbone, FabricGenotype
from autopose.models.fabric_backbone import FabricBackbone
from autopose.models.hrnet import HRNetPyramid
from autopose.models.mobilenetv2 import MobileNetV2
from autopose.models.network import AutoPoseNetwork
from autopose.models.ops import ConvBN
from autopose.models.resnet import ResNet


class StemPyramid(nn.Module):
    """Convolutions of stride 2 only: 3x3 to 1/2, then one 3x3 (and a 3x3 of stride 1 after it) per level.

    Args:
        width: channels at 1/4; doubled at every coarser level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = tuple(width * 2**level for level in range(LEVELS))
        self.first = nn.Sequential(ConvBN(3, width, 3, 2), nn.ReLU())
        inputs = (width, *self.channels)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvBN(inputs[level], width, 3, 2), nn.ReLU(), ConvBN(width, width, 3), nn.ReLU())
            for level, width in enumerate(self.channels)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four maps, finest first."""
        x = self.first(image)
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class AutoPosePyramid(nn.Module):
    """A searched AutoPose network without its head."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        assert backbone.autopose is not None
        network = AutoPoseNetwork(backbone.autopose, joints=1)
        self.channels = tuple(backbone.autopose.channels)
        self.stem, self.stages = network.stem, network.stages

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four streams, finest first."""
        streams = self.stem(image)
        for module in self.stages:
            streams = module(streams)
        return [F.relu(x) for x in streams]


class Pyramid(nn.Module):
    """Any backbone, with its channels as a plain attribute."""

    def __init__(self, features: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.features, self.channels = features, channels

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four maps, finest first."""
        maps: list[Tensor] = self.features(image)
        return maps


_BUILDERS: dict[str, Callable[[FabricGenotype], nn.Module]] = {
    "hrnet": lambda genotype: HRNetPyramid(genotype.backbone.width or 32),
    "resnet50": lambda genotype: ResNet(50, genotype.backbone.width or 64),
    "mobilenetv2": lambda genotype: MobileNetV2(),
    "autopose": lambda genotype: AutoPosePyramid(genotype.backbone),
    "stem": lambda genotype: StemPyramid(genotype.backbone.width or 64),
    "fabric": lambda genotype: FabricBackbone(genotype),
}


def build_backbone(genotype: FabricGenotype) -> Pyramid:
    """Return the freshly initialised backbone of a fabric genotype."""
    features = _BUILDERS[genotype.backbone.network](genotype)
    channels = features.channels
    assert isinstance(channels, tuple)
    return Pyramid(features, channels)
