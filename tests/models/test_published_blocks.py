"""The functions of all networks' blocks, written out with plain convolutions.

Costs, shapes and names of weights are tested elsewhere; none of them sees a missing activation or shortcut.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.fabric_genotype import Backbone, FabricGenotype, full_parts
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.models.backbone import AutoPosePyramid
from autopose.models.fabric_backbone import FabricBackbone
from autopose.models.fabric_cell import MacroEdge
from autopose.models.fabric_ops import FABRIC_OPS
from autopose.models.heads import CenterHead, ConcatHead, SumHead
from autopose.models.hrnet import ExchangeModule, HRNet
from autopose.models.mobilenetv2 import InvertedResidual, MobileNetV2
from autopose.models.multiscale import ConcatFusion, MultiScaleModule, resize
from autopose.models.network import Stem
from autopose.models.ops import OPS
from autopose.models.residual import BasicBlock, Bottleneck
from autopose.models.resnet import SimpleBaseline


def _made(module: nn.Module) -> Any:
    """Return a module for inference whose normalisations have statistics, scales and shifts of their own."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.5, 0.5), (layer.running_var, 0.5, 2.0), (layer.weight, 0.5, 1.5),
                (layer.bias, -0.5, 0.5),
            ):  # fmt: skip
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.std() < 0.01:
            layer.weight.data.normal_(std=0.1, generator=generator)  # last layers begin near nothing
    return module.eval()


def _input(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def _conv_bn(x: Tensor, conv: Any, bn: Any, *, stride: int = 1, groups: int = 1) -> Tensor:
    y = F.conv2d(x, conv.weight, conv.bias, stride, conv.weight.shape[-1] // 2, 1, groups)
    free = bn.weight is None  # of scale and shift
    scale, shift = (torch.ones_like(bn.running_mean), 0 * bn.running_mean) if free else (bn.weight, bn.bias)
    mean, variance, scale, shift = (
        tensor[None, :, None, None] for tensor in (bn.running_mean, bn.running_var, scale, shift)
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
                y = _enlarged(y, 2 ** (source - target))
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
def test_simplebaseline_from_stage_to_stage() -> None:
    network, image = _made(SimpleBaseline(3, 50, 4)), _input(1, 3, 64, 64)
    backbone = network.backbone
    x = _conv_bn(image, backbone.conv1, backbone.bn1, stride=2).clamp(min=0)
    x = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).amax((-1, -2))
    for layer, side in ((backbone.layer1, 16), (backbone.layer2, 8), (backbone.layer3, 4), (backbone.layer4, 2)):
        x = layer(x)
        assert x.shape[-2:] == (side, side)
    for deconvolution, norm in zip(network.deconv_layers[::3], network.deconv_layers[1::3], strict=True):
        y = F.conv_transpose2d(x, deconvolution.weight, None, 2, 1)
        x = F.relu(F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias))
    head = network.final_layer
    torch.testing.assert_close(network(image), F.conv2d(x, head.weight, head.bias))


def test_last_layers_begin_near_nothing() -> None:
    torch.manual_seed(0)
    baseline = SimpleBaseline(17, 50, 8)
    heads = [
        HRNet(17, 8).final_layer,
        baseline.final_layer,
        ConcatHead(WIDTHS, 17).predict,
        SumHead(WIDTHS, 17).predict,
    ]
    for head in heads:
        assert head.bias is not None
        assert not head.bias.any()
    center = CenterHead(WIDTHS, 64, 8).predict
    for layer in (*heads, center, *list(baseline.deconv_layers)[::3]):
        assert isinstance(layer.weight, Tensor)
        assert layer.weight.std().item() == pytest.approx(1e-3, rel=0.2)
    assert center.bias is not None
    assert center.bias.tolist() == pytest.approx([-4.6, 1.5, 2.5, 0.5, 0.5])  # 1 %; e^1.5 by e^2.5 cells; in the middle


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


#: Widths of four branches, and streams of them.
WIDTHS = (4, 6, 8, 10)


def _streams() -> list[Tensor]:
    return [_input(2, width, 16 >> branch, 8 >> branch) for branch, width in enumerate(WIDTHS)]


@torch.no_grad()
def test_the_stem_of_a_searched_network() -> None:
    genotype = Genotype.load("small")
    assert isinstance(genotype, AutoPoseGenotype)
    stem, image = _made(Stem(genotype)), _input(1, 3, 64, 64)
    first, _, second, _, bottleneck = stem.reduce
    x = F.relu(_conv_bn(F.relu(_conv_bn(image, *first, stride=2)), *second, stride=2))
    y = F.relu(_conv_bn(x, *bottleneck.body[0]))
    y = _conv_bn(F.relu(_conv_bn(y, *bottleneck.body[2])), *bottleneck.body[4])
    same = isinstance(bottleneck.shortcut, nn.Identity)
    x = F.relu(y + (x if same else _conv_bn(x, *bottleneck.shortcut)))
    for level, (branch, found) in enumerate(zip(stem.branches, stem(image), strict=True)):
        x = _conv_bn(F.relu(x), *branch, stride=2 if level else 1)
        torch.testing.assert_close(found, x)


@torch.no_grad()
@pytest.mark.parametrize("target", range(4))
def test_a_stream_resized_for_another_branch(target: int) -> None:
    for source, x in enumerate(_streams()):
        module = _made(resize(source, target, WIDTHS))
        if source > target:
            assert module.match[0].weight.shape == (WIDTHS[target], WIDTHS[source], 1, 1)
            y = _enlarged(_conv_bn(F.relu(x), *module.match), 2 ** (source - target))
        else:
            y = x
            for step in range(target - source):
                y = _conv_bn(F.relu(y), *module[2 * step + 1], stride=2)
                assert y.shape[1] == WIDTHS[target if step == target - source - 1 else source]
        torch.testing.assert_close(module(x), y)


@torch.no_grad()
@pytest.mark.parametrize("asked", [None, [1, 3]])
def test_a_module_aggregates_what_its_individual_cells_give(asked: list[int] | None) -> None:
    """Not what a branch before it has aggregated, and the stream itself of a branch that is not processed."""
    module = _made(MultiScaleModule([["conv3"] * 10] * 4, [["conv1"] * 9] * 4, [1, 1, 0, 1], WIDTHS))
    streams = _streams()
    active = asked or [0, 1, 3]
    given = [module.individual[str(b)](x) if b in active else x for b, x in enumerate(streams)]
    for b, found in enumerate(module(streams, asked)):
        at_scale = [resize(x) for resize, x in zip(module.resize[str(b)], given, strict=True)] if b in active else []
        torch.testing.assert_close(found, module.aggregation[str(b)](*at_scale) if b in active else streams[b])


@torch.no_grad()
def test_heads_and_fusion_of_a_searched_network() -> None:
    streams = _streams()
    head: Any = _made(ConcatHead(WIDTHS, 5))
    together = torch.cat([_enlarged(F.relu(x), 2**branch) for branch, x in enumerate(streams)], 1)
    torch.testing.assert_close(head(streams), F.conv2d(together, head.predict.weight, head.predict.bias, 1, 1))

    head = _made(SumHead(WIDTHS, 5))
    matched = [_conv_bn(F.relu(x), *match) for x, match in zip(streams, head.match, strict=True)]
    total = sum(_enlarged(x, 2**branch) for branch, x in enumerate(matched))
    expected = F.conv2d(F.relu(total), head.predict.weight, head.predict.bias, 1, 1)  # type: ignore[arg-type]
    torch.testing.assert_close(head(streams), expected)

    for stride in (4, 8):
        head = _made(CenterHead(WIDTHS, 7, stride))
        matched = [_conv_bn(F.relu(x), *match) for x, match in zip(streams, head.match, strict=True)]
        total = sum(_enlarged(x, 2**branch) for branch, x in enumerate(matched))
        if stride == 8:  # the mean of each two by two
            total = total.unflatten(-1, (-1, 2)).mean(-1).unflatten(-2, (-1, 2)).mean(-2)  # type: ignore[union-attr]
        y = F.relu(_conv_bn(F.relu(total), *head.mix[1]))  # type: ignore[arg-type]
        torch.testing.assert_close(head(streams), F.conv2d(y, head.predict.weight, head.predict.bias))
        assert head.predict.bias[0].sigmoid() == pytest.approx(0.01, abs=1e-4)

    alike = [_input(2, 4, 8, 8) - k for k in range(4)]
    fusion = _made(ConcatFusion(4))
    torch.testing.assert_close(fusion(*alike), _conv_bn(F.relu(torch.cat(alike, 1)), *fusion.project))


@torch.no_grad()
def test_separable_operations_and_pools() -> None:
    """A pool's mean is over what lies inside of the map."""
    x = _input(2, 4, 8, 8)
    count = F.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3), padding=1)
    mean = F.conv2d(x, torch.ones(4, 1, 3, 3), padding=1, groups=4) / count
    largest = F.pad(x, (1, 1, 1, 1), value=-9.0).unfold(2, 3, 1).unfold(3, 3, 1).amax((-1, -2))
    for name in ("dwsep3", "dwsep5"):
        module = _made(OPS[name](4, True))
        y = F.relu(_conv_bn(x, *module[0], groups=4))
        torch.testing.assert_close(module(x), _conv_bn(y, *module[2]))
        assert module[0][0].kernel_size == (int(name[-1]),) * 2
    for module in (_made(OPS["avgpool3"](4, True)), _made(FABRIC_OPS["avgpool3"](4))):
        torch.testing.assert_close(module(x), module[1](mean))
    for module in (_made(OPS["maxpool3"](4, True)), _made(FABRIC_OPS["maxpool3"](4))):
        torch.testing.assert_close(module(x), module[1](largest))
    for name, dilation, times in (("sep3", 1, 2), ("sep5", 1, 2), ("atr3", 2, 1), ("atr5", 2, 1)):
        module, size, y = _made(FABRIC_OPS[name](4)), int(name[-1]), x
        assert len(module) == 4 * times
        for start in range(0, 4 * times, 4):
            depthwise, pointwise, norm, _ = list(module)[start : start + 4]
            assert depthwise.weight.shape == (4, 1, size, size)
            y = F.conv2d(y, depthwise.weight, None, 1, dilation * (size // 2), dilation, 4)
            y = F.relu(_conv_bn(y, pointwise, norm))
        torch.testing.assert_close(module(x), y)


@torch.no_grad()
def test_a_coarser_map_on_its_way_into_a_fabrics_cell() -> None:
    """Matched, then twice as large: the corners stay corners, between them straight lines."""
    edge, x = _made(MacroEdge(-1, 6, 4)), _input(2, 6, 4, 3)
    y = _conv_bn(x, *edge.match)
    for axis, size in ((-2, 4), (-1, 3)):
        at = torch.arange(2 * size) * (size - 1) / (2 * size - 1)
        before = at.long().clamp(max=size - 2)
        share = (at - before).reshape(-1, *[1] * (-1 - axis))
        y = y.index_select(axis, before) * (1 - share) + y.index_select(axis, before + 1) * share
    torch.testing.assert_close(edge(x), y)


@torch.no_grad()
def test_the_fabrics_own_backbone() -> None:
    """Neighbours that the layer before has not are replaced by the parallel cell; a new level has one edge."""
    genotype = FabricGenotype(
        backbone=Backbone(network="fabric", width=4), channels=(4, 6, 8, 10), parts=full_parts("coco17", 1)
    )
    backbone, image = _made(FabricBackbone(genotype)), _input(1, 3, 64, 64)
    for logits in backbone.beta.values():
        logits.copy_(_input(len(logits)))
    first, second, _, match = backbone.stem
    x = F.relu(_conv_bn(_conv_bn(image, *first, stride=2), *second, stride=2))
    maps = [F.conv2d(x, match.weight, match.bias)]
    alpha = [backbone.alpha["shared-0"]]
    for layer, cells in enumerate(backbone.layers):
        levels, made = len(maps), []
        for level, cell in enumerate(cells):
            inputs = {
                "parallel": maps[min(level, levels - 1)],
                "above": maps[max(level - 1, 0)],
                "below": maps[level + 1 if level + 1 < levels else min(level, levels - 1)],
            }
            made.append(cell({name: inputs[name] for name in cell.kept}, backbone.beta[f"{layer}-{level}"], alpha))
            assert cell.kept == (("above",) if level == levels else ("parallel", "above", "below"))
        maps = made
    for found, expected in zip(backbone(image), maps, strict=True):
        torch.testing.assert_close(found, expected)
