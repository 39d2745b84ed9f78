"""MobileNetV2 (Sandler et al. 2018) as a four-level pyramid: feature maps after blocks 3, 6, 13 and 16.

Sub-modules are named as in the published weights (``features.1.conv.0.0`` ...).
"""

from torch import Tensor, nn

#: Expansion, channels, repetitions and stride of each group of blocks (Table 2 of the paper), as far as they are used:
#: the last group (320 channels) feeds only the classifier.
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
STEM = 32
TAPS = (3, 6, 13, 16)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project by 1x1 without activation; a shortcut where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_conv_bn(inputs, hidden, 1)] if expansion > 1 else []),
            _conv_bn(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, h, w)`` to ``(N, outputs, h / stride, w / stride)``."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """The features of MobileNetV2 at 1/4 ... 1/32."""

    #: Channels of the four maps, finest first.
    channels = (24, 32, 96, 160)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(3, STEM, 3, 2)]
        inputs = STEM
        for expansion, outputs, repetitions, stride in GROUPS:
            for repetition in range(repetitions):
                layers.append(InvertedResidual(inputs, outputs, stride if repetition == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)`` to the four maps, finest first."""
        maps = []
        x = image
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in TAPS:
                maps.append(x)
        return maps
