"""Growing a network keeps its function and leaves nothing dead."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint, save_checkpoint
from autopose.errors import ModelError
from autopose.genotype import AutoPoseGenotype
from autopose.models.network import build_network
from autopose.training.growth import grow, grows_into
from autopose.training.weights import initial_weights

SMALL = AutoPoseGenotype(
    individual=(("conv3", "skip", "skip", "skip", "maxpool3", "skip", "skip", "skip", "dwsep3", "skip"),) * 4,
    aggregation=(("skip", "skip", "skip", "skip", "skip", "skip", "skip", "skip", "conv3"),) * 4,
    scales=((1, 1, 0, 0), (0, 0, 0, 0), (1, 0, 0, 1)),
    channels=(4, 6, 8, 8),
    op_set="mobile",
    modules_per_stage=1,
    stem_channels=4,
    stem_expansion=2,
    head="sum",
    kind="autopose",
)
LARGER: dict[str, dict[str, object]] = {
    "wider": {"channels": (6, 6, 12, 16)},
    "stem": {"stem_channels": 6},
    "branches": {"scales": ((1, 1, 1, 1), (0, 1, 1, 0), (1, 1, 0, 1))},
    "modules": {"modules_per_stage": 2},
    "all": {
        "channels": (6, 8, 12, 16),
        "stem_channels": 6,
        "scales": ((1, 1, 1, 1), (0, 1, 1, 0), (1, 1, 0, 1)),
        "modules_per_stage": 3,
    },
}


def trained(genotype: AutoPoseGenotype) -> nn.Module:
    """Return a network whose statistics and normalisations are not those of a fresh one, in evaluation mode."""
    torch.manual_seed(3)
    network = build_network(genotype)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.randn(4, 3, 64, 64))
    return network.eval()


def outputs(genotype: AutoPoseGenotype, state: dict[str, Tensor], image: Tensor) -> Tensor:
    network = build_network(genotype).double().eval()
    network.load_state_dict(state)
    with torch.no_grad():
        result: Tensor = network(image)
    return result


@pytest.mark.parametrize("head", ["sum", "concat", "center"])
@pytest.mark.parametrize("change", LARGER)
def test_the_function_stays(change: str, head: str) -> None:
    small = AutoPoseGenotype.model_validate({**SMALL.model_dump(), "head": head})
    large = AutoPoseGenotype.model_validate({**small.model_dump(), **LARGER[change]})
    network = trained(small).double()
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = network(image)
    grown = grow(Checkpoint(small, network.state_dict(), metrics={"AP": 0.9}), large)
    assert not grown.metrics  # nobody has scored it
    found = outputs(large, dict(grown.state), image)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_everything_new_learns() -> None:
    large = AutoPoseGenotype.model_validate({**SMALL.model_dump(), **LARGER["all"]})
    network = build_network(large).train()
    network.load_state_dict(dict(grow(Checkpoint(SMALL, trained(SMALL).state_dict()), large).state))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for _ in range(4):  # some new weights get a gradient only after others have left zero
        optimizer.zero_grad()
        (network(torch.randn(2, 3, 64, 64)) - 1).square().mean().backward()
        optimizer.step()
    still = [name for name, p in network.named_parameters() if torch.equal(p, before[name])]
    assert not still


def test_init_grows(tmp_path: Path) -> None:
    large = AutoPoseGenotype.model_validate({**SMALL.model_dump(), **LARGER["wider"]})
    network = trained(SMALL)
    save_checkpoint(tmp_path / "last.safetensors", Checkpoint(SMALL, network.state_dict()))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
    found = outputs(large, dict(initial_weights(str(tmp_path), large).state), image.double())
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-3)


def test_what_does_not_grow() -> None:
    def other(**change: object) -> AutoPoseGenotype:
        return AutoPoseGenotype.model_validate({**SMALL.model_dump(), **change})

    assert not grows_into(SMALL, SMALL)
    assert not grows_into(SMALL, other(channels=(4, 6, 8, 4)))
    assert not grows_into(SMALL, other(scales=((1, 0, 1, 1), (0, 0, 0, 0), (1, 0, 0, 1))))
    assert not grows_into(SMALL, other(head="concat"))
    with pytest.raises(ModelError, match="does not hold"):
        grow(Checkpoint(SMALL, trained(SMALL).state_dict()), other(channels=(2, 6, 8, 8)))
    blind = other(individual=(("conv3",) * 10,) * 4)
    more = other(individual=(("conv3",) * 10,) * 4, scales=((1, 1, 1, 0), (0, 0, 0, 0), (1, 0, 0, 1)))
    with pytest.raises(ModelError, match="identity"):
        grow(Checkpoint(blind, trained(blind).state_dict()), more)
