"""The loop end to end on drawn figures: results, logs, and resuming to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from autopose.config import to_toml
from autopose.errors import ConfigError, ModelError, UsageError
from autopose.genotype import Genotype
from autopose.models.network import build_network
from autopose.search.bilevel_search import BilevelSearch
from autopose.search.config import SearchConfig
from autopose.search.loop import Run
from autopose.search.state import Progress
from autopose.training.resumable import load_resumable

Make = Callable[..., SearchConfig]


class KilledError(Exception):
    """Stands for a process that dies."""


def _state(folder: Path, config: SearchConfig) -> dict[str, torch.Tensor]:
    return load_resumable(folder / "checkpoints", Progress, config.model_dump_json())[0]


def _assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name].nan_to_num(-1), b[name].nan_to_num(-1))]
    assert not different


def _log(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in entries]


def _die_at(step: int) -> Callable[[int, int, Any], None]:
    def watch(done: int, total: int, entry: Any) -> None:
        if done == step and entry is None:
            raise KilledError

    return watch


VARIANTS: dict[str, dict[str, Any]] = {
    "second order, all branches": {"gradient": "second", "autopose": {"branches": "all"}},
    "sync, soft": {"gradient": "sync", "autopose": {"alpha_gradient": "soft"}},
    "random": {"strategy": "random"},
    "random, separate": {"strategy": "random", "random_sharing": "separate"},
    "a trained network's branches": {"autopose": {"weights": "fast"}, "arch_share": 0, "reward_steps": 1},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_killed_and_resumed_equals_unbroken(variant: str, tiny_search: Make, tmp_path: Path) -> None:
    changes = dict(VARIANTS[variant])
    if "autopose" in changes:
        changes["autopose"] = {"channels": [4] * 4, "stem_channels": 4, "stem_expansion": 1} | changes["autopose"]
    config = tiny_search(**changes)
    unbroken = Run(config, tmp_path / "whole")
    whole = unbroken.search()
    assert whole.genotype is not None
    saving = tiny_search(save_minutes=0, **changes)
    with pytest.raises(KilledError):  # between two epochs, or within the second
        Run(saving, tmp_path / "broken").search(_die_at(2 + list(VARIANTS).index(variant) % 2))
    with pytest.raises(KilledError):  # at the first candidate that is ranked
        Run(saving, tmp_path / "broken", resume=True).search(_die_at(5))
    last = Run(config, tmp_path / "broken", resume=True)
    resumed = last.search()
    assert resumed.genotype is not None
    assert resumed.genotype.fingerprint() == whole.genotype.fingerprint()
    for found in ("candidates", "ranked", "shared_weight_score"):
        assert resumed.genotype.provenance[found] == whole.genotype.provenance[found]
    _assert_equal(_state(tmp_path / "whole", config), _state(tmp_path / "broken", config))
    _assert_equal(unbroken.strategy.tensors(), last.strategy.tensors())  # of what no later step needs, too
    assert _log(tmp_path / "whole") == _log(tmp_path / "broken")


def test_writes_a_genotype_that_builds_and_a_log(
    tiny_search: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, temperatures = Run(tiny_search(temperature=4.0, temperature_end=0.5), tmp_path), []
    losses: list[dict[str, float]] = []
    rewards: list[float] = []
    iterate, update = run.strategy.iterate, run.strategy.update

    def iterated(*given: Any) -> dict[str, float]:
        losses.append(iterate(*given))
        return losses[-1]

    def updated(*given: Any) -> list[float]:
        found = [1 + reward for reward in update(*given)]  # an untrained network's are 0
        rewards.extend(found)
        return found

    monkeypatch.setattr(run.strategy, "iterate", iterated)
    monkeypatch.setattr(run.strategy, "update", updated)
    result = run.search(lambda *_: temperatures.append(run.supernet.temperature))
    assert (temperatures[:2], temperatures[-2:]) == ([4.0, 4.0], [0.5, 0.5])
    genotype = Genotype.load(tmp_path / "genotype.json")
    assert genotype == result.genotype
    assert genotype.provenance["ranked"] >= 1
    with torch.no_grad():
        assert build_network(genotype, 17).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 17, 16, 16)
    entries = _log(tmp_path)
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert "reward" not in entries[0]  # the controller starts in the second epoch
    assert entries[1]["reward"] == pytest.approx(np.mean(rewards))
    for entry, two in zip(entries, (losses[:2], losses[2:]), strict=True):
        for name in ("weight_loss", "arch_loss"):
            assert entry[name] == pytest.approx(np.mean([loss[name] for loss in two]))
    assert {"weight_loss", "arch_loss", "AP", "arch_entropy", "controller_entropy", "skip_share"} <= set(entries[0])
    np.testing.assert_allclose(np.sum(entries[0]["probabilities"]["individual_0"], -1), 1, atol=1e-3)
    assert list((tmp_path / "tensorboard").iterdir())


def test_an_iteration_moves_what_the_settings_say_in_their_order(tiny_search: Make, tmp_path: Path) -> None:
    run = Run(tiny_search(), tmp_path)
    batches = next(run.batches())

    def done(**changes: Any) -> tuple[list[str], bool]:
        run.strategy.loop = run.loop.model_copy(update=changes)
        before = [table.detach().clone() for table in run.supernet.arch.values()]
        losses = run.strategy.iterate(run.progress, *batches)
        return list(losses), not all(map(torch.equal, before, run.supernet.arch.values()))

    assert done() == (["weight_loss", "arch_loss"], True)
    assert done(arch_first=True) == (["arch_loss", "weight_loss"], True)
    assert done(arch_start_epoch=1) == (["weight_loss"], False)
    assert done(gradient="sync") == (["weight_loss"], True)
    assert done(gradient="sync", arch_start_epoch=1) == (["weight_loss"], False)
    run.strategy.loop = run.loop.model_copy(update={"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.1})
    weight = next(iter(run.strategy.weights.values()))
    moved, momentum, optimizer = weight.detach().clone(), torch.zeros_like(weight), run.strategy.weight_optimizer()
    for _ in range(2):
        momentum = 0.9 * momentum + 1 + 0.1 * moved
        moved -= 0.5 * momentum
        optimizer.zero_grad()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), moved)
    run.progress.memory["candidates"] = [[[1, 2, 3], 0.2], [[3, 4, 5], 0.7], [[0, 0, 0], 0.4]]
    found = run.strategy.finish(run.progress)
    assert (found.macro, found.score) == ((3, 4, 5), 0.7)


@pytest.mark.parametrize("gradient", ["first", "sync"])
def test_the_weights_gradients_are_clipped(tiny_search: Make, tmp_path: Path, gradient: str) -> None:
    norms: dict[float, list[float]] = {0: [], 1e-3: []}
    for clip, found in norms.items():
        run = Run(tiny_search(epochs=1, clip=clip, gradient=gradient), tmp_path / str(clip))
        weights = {id(p) for p in run.strategy.weights.values()}

        def note(optimizer: torch.optim.Optimizer, *_: Any, weights: set[int] = weights, found: Any = found) -> None:
            mine = [p.grad for g in optimizer.param_groups for p in g["params"] if id(p) in weights]
            if mine:
                found.append(float(torch.nn.utils.get_total_norm([grad for grad in mine if grad is not None])))

        handle = register_optimizer_step_pre_hook(note)
        try:
            run.search()
        finally:
            handle.remove()
    assert len(norms[0]) == len(norms[1e-3]) == 2
    assert min(norms[0]) > 1e-2
    assert norms[1e-3] == pytest.approx([1e-3, 1e-3], rel=1e-3)


@pytest.mark.parametrize(("gradient", "falls"), [("sync", True), ("first", False)])
def test_in_one_step_both_levels_have_one_schedule(
    tiny_search: Make, tmp_path: Path, gradient: str, falls: bool
) -> None:  # fmt: skip
    """PNFS trains alpha and beta in the weights' own Adam, so that their rate falls with it."""
    run = Run(tiny_search(gradient=gradient, lr=1e-3, lr_end=1e-5, arch_lr=2e-3), tmp_path)
    rates: list[float] = []
    strategy = run.strategy
    assert isinstance(strategy, BilevelSearch)
    strategy.arch_optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    run.search()
    assert rates == pytest.approx([2 * strategy.rate(step) if falls else 2e-3 for step in range(4)])


def test_seeds_differ_and_repeat(tiny_search: Make, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = tiny_search(epochs=1, seed=seed)
        Run(config, tmp_path / name).search()
        found.append(_state(tmp_path / name, config))
    _assert_equal(found[0], found[1])
    assert not torch.equal(found[0]["supernet/arch.individual_0"], found[2]["supernet/arch.individual_0"])


def test_sigterm_saves_and_leaves(tiny_search: Make, tmp_path: Path) -> None:
    config = tiny_search()

    def terminate(done: int, total: int, entry: Any) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    first = Run(config, tmp_path)
    first.begun -= 3600  # as if it had taken an hour
    assert first.search(terminate).genotype is None
    assert load_resumable(tmp_path / "checkpoints", Progress, config.model_dump_json())[1].step == 1
    second = Run(config, tmp_path, resume=True)
    assert second.search().genotype is not None
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for seconds in (second.progress.seconds, *(entry["seconds"] for entry in entries)):
        assert 3600 <= seconds < 4000


@pytest.mark.parametrize("strategy", ["bilevel", "random"])
def test_sigterm_among_the_candidates(tiny_search: Make, tmp_path: Path, strategy: str) -> None:
    config = tiny_search(strategy=strategy, candidates=4)
    whole = Run(config, tmp_path / "whole").search().genotype
    assert whole is not None
    seen = []

    def terminate(done: int, total: int, entry: Any) -> None:
        seen.append((done, total))
        if done == total - 2 and entry is None:
            os.kill(os.getpid(), signal.SIGTERM)

    assert Run(config, tmp_path / "run").search(terminate).genotype is None
    progress = load_resumable(tmp_path / "run" / "checkpoints", Progress, config.model_dump_json())[1]
    assert progress.ranked == seen[-1][1] - 4 - 2  # of 2 epochs of 2 iterations
    again = []
    resumed = Run(config, tmp_path / "run", resume=True).search(lambda done, *_: again.append(done)).genotype
    assert resumed is not None
    assert again == [seen[-1][1] - 1, seen[-1][1]]  # the others are not ranked again
    assert resumed.provenance | {"name": ""} == whole.provenance | {"name": ""}


@pytest.mark.parametrize(
    "mode", [{"arch_first": True}, {"arch_first": True, "gradient": "second"}, {"gradient": "sync"}]
)
def test_a_loss_that_is_no_number_never_reaches_the_cells(
    tiny_search: Make, tmp_path: Path, mode: dict[str, Any]
) -> None:
    run = Run(tiny_search(**mode), tmp_path)
    before = {name: table.detach().clone() for name, table in run.supernet.arch.items()}
    loss = run.strategy.loss
    run.strategy.loss = lambda *args: loss(*args) * float("nan")  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"became nan.*search\.clip"):
        run.search()
    assert all(torch.equal(table, before[name]) for name, table in run.supernet.arch.items())


def test_refuses_a_folder_with_another_search(tiny_search: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no state"):
        Run(tiny_search(), tmp_path, resume=True)
    with pytest.raises(KilledError):
        Run(tiny_search(save_minutes=0), tmp_path).search(_die_at(2))
    with pytest.raises(UsageError, match="--resume"):
        Run(tiny_search(), tmp_path)
    with pytest.raises(ModelError, match=r"another configuration \(search.seed was 0, is 5\)"):
        Run(tiny_search(seed=5), tmp_path, resume=True)


@pytest.mark.slow
def test_kill_9_at_random_moments(tiny_search: Make, tmp_path: Path) -> None:
    config = tiny_search(iterations=3, save_minutes=0)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(config))
    whole = Run(config, tmp_path / "whole").search()
    assert whole.genotype is not None
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "autopose", "search", "--config", str(recipe), "-o", str(broken)]
    rng = np.random.default_rng()
    kills = 0
    while not (broken / "genotype.json").exists():
        resume = ["--resume"] if (broken / "checkpoints" / "state.safetensors").exists() else []
        if kills >= 2:
            subprocess.run([*command, *resume], check=True, capture_output=True)
            break
        process = subprocess.Popen([*command, *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (broken / "checkpoints" / "state.safetensors").exists():
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 2)))
        process.kill()
        process.wait()
        kills += 1
    found = Genotype.load(broken / "genotype.json")
    assert found.fingerprint() == whole.genotype.fingerprint()
    _assert_equal(_state(tmp_path / "whole", config), _state(broken, config))
