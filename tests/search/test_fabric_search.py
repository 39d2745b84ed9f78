"""The loop over the fabric space, in every published mode: the result is a genotype and, unless random, a model."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autopose.checkpoint import load_checkpoint
from autopose.fabric_genotype import FabricGenotype
from autopose.genotype import Genotype
from autopose.search.config import SearchConfig
from autopose.search.fabric_supernet import FabricSupernet
from autopose.search.loop import Run
from autopose.search.report import _summary
from autopose.search.space import Draw
from autopose.skeleton import CROWDPOSE14

FABRIC = {"backbone": "stem", "backbone_width": 4, "channels": [4, 4, 8, 8], "parts": 1, "vector": 2}


@pytest.mark.parametrize(
    "mode",
    [
        {"gradient": "sync", "arch_share": 0},
        {"gradient": "first"},
        {"gradient": "second"},
        {"strategy": "random", "random_sharing": "separate", "arch_share": 0},
        {"strategy": "random", "random_sharing": "shared"},
    ],
    ids=["sync", "first", "second", "random", "random-shared"],
)
def test_every_mode_finds_a_network(
    mode: dict[str, Any], tiny_search: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    config = tiny_search(**mode).model_copy(update={"space": "fabric", "fabric": FABRIC})
    run = Run(config, tmp_path / "run")
    found = run.search().genotype
    assert isinstance(found, FabricGenotype)
    assert Genotype.load(tmp_path / "run" / "genotype.json") == found
    assert found.parts[0].cells[0].alpha != ((0.0, 0.0, 0.0, 0.0),)  # it has moved
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2]
    if "strategy" in mode:
        assert found.provenance["ranked"] == 2
        assert not (tmp_path / "run" / "best.safetensors").exists()
        assert found.weights == "fixed"  # else training would learn what was drawn, and compare a search with a search
        return
    assert found.weights == "learned"
    # The trained supernet, pruned, is a model already.
    assert isinstance(run.supernet, FabricSupernet)
    network = load_checkpoint(tmp_path / "run").build()
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(network(image), run.supernet.eval()(image, Draw()), rtol=1e-4, atol=1e-6)


def test_a_random_search_stopped_at_its_last_candidate_ends_as_the_unbroken_one(
    tiny_search: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    """The process that ends it has drawn nothing itself: the weights fit no draw all the same."""
    config = tiny_search(strategy="random", epochs=1, iterations=1)
    config = config.model_copy(update={"space": "fabric", "fabric": FABRIC})
    whole = Run(config, tmp_path / "run").search().genotype
    assert whole is not None

    def stop(done: int, total: int, entry: Any) -> None:
        if done == total:
            os.kill(os.getpid(), signal.SIGTERM)

    assert Run(config, tmp_path / "other" / "run").search(stop).genotype is None
    found = Run(config, tmp_path / "other" / "run", resume=True).search().genotype
    assert found == whole
    assert not (tmp_path / "other" / "run" / "best.safetensors").exists()


def test_other_joints_reach_report_and_decoding(tiny_search: Callable[..., SearchConfig], tmp_path: Path) -> None:
    config = tiny_search()
    content = config.model_dump(mode="json") | {
        "space": "fabric", "skeleton": "crowdpose14", "fabric": FABRIC | {"skeleton": "crowdpose14"},
    }  # fmt: skip
    content["codec"]["refine"] = "oks"
    found = SearchConfig.model_validate(content)
    assert found.codec.oks_sigmas == CROWDPOSE14.sigmas
    genotype = Genotype.load("pnfs-hrnet-cnf5-mpii")  # 16 joints
    entry = {"epoch": 1, "seconds": 1.0, "AP": 0.1}
    assert f"fingerprint {genotype.fingerprint()}" in _summary([entry], genotype, (64, 64), 16)


def test_settling_leaves_the_shared_network_as_it_was(
    tiny_search: Callable[..., SearchConfig], tmp_path: Path
) -> None:  # fmt: skip
    """The fabric keeps its normalisations' averages and is evaluated with them: a candidate may not move them."""
    config = tiny_search(gradient="sync", arch_share=0, reward_steps=2)
    run = Run(config.model_copy(update={"space": "fabric", "fabric": FABRIC}), tmp_path / "run")
    before = {name: value.clone() for name, value in run.supernet.state_dict().items()}
    with run.strategy.adapted(()):
        moved = [name for name, value in run.supernet.state_dict().items() if not torch.equal(value, before[name])]
        assert any("running_mean" in name for name in moved)
    assert all(torch.equal(value, before[name]) for name, value in run.supernet.state_dict().items())
