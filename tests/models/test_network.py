"""Derived networks: published cost, pass-through of inactive branches, shapes of every head."""

from typing import Any

import pytest
import torch
from torch import nn

from autopose.genotype import AutoPoseGenotype, Genotype, presets
from autopose.models.cost import GI, profile, profile_genotype
from autopose.models.network import AutoPoseNetwork, build_network


def _genotype(op: str = "conv1", bits: int = 1, **fields: Any) -> AutoPoseGenotype:
    cells = {"individual": [[op] * 10] * 4, "aggregation": [[op] * 9] * 4, "scales": [[bits] * 4] * 3}
    return AutoPoseGenotype.model_validate(cells | fields)


def test_reference_costs_what_the_paper_says() -> None:
    cost = profile(build_network(Genotype.load("reference")), (192, 256))
    assert cost.macs_gi == pytest.approx(10.65, rel=0.03)
    assert cost.macs_gi == cost.macs / 1024**3 == cost.macs / GI


@pytest.mark.parametrize(("op", "per_edge"), [("conv1", 1), ("conv3", 9), ("conv5", 25), ("skip", 0)])
def test_cost_of_uniform_networks_by_hand(op: str, per_edge: int) -> None:
    """Every edge costs kernel^2 u with u = C^2 H W, equal at all scales; 12 stage-branches of two modules."""
    u = 32 * 32 * 48 * 64
    cells = 12 * 2 * (2 * (10 * per_edge + 4) + 9 * per_edge + 2) * u
    network = AutoPoseNetwork(_genotype(op), 17)
    layers = profile(network).layers
    assert sum(macs for name, _, macs in layers if ".ops." in name or ".project" in name) == cells


@pytest.mark.parametrize("name", ["small", "detector-small", "pnfs-mobilenet-cnf3", "simplebaseline-50"])
def test_a_genotype_costs_what_its_network_does(name: str) -> None:
    genotype = Genotype.load(name)
    network = build_network(genotype, 17).eval()
    cost = profile_genotype(genotype, 17, (96, 128))
    assert cost == profile(network, (96, 128))
    with torch.no_grad():
        assert cost.output == network(torch.zeros(1, 3, 128, 96)).shape[1:]


def test_profiling_leaves_the_network_alone() -> None:
    network = build_network(_genotype(channels=(4, 4, 4, 4), stem_channels=4))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    profile(network)
    assert network.training
    assert network.state_dict().keys() == before.keys()  # thop leaves buffers behind; this must not
    assert all(not module._forward_hooks for module in network.modules())


def test_counts_against_torch_flop_counter() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    # conv1 everywhere: no cell has fewer terms than nodes, so every counted MAC is executed.
    network = build_network(_genotype(channels=(8, 8, 8, 8), stem_channels=8)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    assert counter.get_total_flops() == 2 * profile(network, (64, 64)).macs


def test_inactive_branches_pass_through_yet_feed_active_ones() -> None:
    torch.manual_seed(0)
    bits = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    network = AutoPoseNetwork(_genotype(channels=(4, 6, 8, 10), stem_channels=4, scales=bits, modules_per_stage=1), 17)
    network.eval()
    assert len(network.stages) == 1  # all-off stages vanish
    streams = [torch.randn(1, c, 16 >> b, 16 >> b) for b, c in enumerate((4, 6, 8, 10))]
    with torch.no_grad():
        out = network.stages[0](streams)
        for b in (1, 2, 3):
            assert out[b] is streams[b]
        moved = network.stages[0]([streams[0], *streams[1:3], streams[3] + 1])
    assert not torch.equal(moved[0], out[0])
    assert not any("individual.1" in name or "individual.3" in name for name, _ in network.stages.named_parameters())


def test_all_stages_off_is_stem_and_head() -> None:
    network = AutoPoseNetwork(_genotype(bits=0, channels=(4, 4, 4, 4), stem_channels=4), 17)
    assert len(network.stages) == 0
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 17, 16, 24)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"head": "concat"}, (2, 17, 16, 24)),
        ({"head": "sum"}, (2, 17, 16, 24)),
        ({"head": "center", "head_stride": 4, "head_channels": 8}, (2, 5, 16, 24)),
        ({"head": "center", "head_stride": 8, "head_channels": 8}, (2, 5, 8, 12)),
    ],
)
def test_every_head(fields: dict[str, Any], shape: tuple[int, ...]) -> None:
    network = build_network(_genotype("conv3", channels=(4, 4, 8, 8), stem_channels=4, modules_per_stage=1, **fields))
    x = torch.randn(2, 3, 64, 96)
    out = network(x)
    assert out.shape == shape
    out.square().mean().backward()
    # With batch statistics a normalised branch cannot be dead: every weight that counts has a finite gradient.
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("name", ["small", "detector-small"])
def test_small_presets_train_on_a_step(name: str) -> None:
    assert name in presets()
    network = build_network(Genotype.load(name))
    loss = network(torch.randn(2, 3, 64, 64)).square().mean()
    loss.backward()
    assert isinstance(network, nn.Module)
    assert torch.isfinite(loss)
