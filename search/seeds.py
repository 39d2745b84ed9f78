"""Searches with several seeds, summarised: one run says little about a method with so much noise."""

import json
import shutil
import statistics
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autopose.config import in_brackets, to_toml
from autopose.errors import ModelError, UsageError
from autopose.files import atomic_path, write_atomic
from autopose.genotype import Genotype
from autopose.search.config import SearchConfig
from autopose.search.loop import Run, SearchResult, Watch
from autopose.search.report import write_report
from autopose.training.distributed import Group, own_device, wait
from autopose.training.log import read_log
from autopose.training.resumable import is_resumable, other_settings


def search(
    config: SearchConfig,
    folder: Path,
    *,
    resume: bool = False,
    watch: Watch | None = None,
    on_seed: Callable[[int], None] | None = None,
) -> SearchResult:
    """Search with one seed in ``folder``, or with several in ``folder/seed-N``; then the best result is copied up.

    Args:
        config: the search.
        folder: run folder.
        resume: go on; seeds that are finished are left as they are.
        watch: progress of each run.
        on_seed: called before each of several seeds.

    Returns:
        The result; its genotype is None if a signal ended the search.

    Raises:
        ModelError: a seed was begun with another configuration.
        UsageError: the folder holds a search and ``resume`` is not set, or one of another number of seeds, one of
            which is one.
    """
    if config.search.seeds == 1:
        several = (folder / "config.toml").exists() and [*folder.glob("seed-*/log.jsonl")]
        if several and not is_resumable(folder / "checkpoints"):
            raise UsageError(
                f"{folder}: holds a search of several seeds. Go on with it by --resume and its search.seeds, or choose "
                "another folder with -o."
            )
        return _one(config, folder, resume=resume, watch=watch)
    # One group of processes for all seeds: a rank that opened the next seed's would not meet those still in this one.
    group = Group(own_device())
    try:
        return _several(config, folder, group, resume=resume, watch=watch, on_seed=on_seed)
    finally:
        group.close()


def _several(
    config: SearchConfig,
    folder: Path,
    group: Group,
    *,
    resume: bool,
    watch: Watch | None,
    on_seed: Callable[[int], None] | None,
) -> SearchResult:
    single = {
        seed: config.model_copy(update={"search": config.search.model_copy(update={"seed": seed, "seeds": 1})})
        for seed in range(config.search.seed, config.search.seed + config.search.seeds)
    }
    parts = {seed: folder / f"seed-{seed}" for seed in single}
    finished = [seed for seed, part in parts.items() if (part / "genotype.json").exists()]
    begun = [seed for seed, part in parts.items() if seed in finished or is_resumable(part / "checkpoints")]
    if is_resumable(folder / "checkpoints") or (begun and not resume):
        raise UsageError(
            f"{folder}: holds a search already. Add --resume to go on with the same number of seeds, or choose another "
            "folder with -o."
        )
    for seed in begun:
        _refuse_other_configuration(single[seed], parts[seed])
    wait()  # until every rank has looked
    if group.rank == 0:
        write_atomic(folder / "config.toml", to_toml(config))
    results: list[SearchResult] = []
    for seed in single:
        if on_seed is not None:
            on_seed(seed)
        part = parts[seed]
        if seed in finished:
            results.append(SearchResult(Genotype.load(part / "genotype.json"), part))
            continue
        result = _one(single[seed], part, resume=resume and is_resumable(part / "checkpoints"), watch=watch)
        if result.genotype is None:
            return SearchResult(None, folder)
        results.append(result)
    best = max(results, key=_score)
    assert best.genotype is not None
    if group.rank == 0:
        if (best.folder / "best.safetensors").exists():  # the genotype comes last: who sees it finds its weights
            with atomic_path(folder / "best.safetensors") as temporary:
                shutil.copyfile(best.folder / "best.safetensors", temporary)
        best.genotype.save(folder / "genotype.json")
        write_atomic(folder / "summary.json", json.dumps(summary(results), indent=2) + "\n")
    return SearchResult(best.genotype, folder)


def _score(result: SearchResult) -> float:
    assert result.genotype is not None
    return float(result.genotype.provenance["shared_weight_score"])


def _refuse_other_configuration(config: SearchConfig, folder: Path) -> None:
    try:
        before = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    if other := other_settings(before, tomllib.loads(to_toml(config))):
        raise ModelError(
            f"{folder}: belongs to another configuration{in_brackets(other)}. Resume without --config and "
            "--set: the run has its own. Or start anew in another folder with -o."
        )


def _one(config: SearchConfig, folder: Path, *, resume: bool, watch: Watch | None) -> SearchResult:
    run = Run(config, folder, resume=resume)
    result = run.search(watch)
    if run.group.rank == 0 and read_log(folder):
        write_report(folder, run.supernet.choices, config.codec.input_size_wh, joints=len(run.data.skeleton))
    return result


def summary(results: list[SearchResult]) -> dict[str, Any]:
    """Return which seed's result is the best, per seed the figures, and their mean and standard deviation."""
    rows = []
    for result in results:
        assert result.genotype is not None
        last = read_log(result.folder)[-1]
        rows.append(
            {
                "run": result.folder.name,
                "fingerprint": result.genotype.fingerprint(),
                "score": result.genotype.provenance["shared_weight_score"],
                "AP": last["AP"],
                "arch_entropy": last["arch_entropy"],
                "skip_share": last["skip_share"],
                "macro": result.genotype.provenance["candidates"][0]["macro"],  # the best is the first
                "alarms": sum(len(entry["alarms"]) for entry in read_log(result.folder)),
            }
        )
    spread = {
        key: {"mean": statistics.mean(row[key] for row in rows), "sd": statistics.pstdev(row[key] for row in rows)}
        for key in ("score", "AP", "arch_entropy", "skip_share")
    }
    return {"best": max(results, key=_score).folder.name, "runs": rows, "spread": spread}
