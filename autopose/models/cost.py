"""Parameters and multiply-accumulates of a network, counted on the meta device (no memory, no arithmetic)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autopose.models.cell import Projection

#: The unit in which pose papers print "GFLOPs": convolution MACs / 1024^3 (HRNet ``lib/utils/utils.py``).
GI = 1024**3


@dataclass(frozen=True)
class Profile:
    """Cost of one image.

    Attributes:
        params: number of trainable values.
        macs: multiply-accumulates of all convolutions and linear layers, bias and normalisation not counted; a cell's
            1x1 convolution counts with all its nodes, also where fewer terms are computed.
        layers: (name, parameters, MACs) of each convolution and linear layer, in order of execution.
    """

    params: int
    macs: int
    layers: tuple[tuple[str, int, int], ...]

    @property
    def macs_gi(self) -> float:
        """Return MACs / 1024^3, what the papers' tables call GFLOPs."""
        return self.macs / GI


def for_shapes(network: nn.Module) -> nn.Module:
    """Make a network on the meta device, in evaluation, fast: its batch normalisations hand on what they get.

    Torch takes normalisation on that device apart into dozens of operations, most of a forward pass's time; its output
    has the shape of its input. The network is good for nothing but shapes afterwards.
    """
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.forward = _same  # type: ignore[method-assign, assignment]
    return network


def _same(x: Tensor) -> Tensor:
    return x


def profile(network: nn.Module, input_size_wh: tuple[int, int] = (192, 256), inputs: Sequence[int] = (3,)) -> Profile:
    """Count a network's cost at one input size; the network itself is left untouched.

    Args:
        network: any module mapping ``(1, C, H, W)`` to maps.
        input_size_wh: width and height of the input.
        inputs: channels of the input.
    """
    shadow = for_shapes(copy.deepcopy(network).to("meta").eval())  # hooks and buffers stay on the copy
    layers: list[tuple[str, int, int]] = []

    def hook(name: str) -> object:
        def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            # Every weight of a convolution is used once per output position, of a transposed one per input position.
            where = args[0] if isinstance(module, nn.ConvTranspose2d) else output
            positions = output.numel() // output.shape[-1] if isinstance(module, nn.Linear) else where[0, 0].numel()
            macs = weight.numel() * positions
            layers.append((name, sum(p.numel() for p in module.parameters()), macs))

        return count

    for name, module in shadow.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | Projection):
            module.register_forward_hook(hook(name))  # type: ignore[arg-type]
    with torch.no_grad():
        shadow(torch.zeros(1, *inputs, input_size_wh[1], input_size_wh[0], device="meta"))
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Profile(params, sum(macs for _, _, macs in layers), tuple(layers))
