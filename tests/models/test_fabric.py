"""Fabric networks: equations by hand, pruning without effect on the maps, parts and vectors."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from autopose.errors import GenotypeError
from autopose.fabric_genotype import EDGES, Backbone, FabricCell, FabricGenotype, FabricPart, full_parts
from autopose.genotype import Genotype
from autopose.models.fabric import FabricNetwork, KeypointVectors
from autopose.models.fabric_backbone import FabricBackbone
from autopose.models.fabric_cell import Cell
from autopose.models.fabric_ops import FABRIC_OPS
from autopose.models.network import build_network
from autopose.skeleton import COCO17

TINY = (4, 8, 12, 16)


def tiny(count: int = 3, **fields: Any) -> FabricGenotype:
    shape = {key: fields[key] for key in ("op_set", "depth", "hidden_states") if key in fields}
    defaults: dict[str, Any] = {
        "backbone": Backbone(network="stem", width=4),
        "channels": TINY,
        "parts": full_parts(fields.get("skeleton", "coco17"), count, **shape),
    }
    return FabricGenotype(**(defaults | fields))


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give normalisations statistics and every parameter a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
    return network.eval()


def test_cell_computes_the_published_equation() -> None:
    torch.manual_seed(0)
    cell = Cell({"parallel": (0, 6), "above": (1, 3)}, [("zero", "skip", "maxpool3")], 6, candidates=4).eval()
    same, finer = torch.randn(2, 6, 8, 8), torch.randn(2, 3, 16, 16)
    beta, alpha = torch.tensor([0.3, -0.5]), torch.tensor([0.1, 0.7, -0.2])
    found = cell({"parallel": same, "above": finer}, beta, [alpha])

    share, weight = beta.softmax(0), alpha.softmax(0)
    down = cell.macro["above"].match(finer)  # type: ignore[operator]
    state = (3 * share[0] * same + 3 * share[1] * down).relu()
    pooled = cell.micro[0].ops["maxpool3"](state)  # type: ignore[index, operator]
    expected = cell.project(4 * weight[1] * state + 4 * weight[2] * pooled)
    torch.testing.assert_close(found, expected)
    nothing = Cell({"parallel": (0, 6)}, [("zero",)], 6, candidates=4).eval()
    found = nothing({"parallel": same}, torch.zeros(1), [torch.zeros(1)])
    torch.testing.assert_close(found, nothing.project(torch.zeros_like(same)))


def test_two_hidden_states_have_three_mixed_edges() -> None:
    cell = Cell({"parallel": (0, 4)}, [("skip",)] * 3, 4, candidates=1, nodes=2).eval()
    x = torch.rand(1, 4, 4, 4)
    found = cell({"parallel": x}, torch.zeros(1), [torch.zeros(1)] * 3)
    first = 3 * x
    torch.testing.assert_close(found, cell.project(torch.cat([first, first + first], 1)))


@pytest.mark.parametrize("name", sorted(FABRIC_OPS))
def test_every_op_keeps_the_shape(name: str) -> None:
    x = torch.randn(2, 4, 6, 6)
    assert FABRIC_OPS[name](4)(x).shape == x.shape


def test_heatmap_of_a_vector_is_its_squashed_length() -> None:
    head = KeypointVectors(4, joints=2, dimension=3)
    with torch.no_grad():
        head.project.weight.zero_()
        assert head.project.bias is not None
        head.project.bias.copy_(torch.tensor([1.0, 2.0, 2.0, 0.0, 0.6, 0.8]))
    maps = head(torch.rand(1, 4, 2, 2))
    torch.testing.assert_close(maps[0, :, 0, 0], torch.tensor([9 / 10, 1 / 2]))  # lengths 3 and 1


@pytest.mark.parametrize("vector", [1, 8])
@pytest.mark.parametrize("parts", [1, 3, 5, 8])
def test_maps_are_in_the_order_of_the_skeleton(parts: int, vector: int) -> None:
    network = randomized(FabricNetwork(tiny(parts, vector=vector), 17))
    image = torch.randn(1, 3, 32, 32)
    maps = network(image)
    assert maps.shape == (1, 17, 8, 8)
    assert isinstance(network, FabricNetwork)
    pyramid = network.backbone(image)
    expected = torch.zeros_like(maps)
    for name, joints in COCO17.parts[parts].items():
        own = network.heads[name](network.fabrics[name](pyramid))
        for number, joint in enumerate(joints):
            expected[:, COCO17.index(joint)] += own[:, number]  # joints of several parts are summed
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("backbone", ["stem", "fabric", "autopose", "hrnet", "mobilenetv2"])
def test_every_backbone_feeds_a_fabric(backbone: str) -> None:
    fields: dict[str, Any] = {"network": backbone, "width": 0 if backbone in ("mobilenetv2", "autopose") else 4}
    if backbone == "autopose":
        fields["autopose"] = Genotype.load("small")
    network = build_network(tiny(1, backbone=Backbone(**fields)), 17).train()
    maps = network(torch.randn(2, 3, 64, 32))
    assert maps.shape == (2, 17, 16, 8)
    maps.sum().backward()
    unused = [name for name, value in network.named_parameters() if value.grad is None]
    assert unused == []


def test_refuses_a_task_with_other_joints() -> None:
    with pytest.raises(GenotypeError, match="body parts of coco17"):
        build_network(tiny(1), 16)


def _zero_weight(network: FabricNetwork, part: FabricPart) -> None:
    """Give everything that ``part`` has not got a softmax weight of exactly zero."""
    fabric = network.fabrics[part.name]
    with torch.no_grad():
        for key, logits in fabric.beta.items():  # type: ignore[union-attr, operator]
            layer, level = map(int, key.split("-"))
            kept = part.cell(layer, level)
            if kept is not None:
                logits[[edge not in kept.edges for edge in EDGES]] = -1e4
        ops = tuple(fabric.cells["1-1"].micro[0].ops)  # type: ignore[union-attr, index]
        fabric.alpha["shared-0"][[op not in part.cells[0].ops[0] for op in ops]] = -1e4  # type: ignore[index]


@pytest.mark.parametrize("idle", [False, True])
def test_pruned_equals_unpruned_where_the_removed_weights_are_zero(idle: bool) -> None:
    topology = Genotype.load("pnfs-hrnet-cnf5-slim")
    assert isinstance(topology, FabricGenotype)
    whole = randomized(FabricNetwork(tiny(5), 17))
    assert isinstance(whole, FabricNetwork)
    for part in topology.parts:
        _zero_weight(whole, part)

    pruned = FabricNetwork(tiny(5, parts=topology.parts, idle_connections=idle), 17).eval()
    source = whole.state_dict()
    state = {}
    for key, value in pruned.state_dict().items():
        if ".beta." in key or ".alpha." in key:
            row = source[key]
            state[key] = row[row > -1e3]
            assert state[key].shape == value.shape
        else:
            state[key] = source[key]
    pruned.load_state_dict(state)

    assert sum(v.numel() for v in pruned.parameters()) < sum(v.numel() for v in whole.parameters())
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(pruned(image), whole(image), rtol=1e-4, atol=1e-6)


def test_fixed_logits_are_used_and_not_trained() -> None:
    (part,) = full_parts("coco17", 1)
    cells = tuple(
        FabricCell(
            layer=c.layer, level=c.level, edges=c.edges, ops=c.ops, beta=(1.0, 2.0, 3.0), alpha=((4.0, 3.0, 2.0, 1.0),)
        )
        for c in part.cells
    )
    genotype = tiny(1, weights="fixed", parts=(FabricPart(name="body", cells=cells),))
    network = FabricNetwork(genotype, 17)
    logits = {name: value for name, value in network.named_parameters() if ".alpha." in name or ".beta." in name}
    assert len(logits) == 7
    assert not any(value.requires_grad for value in logits.values())
    assert logits["fabrics.body.beta.1-0"].tolist() == [1.0, 2.0, 3.0]
    assert logits["fabrics.body.alpha.shared-0"].tolist() == [4.0, 3.0, 2.0, 1.0]
    own = FabricBackbone(genotype.model_copy(update={"backbone": Backbone(network="fabric", width=4)}))
    assert not any(value.requires_grad for value in (*own.alpha.values(), *own.beta.values()))


@pytest.mark.parametrize("backbone", ["mobilenetv2", "autopose"])
def test_a_width_that_would_change_nothing_is_refused(backbone: str) -> None:
    searched = Genotype.load("small") if backbone == "autopose" else None
    with pytest.raises(ValidationError, match="widths of its own"):
        Backbone.model_validate({"network": backbone, "width": 4, "autopose": searched})
