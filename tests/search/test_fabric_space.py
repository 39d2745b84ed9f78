"""The fabric space behind the search's protocol: tables, gradients, pruning, weights handed on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from autopose.config import load_config
from autopose.errors import ConfigError
from autopose.fabric_genotype import FabricGenotype
from autopose.models.network import build_network
from autopose.search.bilevel import first_order, second_order
from autopose.search.config import SearchConfig
from autopose.search.fabric_pruning import kept_positions
from autopose.search.fabric_space import FabricSpace, FabricSpaceConfig
from autopose.search.fabric_supernet import FabricSupernet
from autopose.search.space import Draw, open_space

TINY: dict[str, Any] = {"backbone": "stem", "backbone_width": 4, "channels": (4, 8, 12, 16), "parts": 3}


def _open(**settings: Any) -> tuple[FabricSpace, FabricSupernet]:
    torch.manual_seed(0)
    space = open_space("fabric", TINY | settings)
    assert isinstance(space, FabricSpace)
    supernet = space.supernet(17)
    assert isinstance(supernet, FabricSupernet)
    return space, supernet


def test_tables_start_uniform_and_are_no_weights() -> None:
    space, supernet = _open()
    assert space.macro_choices == ()
    assert {name: tuple(table.shape) for name, table in supernet.arch.items()} == {
        f"{kind}_{part}": shape
        for part in ("head", "upper_limb", "lower_limb")
        for kind, shape in (("beta", (6, 3)), ("alpha", (1, 4)))
    }
    assert all(bool((table == 0).all()) for table in supernet.arch.values())
    assert not any("alpha" in name or "beta" in name for name, _ in supernet.named_weights())


@pytest.mark.parametrize("shared", [True, False])
def test_unpruned_supernet_equals_its_genotypes_network(shared: bool) -> None:
    space, supernet = _open(shared_alpha=shared, hidden_states=2, parts=5)
    supernet.arch["beta_legs"].data.normal_()
    supernet.arch["alpha_hips"].data.normal_()
    genotype = space.derive(supernet, (), name="whole", provenance={})
    weights = space.derived_weights(supernet, genotype)
    assert weights is not None
    network = build_network(genotype, 17)
    network.load_state_dict(weights)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(image), supernet.eval()(image, Draw()), rtol=1e-4, atol=1e-6)


def test_derive_prunes_what_has_no_weight_and_keeps_the_maps() -> None:
    space, supernet = _open()
    with torch.no_grad():
        supernet.arch["beta_head"][5] = torch.tensor([-200.0, -200.0, 3.0])  # the result reads the coarser cell only
        supernet.arch["beta_head"][0] = torch.tensor([-200.0, 0.5, 2.0])
        supernet.arch["alpha_head"][0] = torch.tensor([-200.0, 0.5, -200.0, 1.0])
    genotype = space.derive(supernet, (), name="pruned", provenance={"seed": 1})
    head, upper, _ = genotype.parts
    assert [(cell.layer, cell.level) for cell in head.cells] == [(1, 0), (1, 1), (1, 2), (2, 1), (3, 0)]
    assert head.cells[-1].edges == ("below",)
    assert (head.cells[0].edges, head.cells[0].beta) == (("above", "below"), (0.5, 2.0))
    assert head.cells[0].ops == (("skip", "sep3"),)
    assert head.cells[0].alpha == ((0.5, 1.0),)
    assert len(upper.cells) == 6
    coarse = FabricSpace(FabricSpaceConfig.model_validate(TINY | {"prune_below": 0.24}))
    with torch.no_grad():
        supernet.arch["alpha_upper_limb"][0] = torch.tensor([0.0, 0.1, 0.0, 0.1])  # 0.2375 and 0.2625
    for opened, ops in ((space, ("zero", "skip", "atr3", "sep3")), (coarse, ("skip", "sep3"))):
        assert opened.derive(supernet, (), name="n", provenance={}).parts[1].cells[0].ops == (ops,)
    supernet.arch["alpha_upper_limb"].data.zero_()
    weights = space.derived_weights(supernet, genotype)
    assert weights is not None
    network = build_network(genotype, 17)
    network.load_state_dict(weights)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(image), supernet.eval()(image, Draw()), rtol=1e-4, atol=1e-6)
    assert FabricGenotype.model_validate_json(genotype.to_json()) == genotype


@pytest.mark.parametrize(
    ("logits", "threshold", "kept"),
    [
        ([0.0, 0.0, 0.0], 1e-3, [0, 1, 2]),
        ([0.0, -6.0, 0.0], 1e-3, [0, 1, 2]),  # weight 1.2e-3
        ([0.0, -6.3, 0.0], 1e-3, [0, 2]),  # weight 0.9e-3
        ([0.0, -80.0, 0.0], 0.0, [0, 1, 2]),  # 1.8e-35: tiny, but FP32 still holds it
        ([0.0, -120.0, 0.0], 0.0, [0, 2]),  # rounds to zero: the published rule
        ([5.0, -100.0, -100.0], 0.1, [0]),
        ([0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], 0.2, [2]),  # all are below
    ],
)
def test_threshold(logits: list[float], threshold: float, kept: list[int]) -> None:
    assert kept_positions(torch.tensor(logits), threshold) == kept


def test_first_and_second_order_gradients_reach_every_table() -> None:
    _, supernet = _open()
    supernet.double()
    images, other = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)

    def loss_on(x: torch.Tensor) -> Any:
        def loss(weights: Any, arch: Any) -> torch.Tensor:
            values = {**weights, **{f"arch.{name}": value for name, value in arch.items()}}
            maps: torch.Tensor = torch.func.functional_call(supernet, values, (x, Draw()))
            return (maps - 0.1).square().mean()

        return loss

    weights, arch = dict(supernet.named_weights()), dict(supernet.arch.items())
    for found in (
        first_order(loss_on(images), weights, arch),
        second_order(loss_on(other), loss_on(images), weights, arch, lr=1e-3),
    ):
        assert found.keys() == arch.keys()
        assert all(bool(torch.isfinite(grad).all()) and float(grad.abs().sum()) > 0 for grad in found.values())


def test_first_order_gradient_against_finite_differences() -> None:
    _, supernet = _open(parts=1)
    supernet.double().eval()
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    table = supernet.arch["alpha_body"]
    loss = supernet(image, Draw()).square().sum()
    (grad,) = torch.autograd.grad(loss, [table])
    step = 1e-6
    for column in range(4):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                table[0, column] += sign * step
                sides.append(float(supernet(image, Draw()).square().sum()))
                table[0, column] -= sign * step
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(grad[0, column]), rel=1e-4, abs=1e-7)


def test_random_tables_hand_no_weights_on() -> None:
    space, supernet = _open()
    supernet.randomize(torch.Generator().manual_seed(2))
    genotype = space.derive(supernet, (), name="random", provenance={})
    assert genotype.parts[0].cells[0].beta == pytest.approx(supernet.arch["beta_head"][0].tolist())
    assert space.derived_weights(supernet, genotype) is None


def test_refuses_a_backbone_that_is_not_described() -> None:
    with pytest.raises(ConfigError, match="backbone_genotype = None"):
        FabricSpace(FabricSpaceConfig(backbone="autopose"))
    with pytest.raises(ConfigError, match="of kind 'reference'"):
        FabricSpace(FabricSpaceConfig(backbone="autopose", backbone_genotype="hrnet-w32"))


def test_the_backbone_starts_from_the_given_weights(tmp_path: Path) -> None:
    given = _open()[1].network.get_submodule("backbone.features").state_dict()
    save_file({name: value + 1 for name, value in given.items()}, tmp_path / "stem.safetensors")
    found = _open(backbone_weights=str(tmp_path / "stem.safetensors"))[1].network.state_dict()
    for name, value in given.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(found[f"backbone.features.{name}"], value + 1)


def test_a_searched_network_can_be_the_backbone() -> None:
    space, _ = _open(backbone="autopose", backbone_width=0, backbone_genotype="small")
    assert space.whole.backbone.autopose is not None


@pytest.mark.parametrize("joints", ["posetrack17", "mpii16"])  # as many as coco17, and fewer
def test_refuses_body_parts_of_other_joints_before_the_search(joints: str) -> None:
    chosen = ["space=fabric", f"skeleton={joints}"]
    with pytest.raises(ConfigError, match=rf"fabric.skeleton = 'coco17'.* skeleton = '{joints}'"):
        load_config(SearchConfig, "smoke", chosen, group="search")
    assert load_config(SearchConfig, "smoke", [*chosen, f"fabric.skeleton={joints}"], group="search").skeleton == joints
    assert load_config(SearchConfig, "smoke", chosen[1:], group="search").skeleton == joints  # of the other space
