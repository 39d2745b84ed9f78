"""Whole networks of a search space against its latency table: how well sums of units foretell them; calibration."""

import random
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autopose.data.skeletons import open_skeleton
from autopose.files import atomic_path
from autopose.genotype import AutoPoseGenotype
from autopose.models.network import build_network
from autopose.search.autopose_space import AutoPoseSpace
from autopose.search.config import SearchConfig
from autopose.search.latency import LatencyTable, report
from autopose.search.latency_bench import Watch, cpu_session, median_ms, open_measured

#: Turns in which every network is timed; a network's best turn counts.
TURNS = 3


@dataclass(frozen=True)
class Calibration:
    """A table fitted to whole networks.

    Attributes:
        table: its factor and constant are fitted on all networks.
        predicted_ms: the plain sums of units per network.
        measured_ms: what each network took.
        other_half: :func:`~autopose.search.latency.report` of a fit on the first half of the networks, on the second.
    """

    table: LatencyTable
    predicted_ms: list[float]
    measured_ms: list[float]
    other_half: dict[str, Any]


def random_networks(
    space: AutoPoseSpace, count: int, *, joints: int = 17, skip_share: float = 0.0, seed: int = 0
) -> list[AutoPoseGenotype]:
    """Return random networks of a space.

    Args:
        space: what is searched.
        count: how many.
        joints: of the space's networks.
        skip_share: share of all edges that are ``skip``: where searches for a low latency end.
        seed: of the draws.
    """
    supernet, generator = space.supernet(joints), torch.Generator().manual_seed(seed)
    genotypes: list[AutoPoseGenotype] = []
    while len(genotypes) < count:
        supernet.randomize(generator)
        for name, logits in supernet.arch.items() if skip_share else ():
            skipped = torch.rand(len(logits), generator=generator) < skip_share
            logits.data[skipped, supernet.choices[name].index("skip")] = 1e3
        genotype = space.derive(supernet, space.random_macro(generator), name="random", provenance={})
        assert isinstance(genotype, AutoPoseGenotype)
        genotypes.append(genotype)
    return genotypes


def measure_networks(
    genotypes: list[AutoPoseGenotype],
    input_size_wh: tuple[int, int],
    *,
    threads: int = 1,
    rounds: int = 15,
    graphs: Path | None = None,
    watch: Watch | None = None,
) -> list[float]:
    """Return the milliseconds of each network on ONNX Runtime's CPU provider, one crop, weights fresh.

    All networks are timed in turns and in random order: a machine that is slow for a while slows all alike.

    Args:
        genotypes: the networks.
        input_size_wh: crop size.
        threads: of the runtime.
        rounds: runs per turn; their median is the turn's.
        graphs: folder in which the exported networks stay for another time.
        watch: progress, over exports and turns.
    """
    steps, done = len(genotypes) * (1 + TURNS), 0
    feed = np.random.default_rng(0).standard_normal((1, 3, input_size_wh[1], input_size_wh[0])).astype(np.float32)
    sessions = []
    with tempfile.TemporaryDirectory() as temporary:
        for genotype in genotypes:
            path = _exported(genotype, input_size_wh, graphs or Path(temporary))
            sessions.append(cpu_session(str(path), threads))
            done += 1
            if watch is not None:
                watch(done, steps)
        times: list[list[float]] = [[] for _ in sessions]
        for _ in range(TURNS):
            for index in random.sample(range(len(sessions)), len(sessions)):
                session = sessions[index]
                inputs = {session.get_inputs()[0].name: feed}
                times[index].append(median_ms(lambda s=session, i=inputs: s.run(None, i), rounds))  # type: ignore[misc]
                done += 1
                if watch is not None:
                    watch(done, steps)
    return [min(values) for values in times]


def calibrate(
    table: LatencyTable,
    space: AutoPoseSpace,
    genotypes: list[AutoPoseGenotype],
    input_size_wh: tuple[int, int],
    *,
    rounds: int = 15,
    graphs: Path | None = None,
    watch: Watch | None = None,
) -> Calibration:
    """Fit a table's factor and constant to measured networks, with the table's number of threads.

    Sums of units that were timed alone are too high by a fifth to a quarter: in a network a map is still in the cache
    when the next unit reads it.

    Args:
        table: of the space's units; a former calibration does not count.
        space: what is searched.
        genotypes: at least four networks of it, as :func:`random_networks` draws them.
        input_size_wh: crop size.
        rounds: runs per network and turn.
        graphs: folder for the exported networks.
        watch: progress.

    Raises:
        ConfigError: a unit that was not measured.
        DataError: networks that should take longer took less.
    """
    plain = table.model_copy(update={"scale": 1.0, "offset_ms": 0.0})
    predicted = [plain.predict_ms(space.latency_units(genotype, input_size_wh) or []) for genotype in genotypes]
    measured = measure_networks(
        genotypes, input_size_wh, threads=table.threads, rounds=rounds, graphs=graphs, watch=watch
    )  # fmt: skip
    half = len(genotypes) // 2
    # A line of its own: what few networks say is reported, however odd.
    scale, offset = np.polyfit(np.asarray(predicted[:half]), np.asarray(measured[:half]), 1)
    foretold = [float(scale * value + offset) for value in predicted[half:]]
    return Calibration(
        table=plain.calibrated(predicted, measured),
        predicted_ms=predicted,
        measured_ms=measured,
        other_half=dict(report(foretold, measured[half:])),
    )


def calibrate_space(
    table: LatencyTable,
    config: SearchConfig,
    count: int,
    *,
    skip_share: float = 0.0,
    rounds: int = 15,
    graphs: Path | None = None,
    watch: Watch | None = None,
) -> Calibration:
    """Fit the table of a search's networks (:func:`~autopose.search.latency_bench.measure_space`) to ``count`` of them.

    Raises:
        ConfigError: its space has no latency table; a unit that was not measured.
        DataError: networks that should take longer took less.
    """
    space = open_measured(config)
    joints = len(open_skeleton(config.skeleton))
    networks = random_networks(space, count, joints=joints, skip_share=skip_share)
    return calibrate(table, space, networks, config.codec.input_size_wh, rounds=rounds, graphs=graphs, watch=watch)


def _exported(genotype: AutoPoseGenotype, size_wh: tuple[int, int], folder: Path) -> Path:
    """Return the ONNX file of a network with fresh weights.

    The older exporter writes the same nodes for these networks in a fifth of the time.
    """
    path = folder / f"{genotype.fingerprint()}-{size_wh[0]}x{size_wh[1]}.onnx"
    if not path.is_file():
        inputs = (torch.zeros(1, 3, size_wh[1], size_wh[0]),)
        with warnings.catch_warnings(), atomic_path(path) as temporary:
            warnings.simplefilter("ignore")
            torch.onnx.export(build_network(genotype, 17).eval(), inputs, temporary, dynamo=False, opset_version=20)
    return path
