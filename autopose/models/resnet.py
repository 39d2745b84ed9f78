"""ResNet-50/101/152 (He et al. 2016) and SimpleBaseline, three deconvolutions on top of it (Xiao et al. 2018)."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from autopose.models.residual import Bottleneck, residual_chain

#: Depth -> bottlenecks in each of the four layers.
BLOCKS: Mapping[int, tuple[int, int, int, int]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNet(nn.Module):
    """ResNet without its classifier: four feature maps at 1/4 ... 1/32.

    Args:
        depth: 50, 101 or 152.
        width: channels of the stem and the first layer's bottlenecks (64 as published).
    """

    def __init__(self, depth: int = 50, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        outputs = []
        for number, blocks in enumerate(BLOCKS[depth], start=1):
            layer_width = width * 2 ** (number - 1)
            layer = residual_chain(Bottleneck, inputs, layer_width, blocks, 1 if number == 1 else 2)
            self.add_module(f"layer{number}", layer)
            inputs = layer_width * Bottleneck.expansion
            outputs.append(inputs)
        #: Channels of the four maps, finest first (256, 512, 1024, 2048).
        self.channels = tuple(outputs)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four maps, finest first."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        maps: list[Tensor] = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps


class SimpleBaseline(nn.Module):
    """ResNet, three deconvolutions of stride 2 to 256 channels, one 1x1 convolution to the heatmaps.

    Args:
        joints: number of heatmaps.
        depth: of the ResNet.
        width: of the ResNet; the deconvolutions have four times as many channels.
    """

    def __init__(self, joints: int, depth: int = 50, width: int = 64) -> None:
        super().__init__()
        self.backbone = ResNet(depth, width)
        layers: list[nn.Module] = []
        inputs = self.backbone.channels[-1]
        for _ in range(3):
            layers += [nn.ConvTranspose2d(inputs, 4 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU()]
            inputs = 4 * width
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(inputs, joints, 1)
        for module in (*layers, self.final_layer):
            if isinstance(module, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.normal_(module.weight, std=1e-3)
        nn.init.zeros_(self.final_layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to heatmaps ``(N, joints, H/4, W/4)``."""
        maps: Tensor = self.final_layer(self.deconv_layers(self.backbone(image)[-1]))
        return maps
