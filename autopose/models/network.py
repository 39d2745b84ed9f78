"""Networks built from genotypes: the stem, the three stages and a head (AutoPose sections 3.1 and 4.2)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from autopose.genotype import BRANCHES, AutoPoseGenotype, Genotype
from autopose.models.heads import CenterHead, ConcatHead, SumHead
from autopose.models.multiscale import MultiScaleModule
from autopose.models.ops import ConvBN


class Bottleneck(nn.Module):
    """ResNet's bottleneck with a projected shortcut: 1x1, 3x3, 1x1 to ``outputs``."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvBN(inputs, hidden, 1), nn.ReLU(), ConvBN(hidden, hidden, 3), nn.ReLU(), ConvBN(hidden, outputs, 1)
        )
        self.shortcut = nn.Identity() if inputs == outputs else ConvBN(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, h, w)`` to ``(N, outputs, h, w)``."""
        return F.relu(self.body(x) + self.shortcut(x))


class Stem(nn.Module):
    """Two 3x3 convolutions of stride 2 and a bottleneck to 1/4; then successive 3x3 convolutions of stride 2."""

    def __init__(self, genotype: AutoPoseGenotype) -> None:
        super().__init__()
        width, wide = genotype.stem_channels, genotype.stem_channels * genotype.stem_expansion
        self.reduce = nn.Sequential(
            ConvBN(3, width, 3, 2),
            nn.ReLU(),
            ConvBN(width, width, 3, 2),
            nn.ReLU(),
            Bottleneck(width, width, wide),
        )
        inputs = (wide, *genotype.channels)
        self.branches = nn.ModuleList(
            ConvBN(inputs[b], genotype.channels[b], 3, 1 if b == 0 else 2) for b in range(BRANCHES)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four streams at 1/4 ... 1/32, before their ReLU."""
        x = self.reduce(image)
        streams: list[Tensor] = []
        for branch in self.branches:
            x = branch(x if not streams else F.relu(streams[-1]))
            streams.append(x)
        return streams


class AutoPoseNetwork(nn.Module):
    """The network that a genotype of the AutoPose space describes.

    Args:
        genotype: validated genotype.
        joints: number of heatmaps (ignored by the detector's head).
    """

    def __init__(self, genotype: AutoPoseGenotype, joints: int) -> None:
        super().__init__()
        self.genotype = genotype
        self.stem = Stem(genotype)
        self.stages = nn.ModuleList(
            MultiScaleModule(genotype.individual, genotype.aggregation, bits, genotype.channels, genotype.fusion)
            for bits in genotype.scales
            if any(bits)  # an all-off stage is the identity
            for _ in range(genotype.modules_per_stage)
        )
        self.head: nn.Module
        if genotype.is_detector:
            self.head = CenterHead(genotype.channels, genotype.head_channels, genotype.head_stride)
        else:
            self.head = (ConcatHead if genotype.head == "concat" else SumHead)(genotype.channels, joints)

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images ``(N, 3, H, W)``, sides divisible by 32, to the head's maps."""
        streams = self.stem(image)
        for module in self.stages:
            streams = module(streams)
        maps: Tensor = self.head(streams)
        return maps


#: Genotype kind -> builder(genotype, joints). Further kinds register here.
BUILDERS: dict[str, Callable[[Genotype, int], nn.Module]] = {}


def _autopose(genotype: Genotype, joints: int) -> nn.Module:
    assert isinstance(genotype, AutoPoseGenotype)
    return AutoPoseNetwork(genotype, joints)


BUILDERS["autopose"] = _autopose


def build_network(genotype: Genotype, joints: int = 17) -> nn.Module:
    """Return the freshly initialised network of any kind of genotype (maps normalised images to output maps)."""
    if genotype.kind not in BUILDERS:
        import autopose.models.registry  # noqa: F401  (registers the further kinds)
    return BUILDERS[genotype.kind](genotype, joints)
