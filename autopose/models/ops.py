"""The candidate operations of a cell's edge, for supernets and derived networks alike.

The paper names the six operations (section 3.1) and no internals; the order is ReLU-Conv-BN with dense convolutions, which
is the only reading whose networks reach the published cost (``docs/architecture.md``). The ReLU is not part of the
module: a cell applies it once per source and shares it between the edges that leave it (``pre_activated`` tells which
operations want it), which computes the same function with fewer passes over memory.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

BN_MOMENTUM = 0.1


class ConvBN(nn.Sequential):
    """A convolution without bias and its batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, affine: bool = True, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, affine=affine, momentum=BN_MOMENTUM),
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
        super().__init__(pool, nn.BatchNorm2d(channels, affine=affine, momentum=BN_MOMENTUM))


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

#: Convolution kernels by operation name: these can be merged when they leave the same source.
DENSE_KERNELS = {"conv1": 1, "conv3": 3, "conv5": 5}


def pre_activated(op: str) -> bool:
    """Return whether the operation reads ReLU(x) instead of x."""
    return op in DENSE_KERNELS or op.startswith("dwsep")


class Fanout(nn.Module):
    """All edges that leave one source with the same operation, computed together.

    Equal dense convolutions become one with concatenated output channels, equal pools are pooled once: the same
    function, with fewer and larger kernels.

    Args:
        op: operation name.
        channels: of the source and of each result.
        edges: how many edges share it.
    """

    def __init__(self, op: str, channels: int, edges: int, *, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.edges = channels, edges
        self.merged: nn.Module
        if op in DENSE_KERNELS:
            self.merged = ConvBN(channels, channels * edges, DENSE_KERNELS[op], affine=affine)
        elif op == "skip":
            self.merged = nn.Identity()
        elif op in ("avgpool3", "maxpool3"):
            self.merged = PoolBN(channels, op[:3], affine=False)
            # One normalisation serves all; each edge keeps a scale and a shift of its own.
            self.scale = nn.Parameter(torch.ones(edges, channels, 1, 1)) if affine else None
            self.shift = nn.Parameter(torch.zeros(edges, channels, 1, 1)) if affine else None
        else:
            self.merged = nn.ModuleList(OPS[op](channels, affine) for _ in range(edges))
        self.op = op

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one tensor per edge."""
        if isinstance(self.merged, nn.ModuleList):
            return [module(x) for module in self.merged]
        y: Tensor = self.merged(x)
        if self.op in DENSE_KERNELS:
            return list(y.split(self.channels, dim=1)) if self.edges > 1 else [y]
        if self.op == "skip" or self.scale is None or self.shift is None:
            return [y] * self.edges
        return [y * self.scale[i] + self.shift[i] for i in range(self.edges)]
