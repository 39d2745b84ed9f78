"""Parameters and multiply-accumulates of a network, counted on the meta device (no memory, no arithmetic)."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autopose.genotype import Genotype
from autopose.models.cell import Projection
from autopose.models.network import build_network

#: The unit in which pose papers print "GFLOPs": convolution MACs / 1024^3 (HRNet ``lib/utils/utils.py``).
GI = 1024**3


@dataclass(frozen=True)
class Profile:
    """Cost of one image.

    Attributes:
        params: number of trainable values.
        macs: multiply-accumulates of all convolutions, bias and normalisation not counted; a cell's
            1x1 convolution counts with all its nodes, also where fewer terms are computed.
        layers: (name, parameters, MACs) of each convolution, in order of execution.
        output: (C, H, W) of the maps.
    """

    params: int
    macs: int
    layers: tuple[tuple[str, int, int], ...]
    output: tuple[int, ...]

    @property
    def macs_gi(self) -> float:
        """Return MACs / 1024^3, what the papers' tables call GFLOPs."""
        return self.macs / GI


def profile_genotype(genotype: Genotype, joints: int, input_size_wh: tuple[int, int]) -> Profile:
    """Count what a genotype's network costs at one input size, without making its weights.

    Raises:
        RuntimeError: the network cannot take inputs of this size.
    """
    with torch.device("meta"):
        network = build_network(genotype, joints)
    return _count(network, input_size_wh)


def profile(network: nn.Module, input_size_wh: tuple[int, int] = (192, 256)) -> Profile:
    """Count a network's cost at one input size; the network itself is left untouched.

    Args:
        network: any module mapping ``(1, 3, H, W)`` to maps.
        input_size_wh: width and height of the input.
    """
    return _count(copy.deepcopy(network).to("meta"), input_size_wh)  # hooks and buffers stay on the copy


def _count(network: nn.Module, input_size_wh: tuple[int, int]) -> Profile:
    """Count a network on the meta device, which is good for nothing afterwards."""
    layers: list[tuple[str, int, int]] = []

    def hook(name: str) -> object:
        def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            # Every weight of a convolution is used once per output position, of a transposed one per input position.
            where = args[0] if isinstance(module, nn.ConvTranspose2d) else output
            macs = weight.numel() * where[0, 0].numel()
            layers.append((name, sum(p.numel() for p in module.parameters()), macs))

        return count

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | Projection):
            module.register_forward_hook(hook(name))  # type: ignore[arg-type]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            # Torch takes normalisation on that device apart into dozens of operations, most of a forward pass's time;
            # its output has the shape of its input.
            module.forward = _same  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        maps = network.eval()(torch.zeros(1, 3, input_size_wh[1], input_size_wh[0], device="meta"))
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Profile(params, sum(macs for _, _, macs in layers), tuple(layers), tuple(maps.shape[1:]))


def _same(x: Tensor) -> Tensor:
    return x
