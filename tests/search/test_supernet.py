"""The AutoPose supernet: what runs, what is shared, what is derived."""

import pytest
import torch

from autopose.errors import ConfigError
from autopose.genotype import OP_SETS, AutoPoseGenotype, Genotype
from autopose.models.network import build_network
from autopose.search.space import Draw, SearchSpace, Supernet, open_space

TINY = {"channels": (4, 4, 4, 4), "stem_channels": 4, "stem_expansion": 1, "modules_per_stage": 1}


def _space(**settings: object) -> SearchSpace:
    return open_space("autopose", TINY | settings)


def _images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def _random_draw(supernet: Supernet, macro: tuple[int, ...]) -> Draw:
    return Draw(macro, supernet.sample_noise(torch.Generator().manual_seed(3)))


def test_tables_are_one_pair_of_cells_per_branch_or_one_pair() -> None:
    supernet = _space().supernet(17)
    assert sum(table.shape[0] for table in supernet.arch.values()) == 76
    assert all(float(table.detach().std()) == pytest.approx(1e-3, rel=0.5) for table in supernet.arch.values())
    norms = [part for part in supernet.stages.modules() if isinstance(part, torch.nn.BatchNorm2d)]  # type: ignore[union-attr]
    assert norms
    assert not any(norm.affine for norm in norms)  # of all operations the size is the same
    assert sum(table.shape[0] for table in _space(sharing="global").supernet(17).arch.values()) == 19
    assert {table.shape[1] for table in _space(op_set="mobile").supernet(17).arch.values()} == {8}


def test_tokens_are_scale_vectors() -> None:
    space = _space()
    assert space.macro_choices == (16, 16, 16)
    assert space.describe_macro((0, 5, 15)) == "0000 0101 1111"
    assert _space(token="bits").macro_choices == (2,) * 12
    assert _space(branches="single").macro_choices == (5, 5, 5)
    assert _space(branches="all").describe_macro(()) == "1111 1111 1111"


def test_inactive_branches_take_no_part_but_feed_the_active_ones() -> None:
    torch.manual_seed(0)
    supernet = _space().supernet(17)
    maps = supernet(_images(), _random_draw(supernet, (8, 0, 0)))  # 1000 in stage 1, nothing afterwards
    assert maps.shape == (2, 17, 16, 16)
    maps.square().sum().backward()
    touched = {name for name, weight in supernet.named_weights() if weight.grad is not None}
    assert not any(name.startswith(("stages.1.", "stages.2.", "stages.0.individual.1")) for name in touched)
    assert any(name.startswith("stages.0.individual.0") for name in touched)
    assert all(f"stem.branches.{b}.0.weight" in touched for b in range(4))  # unprocessed streams are aggregated
    assert any(name.startswith("stages.0.resize.0.3") for name in touched)
    for name, table in supernet.arch.items():
        moved = table.grad is not None and bool(table.grad.abs().sum() > 0)
        assert moved == name.endswith("_0"), name


def test_all_off_is_stem_and_head() -> None:
    supernet = _space().supernet(17)
    images = _images()
    expected = supernet.head(supernet.stem(images))  # type: ignore[operator]
    torch.testing.assert_close(supernet(images, _random_draw(supernet, (0, 0, 0))), expected)


def test_sampling_is_the_same_for_the_same_generator() -> None:
    supernet = _space().supernet(17)
    a = supernet(_images(), _random_draw(supernet, (15, 15, 15)))
    b = supernet(_images(), _random_draw(supernet, (15, 15, 15)))
    assert torch.equal(a, b)


def test_a_cold_mixture_is_the_sampled_operation() -> None:
    maps = []
    for mode in ("single", "soft"):
        torch.manual_seed(0)
        supernet = _space(alpha_gradient=mode).supernet(17)
        for supernet.temperature in (1.0, 1e-6):
            maps.append(supernet(_images(), _random_draw(supernet, (8, 0, 0))))
    sampled, also_sampled, warm, cold = maps
    torch.testing.assert_close(cold, sampled)
    assert torch.equal(also_sampled, sampled)
    assert not torch.allclose(warm, sampled)


@pytest.mark.parametrize("settings", [{}, {"sharing": "global"}, {"fusion": "concat"}, {"op_set": "mobile"}])
def test_derived_genotype_is_the_argmax_at_doubled_width(settings: dict[str, object]) -> None:
    space = _space(**settings)
    supernet = space.supernet(17)
    supernet.randomize(torch.Generator().manual_seed(1))
    genotype = space.derive(supernet, (9, 0, 15), name="n", provenance={"seed": 1})
    assert isinstance(genotype, AutoPoseGenotype)
    assert genotype.channels == (8, 8, 8, 8)
    assert genotype.scales == ((1, 0, 0, 1), (0, 0, 0, 0), (1, 1, 1, 1))
    table = supernet.arch["individual" if "sharing" in settings else "individual_2"]
    names = supernet.choices["individual" if "sharing" in settings else "individual_2"]
    assert genotype.individual[2] == tuple(names[k] for k in table.argmax(-1))
    assert Genotype.from_dict(genotype.model_dump(mode="json")) == genotype
    with torch.no_grad():
        assert build_network(genotype, 17).eval()(_images()).shape == (2, 17, 16, 16)


def test_no_aggregation_has_no_aggregation_tables() -> None:
    assert all(name.startswith("individual") for name in _space(fusion="concat").supernet(17).arch)


def test_statistics_are_those_of_the_batch_in_evaluation_too() -> None:
    supernet = _space().supernet(17)
    draw = Draw((15, 15, 15))
    torch.testing.assert_close(supernet.train()(_images(), draw), supernet.eval()(_images(), draw))


def test_refuses_unknown_spaces_and_settings() -> None:
    with pytest.raises(ConfigError, match="expected one of autopose"):
        open_space("darts", {})
    with pytest.raises(ConfigError, match="op_set"):
        open_space("autopose", {"op_set": "huge"})
    with pytest.raises(ConfigError, match="token"):
        open_space("autopose", {"token": "bits", "branches": "single"})


def _derived_state(supernet: Supernet, genotype: AutoPoseGenotype) -> dict[str, torch.Tensor]:
    """Return a supernet's weights under the names that they have in a network of the same widths."""
    state: dict[str, torch.Tensor] = {}
    parts: dict[str, list[torch.Tensor]] = {}
    for name, value in supernet.state_dict().items():
        if ".edges." in name:
            cell, _, rest = name.partition(".edges.")
            edge, op, parameter = rest.split(".", 2)
            kind, branch = cell.split(".")[2:4]
            chosen = getattr(genotype, kind)[int(branch)]
            if OP_SETS[genotype.op_set][int(op)] == chosen[int(edge)]:
                place = sum(earlier != "skip" for earlier in chosen[: int(edge)])
                state[f"{cell}.ops.{place}.{parameter}"] = value
        elif ".parts." in name:
            parts.setdefault(name.partition(".parts.")[0], []).append(value)
        else:
            state[name] = value
    for owner, values in parts.items():
        state[owner + (".weight" if owner.endswith("project") else ".project.0.weight")] = torch.cat(values, 1)
    return state


@pytest.mark.parametrize("settings", [{}, {"fusion": "concat"}, {"op_set": "mobile"}, {"modules_per_stage": 2}])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_supernet_computes_what_the_network_derived_from_it_does(settings: dict[str, object], seed: int) -> None:
    """A ranking by shared weights is one of the derived networks only if the two are the same function."""
    space = _space(derived_multiplier=1, **settings)
    torch.manual_seed(seed)
    supernet = space.supernet(17).double()
    supernet.randomize(torch.Generator().manual_seed(seed))
    macro = (15, 9, 15)
    genotype = space.derive(supernet, macro, name="n", provenance={})
    assert isinstance(genotype, AutoPoseGenotype)
    network = build_network(genotype, 17).double().train()  # normalises by the batch, as the supernet does
    own, given = network.state_dict(), _derived_state(supernet, genotype)
    assert not [name for name, value in own.items() if value.dim() > 1 and name not in given]
    network.load_state_dict({name: value for name, value in given.items() if name in own}, strict=False)
    expected = supernet(_images().double(), Draw(macro))
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(network(_images().double()), expected, rtol=0, atol=1e-6 * scale)
