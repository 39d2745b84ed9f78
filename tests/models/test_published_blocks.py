"""The functions of ResNet's, HRNet's and MobileNetV2's blocks, written out with plain convolutions.

Costs, shapes and names of weights are tested elsewhere; none of them sees a missing activation or shortcut.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.fabric_genotype import Backbone
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.models.backbone import AutoPosePyramid
from autopose.models.hrnet import ExchangeModule, HRNet
from autopose.models.mobilenetv2 import InvertedResidual, MobileNetV2
from autopose.models.residual import BasicBlock, Bottleneck


def _made(module: nn.Module) -> Any:
    """Return a module for inference whose normalisations have statistics, scales and shifts of their own."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.5, 0.5), (layer.running_var, 0.5, 2.0), (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
            ):  # fmt: skip
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    return module.eval()


def _input(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _conv_bn(x: Tensor, conv: Any, bn: Any, *, stride: int = 1, groups: int = 1) -> Tensor:
    y = F.conv2d(x, conv.weight, None, stride, conv.weight.shape[-1] // 2, 1, groups)
    mean, variance, scale, shift = (
        tensor[None, :, None, None] for tensor in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    result: Tensor = (y - mean) / torch.sqrt(variance + 1e-5) * scale + shift
    return result


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "stride"), [(8, 1), (6, 1), (8, 2)])
def test_the_basic_block(inputs: int, stride: int) -> None:
    block, x = _made(BasicBlock(inputs, 8, stride)), _input(2, inputs, 8, 6)
    y = F.relu(_conv_bn(x, block.conv1, block.bn1, stride=stride))
    y = _conv_bn(y, block.conv2, block.bn2)
    y = y + (x if (inputs, stride) == (8, 1) else _conv_bn(x, *block.downsample, stride=stride))
    torch.testing.assert_close(block(x), F.relu(y))


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "stride"), [(32, 1), (8, 1), (32, 2)])
def test_the_bottleneck(inputs: int, stride: int) -> None:
    block, x = _made(Bottleneck(inputs, 8, stride)), _input(2, inputs, 8, 6)
    y = F.relu(_conv_bn(x, block.conv1, block.bn1))
    y = F.relu(_conv_bn(y, block.conv2, block.bn2, stride=stride))
    y = _conv_bn(y, block.conv3, block.bn3)
    y = y + (x if (inputs, stride) == (32, 1) else _conv_bn(x, *block.downsample, stride=stride))
    torch.testing.assert_close(block(x), F.relu(y))


@torch.no_grad()
@pytest.mark.parametrize(("outputs", "stride"), [(8, 1), (12, 1), (8, 2)])
def test_the_inverted_residual(outputs: int, stride: int) -> None:
    block, x = _made(InvertedResidual(8, outputs, stride, 6)), _input(2, 8, 8, 6) * 4  # beyond the 6 of ReLU6
    (expand, bn1, _), (depthwise, bn2, _), project, bn3 = block.conv
    y = _conv_bn(x, expand, bn1).clamp(0, 6)
    y = _conv_bn(y, depthwise, bn2, stride=stride, groups=48).clamp(0, 6)
    y = _conv_bn(y, project, bn3)
    torch.testing.assert_close(block(x), x + y if (outputs, stride) == (8, 1) else y)
    assert (y < 0).any()  # no activation at the end


@torch.no_grad()
def test_mobilenetv2_taps_what_the_published_code_taps() -> None:
    network, image = _made(MobileNetV2()), _input(1, 3, 64, 64)
    x, expected = image, []
    for number in range(17):
        x = network.features[number](x)
        if number in (3, 6, 13, 16):
            expected.append(x)
    for found, wanted in zip(network(image), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert [x.shape[-1] for x in expected] == [16, 8, 4, 2]


@torch.no_grad()
def test_hrnets_exchange() -> None:
    """Coarser streams are narrowed, then enlarged; finer ones go down in steps, with ReLU between, not at the end."""
    widths = (4, 8, 16)
    module = _made(ExchangeModule(widths, 3))
    streams = [_input(2, width, 16 // 2**level, 16 // 2**level) for level, width in enumerate(widths)]
    processed = [branch(x) for branch, x in zip(module.branches, streams, strict=True)]
    for target, found in enumerate(module(streams)):
        total = torch.zeros_like(found)
        for source, x in enumerate(processed):
            layers = module.fuse_layers[target][source]
            if source > target:
                y = _conv_bn(x, layers[0], layers[1])
                y = y.repeat_interleave(2 ** (source - target), -1).repeat_interleave(2 ** (source - target), -2)
            elif source < target:
                y = x
                for step in range(target - source):
                    y = _conv_bn(F.relu(y) if step else y, layers[step][0], layers[step][1], stride=2)
            else:
                y = x
            total += y
        torch.testing.assert_close(found, F.relu(total))


@torch.no_grad()
def test_hrnet_from_stage_to_stage() -> None:
    network, image = _made(HRNet(3, 8)), _input(1, 3, 64, 64)
    x = F.relu(_conv_bn(image, network.conv1, network.bn1, stride=2))
    x = network.layer1(F.relu(_conv_bn(x, network.conv2, network.bn2, stride=2)))

    def enter(layers: Any, streams: list[Tensor]) -> list[Tensor]:
        """Adapt widths (ReLU after it) and add a stream, by stride 2, from the coarsest of those before."""
        entered = []
        for place, layer in enumerate(layers):
            source = streams[min(place, len(streams) - 1)]
            if isinstance(layer, nn.Identity):
                entered.append(source)
            elif place < len(streams):
                entered.append(F.relu(_conv_bn(source, layer[0], layer[1])))
            else:
                entered.append(F.relu(_conv_bn(source, layer[0][0], layer[0][1], stride=2)))
        return entered

    streams = network.stage2(enter(network.transition1, [x]))
    streams = network.stage3(enter(network.transition2, streams))
    streams = network.stage4(enter(network.transition3, streams))
    head = network.final_layer
    torch.testing.assert_close(network(image), F.conv2d(streams[0], head.weight, head.bias))
    assert [len(network.stage2), len(network.stage3), len(network.stage4)] == [1, 4, 3]


@torch.no_grad()
def test_a_searched_network_as_a_pyramid_ends_in_relu() -> None:
    genotype = Genotype.load("small")
    assert isinstance(genotype, AutoPoseGenotype)
    pyramid, image = _made(AutoPosePyramid(Backbone(network="autopose", autopose=genotype))), _input(1, 3, 64, 64)
    streams = pyramid.stem(image)
    for module in pyramid.stages:
        streams = module(streams)
    assert any((x < 0).any() for x in streams)
    for found, x in zip(pyramid(image), streams, strict=True):
        torch.testing.assert_close(found, x.clamp(min=0))
