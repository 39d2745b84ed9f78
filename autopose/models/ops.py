"""The candidate operations of a cell's edge, for supernets and derived networks alike.

The paper names the six operations (section 3.1) and no internals; the order is ReLU-Conv-BN with dense convolutions,
which is the only reading whose networks reach the published cost (``docs/architecture.md``). The ReLU is not part of
the module: a cell applies it once per source and shares it between the edges that leave it (``pre_activated`` tells
which operations want it), which computes the same function with fewer passes over memory.
"""

from collections.abc import Callable

from torch import nn

from autopose.models.batch_norm import BatchNorm

BN_MOMENTUM = 0.1


class ConvBN(nn.Sequential):
    """A convolution without bias and its batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, affine: bool = True, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            BatchNorm(outputs, affine=affine, momentum=BN_MOMENTUM),
        )


class SeparableConvBN(nn.Sequential):
    """Depthwise then pointwise convolution, each normalised, ReLU between (set ``mobile`` only)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, affine: bool = True) -> None:
        super().__init__(
            ConvBN(inputs, inputs, kernel, affine=affine, groups=inputs),
            nn.ReLU(),
            ConvBN(inputs, outputs, 1, affine=affine),
        )


class PoolBN(nn.Sequential):
    """A 3x3 pooling of stride 1 and its batch normalisation."""

    def __init__(self, channels: int, kind: str, *, affine: bool = True) -> None:
        pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False) if kind == "avg" else nn.MaxPool2d(3, 1, 1)
        super().__init__(pool, BatchNorm(channels, affine=affine, momentum=BN_MOMENTUM))


#: Operation name -> factory(channels, affine).
OPS: dict[str, Callable[[int, bool], nn.Module]] = {
    "conv1": lambda channels, affine: ConvBN(channels, channels, 1, affine=affine),
    "conv3": lambda channels, affine: ConvBN(channels, channels, 3, affine=affine),
    "conv5": lambda channels, affine: ConvBN(channels, channels, 5, affine=affine),
    "avgpool3": lambda channels, affine: PoolBN(channels, "avg", affine=affine),
    "maxpool3": lambda channels, affine: PoolBN(channels, "max", affine=affine),
    "skip": lambda channels, affine: nn.Identity(),
    "dwsep3": lambda channels, affine: SeparableConvBN(channels, channels, 3, affine=affine),
    "dwsep5": lambda channels, affine: SeparableConvBN(channels, channels, 5, affine=affine),
}


def pre_activated(op: str) -> bool:
    """Return whether the operation reads ReLU(x) instead of x."""
    return op.startswith(("conv", "dwsep"))
