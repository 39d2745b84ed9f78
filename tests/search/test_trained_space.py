"""Branches searched with a trained network's cells and weights: what is inherited, what is refused, what comes out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from autopose.errors import ConfigError
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.models.batch_norm import settle_averages
from autopose.models.network import build_network
from autopose.search.config import SearchConfig
from autopose.search.latency import LatencyTable
from autopose.search.latency_networks import calibrate_space, random_networks
from autopose.search.loop import Run
from autopose.search.space import Draw, open_space, use_batch_statistics
from autopose.search.trained_space import TrainedSpace
from autopose.skeleton import skeleton_by_name

Make = Callable[..., SearchConfig]

TRAINED = AutoPoseGenotype(
    individual=(("conv3", "skip", "skip", "skip", "maxpool3", "skip", "skip", "skip", "conv1", "skip"),) * 4,
    aggregation=(("skip", "skip", "skip", "skip", "skip", "skip", "skip", "skip", "conv3"),) * 4,
    scales=((1, 1, 1, 0), (0, 1, 1, 1), (1, 0, 1, 1)),
    channels=(4, 6, 8, 8),
    modules_per_stage=2,
    stem_channels=4,
    stem_expansion=2,
    head="sum",
    kind="autopose",
)


def randomised(genotype: AutoPoseGenotype) -> nn.Module:
    """Return a network whose every parameter matters: fresh heads and normalisations would hide most of them."""
    torch.manual_seed(5)
    network = build_network(genotype)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim < 2:
                parameter.uniform_(0.5, 1.5)
            elif "predict" in name:
                parameter.normal_(std=0.3)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    save_checkpoint(path, Checkpoint(TRAINED, randomised(TRAINED).state_dict(), name="trained"))
    return path


@pytest.fixture(scope="module")
def space(weights: Path) -> TrainedSpace:
    opened = open_space("autopose", {"weights": str(weights)})
    assert isinstance(opened, TrainedSpace)
    return opened


def with_batch_statistics(network: nn.Module, state: dict[str, Tensor], images: Tensor) -> Tensor:
    network.load_state_dict(state)
    use_batch_statistics(network)
    with torch.no_grad():
        result: Tensor = network.double()(images)
    return result


def macro_of(space: TrainedSpace, *vectors: str) -> tuple[int, ...]:
    return tuple(space.vectors.index(tuple(int(bit) for bit in vector)) for vector in vectors)


def test_with_its_own_branches_it_is_the_trained_network(space: TrainedSpace, weights: Path) -> None:
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    macro = macro_of(space, "1110", "0111", "1011")
    supernet = space.supernet(17)
    genotype = space.derive(supernet, macro, name="n", provenance={})
    assert genotype.fingerprint() == TRAINED.fingerprint()
    with torch.no_grad():
        own = supernet.double()(images, Draw(macro))
    wanted = with_batch_statistics(build_network(TRAINED), load_checkpoint(weights).build().state_dict(), images)
    torch.testing.assert_close(own, wanted, rtol=0, atol=1e-9)
    assert wanted.std() > 0.1


@pytest.mark.parametrize("vectors", [("1111",) * 3, ("1000", "0000", "1001"), ("0000", "0010", "0100"), ("0000",) * 3])
def test_derived_weights_compute_what_the_supernet_computes(space: TrainedSpace, vectors: tuple[str, ...]) -> None:
    images = torch.randn(3, 3, 64, 64)
    macro, supernet = macro_of(space, *vectors), space.supernet(17)
    with torch.no_grad():  # as if it had been trained since
        for parameter in supernet.parameters():
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    genotype = space.derive(supernet, macro, name="n", provenance={})
    state = space.derived_weights(supernet, genotype, [images])
    assert state is not None
    found = with_batch_statistics(build_network(genotype), state, images.double())
    with torch.no_grad():
        wanted = supernet.double()(images.double(), Draw(macro))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_averages_are_plain_means_over_all_batches() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2, momentum=0.1))
    batches = [torch.randn(4, 3, 5, 5) * scale + scale for scale in (1.0, 2.0, 5.0)]
    settle_averages(network, batches)
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    maps = [network[0](batch).detach().numpy() for batch in batches]
    mean = sum(m.mean((0, 2, 3)) for m in maps) / 3
    variance = sum(m.transpose(1, 0, 2, 3).reshape(2, -1).var(1, ddof=1) for m in maps) / 3
    torch.testing.assert_close(norm.running_mean.numpy(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.numpy(), variance, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not network.training


@pytest.mark.parametrize("strategy", ["bilevel", "random"])
def test_a_search_ends_with_weights_of_its_genotype(
    strategy: str, tiny_search: Make, weights: Path, tmp_path: Path
) -> None:
    config = tiny_search(autopose={"weights": str(weights)}, arch_share=0, strategy=strategy)
    result = Run(config, tmp_path / "run").search()
    assert isinstance(result.genotype, AutoPoseGenotype)
    assert result.genotype.individual == TRAINED.individual
    assert Genotype.load(tmp_path / "run" / "genotype.json").fingerprint() == result.genotype.fingerprint()
    checkpoint = load_checkpoint(tmp_path / "run" / "best.safetensors")
    network = checkpoint.build()  # refuses what does not fit
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert network(images).isfinite().all()
    fresh = load_checkpoint(weights).state["stem.reduce.0.0.weight"]
    moved = (checkpoint.state["stem.reduce.0.0.weight"] - fresh).abs().max()
    assert 0 < moved < 0.1  # trained on from the given weights, not from others
    assert all(
        "arch_loss" not in json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    )


def test_too_large_networks_have_their_reward_divided(tiny_search: Make, weights: Path, tmp_path: Path) -> None:
    def rewards(limit: int) -> list[float]:
        config = tiny_search(
            autopose={"weights": str(weights)}, arch_share=0, reward="OKS", max_parameters=limit, epochs=1, iterations=1
        )
        run = Run(config, tmp_path / f"limit-{limit}")
        assert isinstance(run.space, TrainedSpace)
        return [run.strategy.score(macro_of(run.space, *vectors)) for vectors in (("1111",) * 3, ("0001",) * 3)]

    whole, part = (
        sum(
            parameter.numel()
            for parameter in build_network(TRAINED.model_copy(update={"scales": (bits,) * 3})).parameters()
        )
        for bits in ((1, 1, 1, 1), (0, 0, 0, 1))
    )
    free = rewards(0)
    assert min(free) > 0
    assert rewards(part) == pytest.approx([free[0] * part / whole, free[1]])
    assert rewards(whole) == pytest.approx(free)


def test_a_candidate_settles_alone_and_leaves_the_shared_weights_alone(
    tiny_search: Make, weights: Path, tmp_path: Path
) -> None:
    config = tiny_search(
        autopose={"weights": str(weights)}, arch_share=0, reward_steps=3, iterations=0, lr=5e-3, reward="OKS"
    )
    run = Run(config, tmp_path / "run")
    assert isinstance(run.space, TrainedSpace)
    strategy, macro = run.strategy, macro_of(run.space, "1100", "0000", "1001")
    before = {name: value.clone() for name, value in run.supernet.state_dict().items()}
    batches = list(run.data.batches("weights", 0, 3))

    def loss() -> float:
        with torch.no_grad():
            return sum(float(strategy.loss(batch, Draw(macro))) for batch in batches)

    plain = loss()
    with strategy.adapted(macro):
        assert loss() < plain
        idle = run.supernet.get_parameter("network.stages.2.individual.1.0.project.weight")
        assert torch.equal(idle, before["network.stages.2.individual.1.0.project.weight"])  # a stage that is off
    assert loss() == plain
    assert all(torch.equal(value, before[name]) for name, value in run.supernet.state_dict().items())
    assert strategy.score(macro) == strategy.score(macro) > 0


def test_a_search_without_shared_steps(tiny_search: Make, weights: Path, tmp_path: Path) -> None:
    config = tiny_search(autopose={"weights": str(weights)}, arch_share=0, reward_steps=1, iterations=0)
    result = Run(config, tmp_path / "run").search()
    assert result.genotype is not None
    derived = load_checkpoint(tmp_path / "run" / "best.safetensors").state
    given = load_checkpoint(weights).state
    parameters = [name for name in derived if name in given and "running" not in name and "batches" not in name]
    assert len(parameters) > 20
    assert torch.equal(derived["stem.reduce.0.0.weight"], given["stem.reduce.0.0.weight"])
    with pytest.raises(AssertionError):  # averages are those of the derived network
        torch.testing.assert_close(derived["stem.reduce.0.1.running_mean"], given["stem.reduce.0.1.running_mean"])


def test_refuses_images_for_cells_that_are_not_searched(tiny_search: Make) -> None:
    with pytest.raises(ValidationError, match="arch_share"):
        tiny_search(autopose={"weights": "fast"}, arch_share=0.5)


def test_refuses_a_detector() -> None:
    with pytest.raises(ConfigError, match="pose network"):
        open_space("autopose", {"weights": "detector-default"})


def test_refuses_another_skeleton(space: TrainedSpace) -> None:
    with pytest.raises(ConfigError, match="16"):
        space.supernet(16)


def test_networks_of_other_joints_can_be_drawn_for_a_table(tmp_path: Path) -> None:
    joints = skeleton_by_name("mpii16")
    state = build_network(TRAINED, 16).state_dict()
    save_checkpoint(tmp_path / "m.safetensors", Checkpoint(TRAINED, state, skeleton=joints, name="m"))
    opened = open_space("autopose", {"weights": str(tmp_path / "m.safetensors")})
    assert isinstance(opened, TrainedSpace)
    assert len(random_networks(opened, 4, joints=16)) == 4
    config = SearchConfig.model_validate(
        {
            "skeleton": "mpii16", "autopose": {"weights": str(tmp_path / "m.safetensors")},
            "search": {"arch_share": 0}, "codec": {"input_size_wh": [64, 64]},
        }
    )  # fmt: skip
    with pytest.raises(ConfigError, match="latency table has no"):  # and no word of the joints, which are right
        calibrate_space(LatencyTable(device="d", milliseconds={}), config, 4)
