"""Two processes take the same path and, on the same global batch, the same gradient as one."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from autopose.genotype import Genotype
from autopose.search.config import SearchConfig
from tests.ranks import run_ranks

# Frozen statistics: mean 0, variance 1; what is compared is the averaging, not the normalisation per process.
SCRIPT = """
import json, os, sys, torch
from autopose.training.distributed import Group
from autopose.search.space import Draw, open_space

group = Group(torch.device("cpu"))
torch.manual_seed(0)
tiny = {"channels": (4, 4, 4, 4), "stem_channels": 4, "stem_expansion": 1, "modules_per_stage": 1}
space = open_space("autopose", tiny)
supernet = space.supernet(3).double()
frozen = sys.argv[2] == "frozen"
if frozen:
    for part in supernet.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean = torch.zeros(part.num_features).double()
            part.running_var = torch.ones(part.num_features).double()
    supernet.eval()
images = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
share = images.chunk(group.world)[group.rank]
generator = torch.Generator().manual_seed(2)
sums, arch = [], []
for _ in range(3):
    macro = space.random_macro(generator)
    draw = Draw(macro, supernet.sample_noise(generator))
    supernet.zero_grad(set_to_none=True)
    ((supernet(share, draw) - 1) ** 2).mean().backward()
    active = {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}
    group.average(active.values())
    sums.append({n: [g.sum().item(), g.abs().sum().item()] for n, g in active.items()})
if group.rank == 0:
    json.dump(sums, open(sys.argv[1], "w"))
group.close()
"""


SEEDS = """
import sys
from pathlib import Path
from autopose.search.config import SearchConfig
from autopose.search.seeds import search

result = search(SearchConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
print(result.genotype.fingerprint())
"""


def _run(out: Path, world: int, statistics: str) -> list[dict[str, list[float]]]:
    run_ranks(world, SCRIPT, str(out), statistics)
    found: list[dict[str, list[float]]] = json.loads(out.read_text())
    return found


def _largest_difference(a: list[dict[str, list[float]]], b: list[dict[str, list[float]]]) -> float:
    worst = 0.0
    for one, two in zip(a, b, strict=True):
        assert one.keys() == two.keys()  # the same sampled path
        for name in one:
            x, y = torch.tensor(one[name]).double(), torch.tensor(two[name]).double()
            worst = max(worst, float((x - y).abs().max() / y.abs().max().clamp_min(1e-30)))
    return worst


def test_one_and_two_ranks_agree_with_frozen_statistics(tmp_path: Path) -> None:
    one, two = (_run(tmp_path / f"{world}.json", world, "frozen") for world in (1, 2))
    assert len(one[0]) > 20
    assert _largest_difference(one, two) < 1e-9


def test_ranks_meet_again_in_every_seed(tiny_search: Callable[..., SearchConfig], tmp_path: Path) -> None:
    config = tiny_search(seeds=2, epochs=1, iterations=1, controller={"start_epoch": 0, "updates": 1})
    first, second = run_ranks(2, SEEDS, config.model_dump_json(), str(tmp_path))
    assert first == second
    assert Genotype.load(tmp_path / "genotype.json").fingerprint() == first.strip()
    assert len(json.loads((tmp_path / "summary.json").read_text())["runs"]) == 2
