"""Throughput of training and search against batch, loader workers and processes.

    python benchmarks/scaling.py [--genotype small] [--size 192x256] [--parts batch,workers,processes,search]

``batch``: training steps on random crops. ``workers``: batches from JPEGs on disk, augmented, without a network.
``processes``: distributed data parallel over gloo (NCCL on GPUs), one thread each. ``search``: a weight and an
architecture step of the supernet of search recipe ``small``. Each row is the best of the rounds, in samples per second
of wall clock and per second of processor time: on a shared machine only the second means anything.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from autopose.config import load_config
from autopose.data.augment import Augment
from autopose.data.coco import load_coco
from autopose.data.pose_dataset import PoseDataset
from autopose.data.synthetic import write_synthetic
from autopose.genotype import Genotype
from autopose.models.network import build_network
from autopose.training.bfloat16 import autocast
from autopose.training.config import TrainConfig
from autopose.training.loader import KeySampler, make_loader
from autopose.training.optimizer import make_optimizer
from autopose.training.tasks import PoseTask, pose_loss


def best(action: Callable[[], None], samples: int, rounds: int) -> dict[str, float]:
    """Return samples per second of wall clock and of this process's time, after one round that is not counted."""
    action()
    wall, cpu = float("inf"), float("inf")
    for _ in range(rounds):
        started, used = time.perf_counter(), time.process_time()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall, cpu = min(wall, time.perf_counter() - started), min(cpu, time.process_time() - used)
    return {"per_second": round(samples / wall, 2), "per_cpu_second": round(samples / max(cpu, 1e-9), 2)}


def stepper(genotype: str, config: TrainConfig, batch: int, parallel: bool = False) -> Callable[[], None]:
    """Return one training step on a random batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width, height = config.codec.input_size_wh
    network: nn.Module = build_network(Genotype.load(genotype)).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, config.train)
    model = DistributedDataParallel(network) if parallel else network
    crops = torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8)
    xy = torch.rand(batch, 17, 2) * torch.tensor([width, height])

    def step() -> None:
        with autocast(config.train.amp, device):
            loss = pose_loss(model, (crops, xy, torch.ones(batch, 17)), config, device)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def by_workers(config: TrainConfig, counts: list[int], rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        persons = load_coco(write_synthetic(Path(folder), images=64, seed=0, size_wh=(480, 360)))
        source = PoseDataset(persons, config.codec, Augment())
        weights = np.ones(len(persons))
        rows: dict[str, object] = {}
        for workers in counts:
            loader = make_loader(source, KeySampler(weights, 16, 0, 0, 8 * rounds), PoseTask.collate, workers)
            batches = iter(loader)
            next(batches)  # the processes are up
            started, count = time.perf_counter(), 0
            for _ in batches:
                count += 16
            rows[str(workers)] = {"per_second": round(count / (time.perf_counter() - started), 1)}
        return rows


def by_processes(genotype: str, options: argparse.Namespace) -> dict[str, object]:
    rows: dict[str, object] = {}
    for world in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--genotype", genotype, "--size", options.size]
            command += ["--steps", str(options.steps), "--member", f"{folder}/result.json"]
            base = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
            members = [
                subprocess.Popen(command, env={**base, "RANK": str(rank), "WORLD_SIZE": str(world)})
                for rank in range(world)
            ]
            if any(member.wait() for member in members):
                raise SystemExit("a process failed")
            rows[str(world)] = json.loads(Path(folder, "result.json").read_text())
    return rows


def member(options: argparse.Namespace, config: TrainConfig) -> None:
    """Be one process of a distributed run; rank 0 writes the figures of all."""
    world = int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    figures = best(stepper(options.genotype, config, 8, parallel=True), 8 * world, options.steps)
    if os.environ["RANK"] == "0":
        Path(options.member).write_text(json.dumps(figures))
    torch.distributed.destroy_process_group()


def by_search_batch(counts: list[int], rounds: int) -> dict[str, object]:
    from search_step import Bench, Draw

    from autopose.search.config import SearchConfig

    rows: dict[str, object] = {}
    for batch in counts:
        bench = Bench(load_config(SearchConfig, "small", group="search"), batch)
        draw = Draw(bench.macro, bench.net.sample_noise(torch.Generator().manual_seed(0)))

        def step(bench: Bench = bench, draw: Draw = draw) -> None:
            bench.step("weights", draw, count=False)
            bench.step("arch", draw, count=False)

        rows[str(batch)] = best(step, 2 * batch, rounds)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genotype", default="small")
    parser.add_argument("--size", default="192x256", help="width x height")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batches", default="1,2,4,8,16,32")
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--parts", default="batch,workers,processes,search")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--member", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = [int(side) for side in options.size.split("x")]
    config = load_config(TrainConfig, None, [f"codec.input_size_wh={size}"])
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.member:
        member(options, config)
        return
    batches, workers = ([int(n) for n in text.split(",")] for text in (options.batches, options.workers))
    parts = options.parts.split(",")
    result: dict[str, object] = {
        "genotype": options.genotype,
        "size": options.size,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }
    if "batch" in parts:
        rows = {str(b): best(stepper(options.genotype, config, b), b, options.steps) for b in batches}
        result["batch"] = rows
    if "workers" in parts:
        result["workers"] = by_workers(config, workers, options.steps)
    if "processes" in parts:
        result["processes"] = by_processes(options.genotype, options)
    if "search" in parts:
        result["search"] = by_search_batch([b for b in batches if b <= 8], options.steps)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
