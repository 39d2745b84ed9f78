"""The candidate operations of a fabric's mixed edge: Conv-BN-ReLU order, normalisation without affine parameters.

Unlike the AutoPose space's (``autopose.models.ops``), the activation comes last and the convolutions are depthwise
separable, as PNFS describes them.
"""

from collections.abc import Callable

from torch import nn


def _separable(channels: int, kernel: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(channels, channels, kernel, 1, padding, dilation=dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
        nn.ReLU(),
    ]


class Separable(nn.Sequential):
    """Twice depthwise, pointwise, normalisation, ReLU."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(*_separable(channels, kernel, 1), *_separable(channels, kernel, 1))


class AtrousSeparable(nn.Sequential):
    """Depthwise of dilation 2, pointwise, normalisation, ReLU: once."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(*_separable(channels, kernel, 2))


class Pool(nn.Sequential):
    """A 3x3 pooling of stride 1 and its normalisation."""

    def __init__(self, channels: int, kind: str) -> None:
        pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False) if kind == "avg" else nn.MaxPool2d(3, 1, 1)
        super().__init__(pool, nn.BatchNorm2d(channels, affine=False))


#: Operation name -> factory(channels).
FABRIC_OPS: dict[str, Callable[[int], nn.Module]] = {
    "zero": lambda channels: nn.Identity(),  # takes its share of the softmax and gives nothing: never called
    "skip": lambda channels: nn.Identity(),
    "sep3": lambda channels: Separable(channels, 3),
    "sep5": lambda channels: Separable(channels, 5),
    "atr3": lambda channels: AtrousSeparable(channels, 3),
    "atr5": lambda channels: AtrousSeparable(channels, 5),
    "avgpool3": lambda channels: Pool(channels, "avg"),
    "maxpool3": lambda channels: Pool(channels, "max"),
}
