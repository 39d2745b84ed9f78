"""Samples, figures, alarms, ablations, recipes, reports: the parts around the loop."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from autopose.checkpoint import load_checkpoint
from autopose.config import load_config, packaged_configs
from autopose.errors import ConfigError, DataError, ModelError, UsageError
from autopose.genotype import OP_SETS, AutoPoseGenotype, Genotype
from autopose.models.network import build_network
from autopose.search.ablation import ABLATIONS, ablated
from autopose.search.config import LatencyConfig, SearchConfig
from autopose.search.latency import LatencyTable, all_units, report, units
from autopose.search.latency_goal import LatencyGoal, latency_factor
from autopose.search.loop import Run, SearchResult
from autopose.search.monitor import alarms, entropy, free_shares
from autopose.search.report import write_report
from autopose.search.samples import CachedReader, SearchData
from autopose.search.seeds import search, summary
from autopose.search.space import open_space
from autopose.search.strategy import Found
from autopose.training.sources import image_reader

Make = Callable[..., SearchConfig]


@pytest.mark.parametrize("name", ["smoke", "small", "paper", "small-cpu", "branches-cpu"])
def test_every_recipe_loads_and_says_what_it_is(name: str) -> None:
    config = load_config(SearchConfig, name, group="search")
    open_space(config.space, config.space_settings())
    head = packaged_configs("search")[name].read_text().split("\n\n")[0]
    assert all(word in head for word in ("# Reproduces:", "# Expect:", "# Command:"))


def test_the_paper_recipe_has_the_papers_numbers() -> None:
    config = load_config(SearchConfig, "paper", group="search")
    assert (config.search.epochs, config.search.iterations, config.search.arch_lr) == (50, 1100, 3e-3)
    controller = config.controller
    assert (controller.lr, controller.updates, controller.batch, controller.start_epoch) == (3.5e-3, 10, 2, 5)
    assert config.autopose.channels == (16, 32, 64, 128)


#: AutoPose, tables 4 and 5.
TABLES = {
    "single-branch": ("autopose", "branches", "single"),
    "no-aggregation": ("autopose", "fusion", "concat"),
    "all-branches": ("autopose", "branches", "all"),
    "search-128x96": ("codec", "input_size_wh", (96, 128)),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_ablation_changes_exactly_its_field(name: str) -> None:
    assert set(ABLATIONS) == set(TABLES)
    config = load_config(SearchConfig, "smoke", ["codec.input_size_wh=[192, 256]"], group="search")
    before, after = config.model_dump(), ablated(config, name).model_dump()
    section, field, value = TABLES[name]
    assert before[section].pop(field) != after[section].pop(field) == value
    assert before == after


def test_refuses_unknown_ablations_and_levels_without_data() -> None:
    with pytest.raises(UsageError, match="single-branch"):
        ablated(SearchConfig(), "none")
    bits = load_config(SearchConfig, "smoke", ["autopose.token=bits"], group="search")
    with pytest.raises(UsageError, match="--ablation single-branch does not go with"):
        ablated(bits, "single-branch")
    trained = load_config(SearchConfig, "branches-cpu", [], group="search")
    with pytest.raises(UsageError, match=r"--ablation no-aggregation: autopose\.weights"):
        ablated(trained, "no-aggregation")
    with pytest.raises(UsageError, match=r"--ablation all-branches does not go with.*nothing is left to search"):
        ablated(trained, "all-branches")
    with pytest.raises(ConfigError, match="arch_share"):
        load_config(SearchConfig, None, ["search.arch_share=0"])


@pytest.mark.parametrize("space", ["autopose", "fabric"])
def test_refuses_crops_that_the_coarsest_branch_cannot_halve(space: str) -> None:
    with pytest.raises(ConfigError, match=r"\[144, 192\].*multiples of 32"):
        load_config(SearchConfig, "small", [f"space={space}", "codec.input_size_wh=[144, 192]"], group="search")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["search.gradient=sync", "search.arch_first=true"], "arch_first"),
        (["codec.input_size_wh=[32, 32]"], "one cell of the coarsest branch"),
        (["space=fabric", "latency.table=cpu.json"], "latency.table.*fabric"),
        (["autopose.channels=[0, 16, 24, 32]"], "channels"),
        (["autopose.derived_multiplier=65"], "8320 channels; at most 8192"),  # found out after hours, before
        (["autopose.modules_per_stage=65"], "modules_per_stage"),
        (["autopose.stem_channels=100000"], "stem_channels"),
        (["autopose.stem_expansion=9000"], "stem_expansion"),
        (["search.strategy=random", "search.random_sharing=separate", "search.iterations=0"], "0 iterations among 10"),
    ],
)
def test_refuses_settings_without_effect(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(SearchConfig, None, settings)


def test_weights_architecture_and_reward_never_share_an_image(tiny_search: Make, tmp_path: Path) -> None:
    data = SearchData(tiny_search(), tmp_path)
    parts = [
        {person.image_path.name for person in persons}
        for persons in (data.weight_persons, data.arch_persons, data.tune_persons)
    ]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]


def test_the_reward_looks_at_whole_images_until_they_show_enough_persons(tiny_search: Make, tmp_path: Path) -> None:
    for wanted in range(1, 5):
        data = SearchData(tiny_search(reward_persons=wanted), tmp_path)
        shown = [person.image_path for person in data.tune_persons]
        assert len(shown) >= wanted > len([path for path in shown if path != shown[-1]])


def test_a_missing_picture_of_the_tune_split_is_told_before_the_search(tiny_search: Make, tmp_path: Path) -> None:
    picture = SearchData(tiny_search(), tmp_path).tune_persons[0].image_path
    moved = picture.rename(picture.with_name("moved.jpg"))
    try:
        with pytest.raises(DataError, match="1 of the tune split's pictures are missing"):
            SearchData(tiny_search(), tmp_path)
    finally:
        moved.rename(picture)


def test_images_are_kept_up_to_a_limit(tmp_path: Path) -> None:
    images = [np.full((4, 5, 3), value, np.uint8) for value in range(3)]
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    cached = CachedReader(image_reader(None, []), limit_bytes=2 * 60)
    for _ in range(2):
        for number, image in enumerate(images):
            np.testing.assert_array_equal(cached.read(tmp_path / f"{number}.png"), image)
    assert [path.stem for path in cached.images] == ["0", "1"]


def test_both_levels_learn_from_all_images_in_step(tiny_search: Make, tmp_path: Path) -> None:
    apart, together = SearchData(tiny_search(), tmp_path), SearchData(tiny_search(gradient="sync"), tmp_path)
    assert together.arch_persons == []
    assert len(together.weight_persons) == len(apart.weight_persons) + len(apart.arch_persons)


def test_batches_depend_on_the_step_alone(tiny_search: Make, tmp_path: Path) -> None:
    data = SearchData(tiny_search(), tmp_path)
    whole = list(data.batches("weights", 0, 3))
    late = list(data.batches("weights", 2, 3))
    assert all(torch.equal(a, b) for a, b in zip(whole[2], late[0], strict=True))
    other = next(iter(data.batches("arch", 0, 1)))
    assert not torch.equal(other[0], whole[0][0])


def test_entropy_and_shares_of_known_tables() -> None:
    supernet = open_space("autopose", {"channels": (4, 4, 4, 4), "stem_channels": 4}).supernet(2)
    with torch.no_grad():
        for table in supernet.arch.values():
            table.zero_()
    assert entropy(supernet.probabilities()) == pytest.approx(math.log(6), abs=1e-5)
    with torch.no_grad():
        for name, table in supernet.arch.items():
            table[:, 5 if name.startswith("individual") else 3 + ("0" in name)] = 50.0  # skip, avgpool3, maxpool3
    assert entropy(supernet.probabilities()) == pytest.approx(0, abs=1e-5)
    shares = free_shares(supernet)
    assert shares == {"skip_share": 40 / 76, "pool_share": 36 / 76, "free_share": 1.0}
    assert "collapsing" in alarms(shares, 0.75, 0.0)[0]
    with torch.no_grad():
        for table in supernet.arch.values():
            table *= 1.5 / 50  # softmax: 0.47 for the leader, 0.11 for each of the others
    assert free_shares(supernet) == {**shares, "free_share": 0.0}
    assert not alarms(free_shares(supernet), 0.75, 0.0)
    assert "one vector" in alarms({"free_share": 0.5, "controller_entropy": 0.01}, 0.75, 8.3)[0]
    assert not alarms({"free_share": 0.75, "controller_entropy": 0.17}, 0.75, 8.3)
    assert alarms({"free_share": 0.5, "controller_entropy": 0.16}, 0.75, 8.3)  # a fiftieth is 0.166


def _genotype() -> AutoPoseGenotype:
    return AutoPoseGenotype(
        individual=(("conv3",) + ("skip",) * 9,) * 4,
        aggregation=(("conv1",) * 2 + ("maxpool3",) + ("skip",) * 6,) * 4,
        scales=((1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
        channels=(8, 16, 24, 32),
        modules_per_stage=2,
        stem_channels=4,
        stem_expansion=1,
    )


def test_units_of_a_network_counted_by_hand() -> None:
    found = units(_genotype(), (64, 64))
    assert found.count("conv3:8@16x16") == 4  # two individual cells in two modules
    assert found.count("conv1:8@16x16") == 4
    assert found.count("maxpool3:8@16x16") == 2
    assert found.count("project4:8@16x16") == 4
    assert found.count("project2:8@16x16") == 2
    assert [name for name in found if name.startswith("resize")].count("resize3to0:32-8@16x16") == 2
    assert len(found) == 2 + 4 + 4 + 2 + 4 + 2 + 6
    assert set(found) <= set(all_units(_genotype(), (64, 64)))
    plain = units(_genotype().model_copy(update={"fusion": "concat"}), (64, 64))
    assert plain.count("project4:8@16x16") == 4 + 2  # four branches are joined as four nodes are
    assert len(plain) == 2 + 4 + 6 + 6


def test_latency_is_the_calibrated_sum(tmp_path: Path) -> None:
    table = LatencyTable(device="d", milliseconds={"a": 1.0, "b": 0.25})
    assert table.predict_ms(["a", "b", "b"]) == 1.5
    fitted = table.calibrated([1.0, 2.0, 3.0], [2.5, 4.5, 6.5])
    assert fitted.predict_ms(["a", "b", "b"]) == pytest.approx(3.5)
    fitted.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json") == fitted
    with pytest.raises(ConfigError, match="no 'c'"):
        table.predict_ms(["c"])
    with pytest.raises(ConfigError, match=r"bench RECIPE\.toml --ops"):  # without a recipe it measures another network
        table.of("c")
    with pytest.raises(DataError, match=r"bench RECIPE\.toml --ops"):
        LatencyTable.load(tmp_path / "none.json")
    assert report([1, 2, 3, 4], [10, 20, 40, 30])["spearman"] == pytest.approx(0.8)
    assert report([5.0, 30.0], [10.0, 20.0])["mean_relative_error"] == pytest.approx(0.5)
    with pytest.raises(DataError, match="Measure again"):
        table.calibrated([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    for broken, reason in (
        ({"scale": 0}, "scale: Input should be greater than 0"),
        ({"milliseconds": {"a": float("nan")}}, r"milliseconds\.a: .*finite"),
    ):
        (tmp_path / "broken.json").write_text(json.dumps(table.model_dump() | broken))
        with pytest.raises(DataError, match=reason):
            LatencyTable.load(tmp_path / "broken.json")


def test_no_network_takes_less_than_a_part(tiny_search: Make) -> None:
    """The line's constant may be negative, and with it the sum for next to nothing."""
    space = open_space("autopose", tiny_search().space_settings())
    supernet = space.supernet(2)
    names = all_units(space.template(2), (64, 64))  # type: ignore[attr-defined]
    table = LatencyTable(device="d", milliseconds=dict.fromkeys(names, 0.1) | {names[-1]: 0.05}, offset_ms=-0.5)
    assert table.predict_ms(names[:1]) == 0.05
    expected = space.expected_latency_ms(dict(supernet.arch.items()), (0, 0, 0), table, (64, 64))
    assert expected is not None
    assert float(expected) == pytest.approx(0.05)


def test_latency_factor() -> None:
    config = LatencyConfig(target_ms=20, exponent=-0.5)
    assert latency_factor(20, config) == pytest.approx(1)
    assert latency_factor(80, config) == pytest.approx(0.5)
    assert latency_factor(5, config) == pytest.approx(2)
    assert latency_factor(5, config.model_copy(update={"only_above": True})) == 1


def test_a_table_that_lacks_a_unit_is_refused_before_anything_runs(tiny_search: Make, tmp_path: Path) -> None:
    names = all_units(open_space("autopose", tiny_search().space_settings()).template(2), (64, 64))  # type: ignore[attr-defined]
    for kept, refused in ((names, False), (names[:-1], True)):
        LatencyTable(device="d", milliseconds=dict.fromkeys(kept, 0.1)).save(tmp_path / "table.json")
        config = tiny_search(latency={"table": str(tmp_path / "table.json")})
        if refused:
            with pytest.raises(ConfigError, match=f"no '{names[-1]}'"):
                Run(config, tmp_path / "refused")
        else:
            Run(config, tmp_path / "taken")


def test_cells_and_reward_count_what_the_device_is_slow_at(tiny_search: Make, tmp_path: Path) -> None:
    latency = {"table": str(tmp_path / "table.json"), "target_ms": 1.0, "exponent": -1.0, "cell_weight": 1e9}
    autopose = tiny_search().autopose.model_dump() | {"branches": "all"}
    config = tiny_search(reward="OKS", latency=latency, autopose=autopose)
    names = all_units(open_space("autopose", autopose).template(2), (64, 64))  # type: ignore[attr-defined]
    table = LatencyTable(device="d", milliseconds={name: 2.0 if "conv5" in name else 0.01 for name in names})
    table.save(tmp_path / "table.json")
    run = Run(config, tmp_path / "run")
    batches, conv5 = next(run.batches()), OP_SETS["paper"].index("conv5")
    for gradient in ("first", "second", "sync"):
        run.strategy.loop = config.search.model_copy(update={"gradient": gradient})
        before = {name: logits.detach().clone() for name, logits in run.supernet.arch.items()}
        run.strategy.iterate(run.progress, *batches)
        for name, logits in run.supernet.arch.items():
            rises = (logits > before[name]).sum(0).tolist()
            assert rises == [0 if k == conv5 else len(logits) for k in range(6)], gradient
    genotype = run.space.derive(run.supernet, (), name="n", provenance={})
    assert isinstance(genotype, AutoPoseGenotype)
    over = table.predict_ms(units(genotype, (64, 64)))
    assert over > 1.5
    assert run._provenance(Found((), 0.5, []))["latency_ms"] == pytest.approx(over, abs=1e-3)
    reward = run.strategy.s.reward
    assert reward(()) == pytest.approx(reward.figures(())["OKS"] / over)
    assert not run.supernet.training
    run.strategy.iterate(run.progress, *batches)
    assert run.supernet.training  # again


def test_cells_are_charged_for_the_share_above_the_target(tiny_search: Make, tmp_path: Path) -> None:
    config = tiny_search(latency={"table": str(tmp_path / "table.json"), "cell_weight": 0.3})
    space = open_space("autopose", config.space_settings())
    names = all_units(space.template(2), (64, 64))  # type: ignore[attr-defined]
    LatencyTable(device="d", milliseconds=dict.fromkeys(names, 0.1)).save(tmp_path / "table.json")
    tables, macro = dict(space.supernet(2).arch.items()), (15, 15, 15)
    expected = space.expected_latency_ms(tables, macro, LatencyTable.load(tmp_path / "table.json"), (64, 64))
    loss = torch.tensor(0.5, requires_grad=True)
    for factor, charge in ((3.0, 0.3 * 0.5 * math.log(3)), (0.5, 0.0)):
        target = float(expected.detach()) / factor  # type: ignore[union-attr]
        latency = config.latency.model_copy(update={"target_ms": target})
        goal = LatencyGoal(config.model_copy(update={"latency": latency}), space)
        penalty = goal.penalty(tables, macro, loss)
        assert float(penalty.detach()) == pytest.approx(charge)
        penalty.backward()
    assert loss.grad is None  # the weight is an exponent, as in the reward


@pytest.mark.parametrize("sharing", ["branch", "global"])
def test_expected_latency_is_that_of_the_network_when_the_tables_are_certain(sharing: str) -> None:
    space = open_space("autopose", {"channels": (4, 8, 12, 16), "stem_channels": 4, "sharing": sharing})
    supernet = space.supernet(2)
    supernet.randomize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for logits in supernet.arch.values():
            logits.copy_(200.0 * torch.nn.functional.one_hot(logits.argmax(-1), 6))
    macro = (9, 0, 15)
    genotype = space.derive(supernet, macro, name="n", provenance={})
    assert isinstance(genotype, AutoPoseGenotype)
    names = sorted(set(all_units(genotype, (64, 64))))
    table = LatencyTable(
        device="d", milliseconds={name: 0.1 + 0.01 * i for i, name in enumerate(names)}, scale=1.5, offset_ms=0.2
    )
    expected = space.expected_latency_ms(dict(supernet.arch.items()), macro, table, (64, 64))
    assert expected is not None
    assert float(expected.detach()) == pytest.approx(table.predict_ms(units(genotype, (64, 64))), rel=1e-5)
    expected.backward()


def test_units_that_are_exported_together_compute_what_each_does() -> None:
    from autopose.search.latency_bench import cpu_session, onnx_models, unit_graphs

    torch.manual_seed(0)
    graphs = dict(list(unit_graphs(_genotype(), (64, 64)).items())[:9])  # stem, head of four maps, edges, projections
    models = onnx_models([(module, shapes) for module, shapes, _ in graphs.values()])
    for (name, (module, shapes, _)), model in zip(graphs.items(), models, strict=True):
        inputs = [torch.randn(1, *shape) for shape in shapes]
        session = cpu_session(model, 1)
        feed = {item.name: value.numpy() for item, value in zip(session.get_inputs(), inputs, strict=True)}
        with torch.no_grad():
            expected = module.eval()(*inputs)
        for one, other in zip(
            session.run(None, feed), [expected] if torch.is_tensor(expected) else expected, strict=True
        ):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4, err_msg=name)


def test_the_time_of_a_unit_is_its_share_of_a_graph_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from autopose.search import latency_bench

    def session(inputs: int, threads: int) -> SimpleNamespace:
        assert threads == 3
        return SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name=str(k)) for k in range(inputs)])

    monkeypatch.setattr(latency_bench, "onnx_models", lambda units: [len(shapes) for _, shapes in units])
    monkeypatch.setattr(latency_bench, "cpu_session", session)
    monkeypatch.setattr(latency_bench, "median_ms", lambda call, rounds: 8.0)
    table = latency_bench.measure(_genotype(), (64, 64), threads=3)
    assert table.threads == 3
    assert set(table.milliseconds) == set(all_units(_genotype(), (64, 64)))
    for name, time_ms in table.milliseconds.items():
        once = name.startswith(("stem", "head", "resize"))
        assert time_ms == (8.0 if once else 8.0 / latency_bench.REPEAT)


@pytest.mark.slow
def test_measured_table_covers_every_unit() -> None:
    from autopose.search.latency_bench import measure

    table = measure(_genotype(), (64, 64), rounds=1)
    assert set(table.milliseconds) == set(all_units(_genotype(), (64, 64)))
    assert min(table.milliseconds.values()) > 0
    assert table.predict_ms(units(_genotype(), (64, 64))) > 0


def test_calibration_finds_the_line_on_which_the_networks_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    from autopose.search import latency_networks
    from autopose.search.autopose_space import AutoPoseSpace
    from autopose.search.latency_networks import calibrate, random_networks

    config = load_config(SearchConfig, "smoke", group="search")
    space = open_space(config.space, config.space_settings())
    assert isinstance(space, AutoPoseSpace)
    networks = random_networks(space, 6)
    assert len({network.fingerprint() for network in networks}) == 6
    for share, low, high in ((1.0, 1.0, 1.0), (0.5, 0.5, 0.67)):  # of the others one in six is skip as well
        sparse = random_networks(space, 6, skip_share=share)
        ops = [op for network in sparse for cell in (*network.individual, *network.aggregation) for op in cell]
        assert low <= ops.count("skip") / len(ops) <= high

    names = sorted({name for network in networks for name in all_units(network, (64, 64))})
    former = LatencyTable(
        device="d", milliseconds={name: 0.1 + 0.01 * i for i, name in enumerate(names)}, scale=7.0, offset_ms=3.0
    )
    sums = [sum(former.milliseconds[name] for name in units(network, (64, 64))) for network in networks]
    monkeypatch.setattr(latency_networks, "measure_networks", lambda *args, **kwargs: [0.8 * v + 1 for v in sums])
    found = calibrate(former, space, networks, (64, 64))
    assert found.predicted_ms == pytest.approx(sums)
    assert (found.table.scale, found.table.offset_ms) == pytest.approx((0.8, 1.0))
    assert found.other_half["mean_relative_error"] == pytest.approx(0, abs=1e-9)
    assert found.other_half["networks"] == 3
    # Of the quickest three networks, the slower ones were faster: no reason to refuse what all six say.
    order = sorted(range(6), key=lambda k: sums[k])
    odd = [sums[k] for k in (order[2], order[1], order[0], *order[3:])]
    monkeypatch.setattr(latency_networks, "measure_networks", lambda *args, **kwargs: odd)
    assert calibrate(former, space, [networks[k] for k in order], (64, 64)).table.scale > 0


@pytest.mark.slow
def test_networks_are_measured_whole() -> None:
    from autopose.search.latency_networks import measure_networks

    small, steps = _genotype(), []
    bare = small.model_copy(update={"individual": (("skip",) * 10,) * 4, "aggregation": (("skip",) * 9,) * 4})
    slow, fast = measure_networks([small, bare], (128, 128), rounds=5, watch=lambda *done: steps.append(done))
    assert min(slow, fast) > 0
    assert steps == [(k, 8) for k in range(1, 9)]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("script", "link", "img", "iframe"):
            self.outside.append(tag)
        self.outside += [
            value for key, value in attrs if key in ("src", "href") and value and not value.startswith("#")
        ]


def test_several_seeds_are_summarised_and_reported(tiny_search: Make, tmp_path: Path) -> None:
    begun: list[int] = []
    result = search(tiny_search(seeds=2, epochs=1), tmp_path, on_seed=begun.append)
    assert begun == [0, 1]
    assert result.genotype is not None
    summary = json.loads((tmp_path / "summary.json").read_text())
    scores = [row["score"] for row in summary["runs"]]
    assert summary["spread"]["score"]["mean"] == pytest.approx(sum(scores) / 2)
    one, other = (row["arch_entropy"] for row in summary["runs"])
    assert summary["spread"]["arch_entropy"]["sd"] == pytest.approx(abs(one - other) / 2)
    assert result.genotype.provenance["shared_weight_score"] == max(scores)
    assert summary["best"] == f"seed-{scores.index(max(scores))}"
    for seed, row in enumerate(summary["runs"]):
        genotype = Genotype.load(tmp_path / f"seed-{seed}" / "genotype.json")
        assert isinstance(genotype, AutoPoseGenotype)
        assert row["macro"] == " ".join("".join(map(str, bits)) for bits in genotype.scales)
        page = (tmp_path / f"seed-{seed}" / "report.html").read_text()
        links = _Links()
        links.feed(page)
        assert not links.outside
        assert links.tags.count("svg") >= 5 + 1 + 8 + 1  # curves, branch graph, tables, legend
        assert "Convergence" in page
    again = search(tiny_search(seeds=2, epochs=1), tmp_path, resume=True)
    assert again.genotype == result.genotype
    kept = (tmp_path / "config.toml").read_text()
    # Its result is no other's.
    with pytest.raises(ModelError, match=r"seed-0: belongs to another configuration \(search.lr was .*, is 0.002\)"):
        search(tiny_search(seeds=2, epochs=1, lr=2e-3), tmp_path, resume=True)
    assert (tmp_path / "config.toml").read_text() == kept
    with pytest.raises(UsageError, match="holds a search already"):
        search(tiny_search(seeds=2, epochs=1), tmp_path)


def test_a_summary_is_of_the_last_epochs_and_of_all_alarms(tmp_path: Path) -> None:
    results = []
    for seed, score in ((0, 0.25), (1, 0.75)):
        (tmp_path / f"seed-{seed}").mkdir()
        entries = [
            {
                "AP": epoch / 8 + seed / 4, "arch_entropy": 1.0, "skip_share": 0.5, "macro": f"of {epoch}",
                "alarms": ["An alarm."] * (epoch + seed),
            }
            for epoch in (1, 2)
        ]  # fmt: skip
        (tmp_path / f"seed-{seed}" / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        candidates = [{"macro": f"found by {seed}", "score": score}, {"macro": "another", "score": 0.0}]
        provenance = {"shared_weight_score": score, "candidates": candidates}
        genotype = _genotype().model_copy(update={"provenance": provenance})
        results.append(SearchResult(genotype, tmp_path / f"seed-{seed}"))
    found = summary(results)
    assert found["best"] == "seed-1"
    assert [(row["run"], row["score"], row["AP"], row["macro"], row["alarms"]) for row in found["runs"]] == [
        ("seed-0", 0.25, 0.25, "found by 0", 3), ("seed-1", 0.75, 0.5, "found by 1", 5),
    ]  # fmt: skip
    assert found["spread"]["AP"] == {"mean": 0.375, "sd": 0.125}


def test_the_weights_of_the_best_seed_are_copied_up(tiny_search: Make, tmp_path: Path) -> None:
    content = tiny_search(seeds=2, epochs=1, iterations=1, gradient="sync").model_dump(mode="json")
    fabric: dict[str, Any] = {"space": "fabric", "fabric": {"backbone": "stem", "backbone_width": 4, "parts": 1}}
    result = search(SearchConfig.model_validate(content | fabric), tmp_path)
    assert result.genotype is not None
    best = json.loads((tmp_path / "summary.json").read_text())["best"]
    weights = (tmp_path / "best.safetensors").read_bytes()
    assert weights == (tmp_path / best / "best.safetensors").read_bytes()
    assert load_checkpoint(tmp_path).genotype.fingerprint() == result.genotype.fingerprint()


def test_several_seeds_do_not_take_the_place_of_a_search(tiny_search: Make, tmp_path: Path) -> None:
    one = search(tiny_search(epochs=1, iterations=1), tmp_path).genotype
    kept = (tmp_path / "config.toml").read_text()
    for resume in (False, True):
        with pytest.raises(UsageError, match="holds a search already"):
            search(tiny_search(seeds=2, epochs=1, iterations=1), tmp_path, resume=resume)
    assert Genotype.load(tmp_path / "genotype.json") == one
    assert (tmp_path / "config.toml").read_text() == kept


def test_a_search_does_not_take_the_place_of_several_seeds(tiny_search: Make, tmp_path: Path) -> None:
    kept = {"config.toml": "theirs", "genotype.json": "the best", "seed-0/log.jsonl": "begun"}
    (tmp_path / "seed-0").mkdir()
    for name, content in kept.items():
        (tmp_path / name).write_text(content)
    for resume in (False, True):
        with pytest.raises(UsageError, match="several seeds"):
            search(tiny_search(epochs=1, iterations=1), tmp_path, resume=resume)
    assert {name: (tmp_path / name).read_text() for name in kept} == kept


def test_the_best_seed_is_known_by_scores_far_below_one(tiny_search: Make, tmp_path: Path) -> None:
    """As they are where no network is near the latency or the size that is wanted."""
    search(tiny_search(seeds=2, epochs=1, iterations=1, reward="OKS", max_parameters=1), tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    scores = [row["score"] for row in found["runs"]]
    assert 0 < min(scores) < max(scores) < 1e-4
    assert found["best"] == f"seed-{scores.index(max(scores))}"


def test_refuses_a_report_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to report"):
        write_report(tmp_path, {}, (64, 64))


def test_a_report_tells_the_latest_of_each_alarm(tmp_path: Path) -> None:
    shares = (0.80, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.80)
    log = [
        {
            "epoch": epoch,
            "seconds": 1.0,
            "AP": 0.1,
            "alarms": [*alarms({"free_share": share}, 0.75, 0.0), *(["One more: x."] if epoch == 2 else [])],
        }
        for epoch, share in enumerate(shares, start=1)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    page = write_report(tmp_path, {}, (64, 64)).read_text()
    assert page.count("of the edges have become") == 1
    assert "Epoch 8: 80% of the edges" in page
    assert page.index("Epoch 2: One more") < page.index("Epoch 8")


def test_a_report_has_the_figures_of_the_result(tmp_path: Path) -> None:
    entry = {"epoch": 3, "seconds": 1800.0, "AP": 0.125, "alarms": [], "probabilities": {"cells": [[0.75, 0.25]]}}
    (tmp_path / "log.jsonl").write_text(json.dumps(entry | {"epoch": 2, "AP": 0.5}) + "\n" + json.dumps(entry) + "\n")
    (tmp_path / "config.toml").write_text('x = "<&>"\n')
    assert "parameters" not in write_report(tmp_path, {}, (64, 64)).read_text()  # of a search that goes on
    candidates = [{"macro": "1000 0000 0000", "score": 0.25}, {"macro": "<1>", "score": 0.125}]
    provenance = {"shared_weight_score": 0.25, "latency_ms": 3.456, "candidates": candidates, "ranked": 7}
    genotype = _genotype().model_copy(update={"name": "n", "provenance": provenance})
    genotype.save(tmp_path / "genotype.json")
    page = write_report(tmp_path, {"cells": ("conv3", "skip"), "absent": ("skip",)}, (64, 96), joints=5).read_text()
    parameters = sum(weight.numel() for weight in build_network(genotype, 5).parameters())
    for name, value in (
        ("epochs", "3"),
        ("hours", "0.50"),
        ("AP of the supernet", "0.125 on the tune split (most likely cells and branches)"),
        ("genotype", f"n, fingerprint {genotype.fingerprint()}"),
        ("parameters", f"{parameters / 1e6:.2f} million"),
        ("score of the derived network", "0.250 with shared weights, before training"),
        ("predicted latency", "3.46 ms"),
    ):
        assert f"<tr><th>{name}</th><td>{value}</td></tr>" in page
    assert re.search(r"<th>MACs</th><td>0\.\d+ G \(0\.\d+ Gi\) at 64x96<", page)
    assert "No alarm" in page
    assert "The best 2 of 7, scored" in page
    assert "<td>1000 0000 0000</td><td>0.250</td>" in page
    assert "<td>&lt;1&gt;</td><td>0.125</td>" in page
    assert "0: conv3 0.75" in page
    assert "Cells over time" in page
    assert "Cells over time" not in write_report(tmp_path, {}, (64, 96), joints=5).read_text()  # nothing would follow
    assert '<meta name="viewport"' in page  # telephones would shrink it
    assert "x = &quot;&lt;&amp;&gt;&quot;" in page
