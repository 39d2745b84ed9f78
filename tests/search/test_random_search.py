"""The random baseline has the search's budget."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autopose.search.config import SearchConfig
from autopose.search.loop import Run
from autopose.search.random_search import RandomSearch

Make = Callable[..., SearchConfig]


@pytest.mark.parametrize("start", [0, 1])
def test_as_many_looks_and_steps_as_the_search(tiny_search: Make, tmp_path: Path, start: int) -> None:
    run = Run(tiny_search(strategy="random", arch_start_epoch=start, reward="OKS"), tmp_path)
    assert isinstance(run.strategy, RandomSearch)
    assert run.strategy.looked_at() == 2 + 2 * 2 * 1  # candidates + updates x batch x epochs with the controller
    steps = []
    original = run.strategy.step_weights

    def counted(*args: object) -> float:
        steps.append(args)
        return original(*args)  # type: ignore[arg-type]

    run.strategy.step_weights = counted  # type: ignore[assignment]
    result = run.search()
    assert len(steps) == 2 * 2 + 2 * (2 - start)  # 2 epochs of 2 iterations; the cells' batches from their epoch on
    assert result.genotype is not None
    assert result.genotype.provenance["ranked"] == 6
    scores = [candidate["score"] for candidate in result.genotype.provenance["candidates"]]
    assert (len(scores), scores) == (6, sorted(scores, reverse=True))
    best = scores[0]
    assert result.genotype.provenance["shared_weight_score"] == best
    macro = tuple(run.progress.memory["best_macro"])
    assert run.strategy.score(macro) == pytest.approx(best, abs=1e-4)  # its cells are in the tables


@pytest.mark.parametrize(("start", "steps"), [(0, [0, 4]), (1, [0, 3])])
def test_separate_candidates_have_equally_many_steps(
    tiny_search: Make, tmp_path: Path, start: int, steps: list[int]
) -> None:
    run = Run(tiny_search(strategy="random", random_sharing="separate", candidates=2, arch_start_epoch=start), tmp_path)
    strategy, begun, rates, cells = run.strategy, set(), [], set()
    assert isinstance(strategy, RandomSearch)
    original = strategy.step_weights

    def watched(batch: Any, draw: Any, step: int) -> float:
        if all(torch.equal(weight, strategy.fresh[name]) for name, weight in run.supernet.named_weights()):
            begun.add(step)
        rates.append(strategy.rate(step))
        cells.add(str([table.argmax(-1).tolist() for table in run.supernet.arch.values()]))
        return original(batch, draw, step)

    strategy.step_weights = watched  # type: ignore[method-assign]
    result = run.search()
    # Of two epochs of two iterations, with two steps each from the epoch on in which the other search learns cells.
    assert sorted(begun) == steps
    assert len(cells) == 2
    assert len(rates) == 2 * steps[1]
    assert rates[steps[1] :] == rates[: steps[1]] == sorted(rates[: steps[1]], reverse=True)
    assert result.genotype is not None
    assert result.genotype.provenance["ranked"] == 2
