"""Supernet step at the paper's configuration: a weight and an architecture step, sampled path against all operations.

    python benchmarks/search_step.py [--config paper] [--batch 8] [--rounds 3] [--threads 2] [--bias]

Prints seconds, CPU seconds (what counts on a loaded machine: use --threads 1) and the bytes of saved activations (each
storage counted once, parameters not counted) per step, and the ratios. ``soft`` runs, weighs and learns from all six
operations of every edge; ``full`` runs one where alpha is not learned and all where it is. ``--bias`` compares the
single-path gradient for alpha with the straight-through one.
"""

import argparse
import json
import resource
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autopose.config import load_config
from autopose.search.config import SearchConfig
from autopose.search.relaxation import AlphaGradient
from autopose.search.space import Draw, open_space
from autopose.search.supernet import AutoPoseSupernet

MODES: tuple[AlphaGradient, ...] = ("single", "full", "soft")


@dataclass
class Step:
    """Wall-clock and CPU seconds, and saved bytes, of a step."""

    seconds: float
    cpu: float
    saved: int


class Bench:
    """A supernet with both optimisers and a random batch."""

    def __init__(self, config: SearchConfig, batch: int) -> None:
        torch.manual_seed(0)
        self.space = open_space("autopose", config.space_settings())
        supernet = self.space.supernet(17)
        assert isinstance(supernet, AutoPoseSupernet)
        self.net = supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weights = [weight for _, weight in supernet.named_weights()]
        self.optimizer = torch.optim.Adam(self.weights, lr=1e-3)
        self.arch_optimizer = torch.optim.Adam(supernet.arch_parameters(), lr=3e-3)
        width, height = config.codec.input_size_wh
        self.images = torch.randn(batch, 3, height, width).to(memory_format=torch.channels_last)
        self.targets = torch.rand(batch, 17, height // 4, width // 4)
        self.macro = tuple(count - 1 for count in self.space.macro_choices)  # all branches on
        self.own = {parameter.data_ptr() for parameter in supernet.parameters()}

    def loss(self, draw: Draw) -> Tensor:
        loss: Tensor = (self.net(self.images, draw) - self.targets).square().mean()
        return loss

    def trainable(self, *, weights: bool, arch: bool) -> None:
        for weight in self.weights:
            weight.requires_grad_(weights)
        for table in self.net.arch_parameters():
            table.requires_grad_(arch)

    def step(self, level: str, draw: Draw, *, count: bool) -> Step:
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in self.own:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        self.trainable(weights=level == "weights", arch=level == "arch")
        optimizer = self.optimizer if level == "weights" else self.arch_optimizer
        begun, cpu = time.perf_counter(), time.process_time()
        if count:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = self.loss(draw)
        else:
            loss = self.loss(draw)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return Step(time.perf_counter() - begun, time.process_time() - cpu, sum(kept.values()))


def bias(bench: Bench, draws: int) -> dict[str, float]:
    """Return cosine and relative length of the single-path gradient against the straight-through one."""
    cosines, lengths = [], []
    generator = torch.Generator().manual_seed(1)
    bench.trainable(weights=False, arch=True)
    for _ in range(draws):
        draw = Draw(bench.macro, bench.net.sample_noise(generator))
        vectors = []
        for mode in ("single", "full"):
            bench.net.alpha_gradient = mode  # type: ignore[assignment]
            grads = torch.autograd.grad(bench.loss(draw), bench.net.arch_parameters())
            vectors.append(torch.cat([grad.flatten() for grad in grads]).double())
        one, full = vectors
        cosines.append(float(one @ full / (one.norm() * full.norm())))
        lengths.append(float(one.norm() / full.norm()))
    return {"draws": draws, "cosine": sum(cosines) / draws, "relative_length": sum(lengths) / draws}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="paper")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bias", type=int, default=0, metavar="DRAWS")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(load_config(SearchConfig, options.config, group="search"), options.batch)
    generator = torch.Generator().manual_seed(0)
    best: dict[str, dict[str, Step]] = {mode: {} for mode in options.modes}
    for round_ in range(options.rounds + 1):
        draw = Draw(bench.macro, bench.net.sample_noise(generator))
        for mode in options.modes:  # interleaved, so that a loaded machine slows all alike
            bench.net.alpha_gradient = mode
            for level in ("weights", "arch"):
                step = bench.step(level, draw, count=round_ == 0)
                if round_ == 0:
                    best[mode][level] = step
                else:
                    best[mode][level].seconds = min(best[mode][level].seconds, step.seconds)
                    best[mode][level].cpu = min(best[mode][level].cpu, step.cpu)
    table = {
        mode: {
            "seconds": round(sum(step.seconds for step in steps.values()), 3),
            "cpu_seconds": round(sum(step.cpu for step in steps.values()), 3),
            "saved_mb": round(sum(step.saved for step in steps.values()) / 1e6),
            **{f"{level}_seconds": round(step.seconds, 3) for level, step in steps.items()},
            **{f"{level}_saved_mb": round(step.saved / 1e6) for level, step in steps.items()},
        }
        for mode, steps in best.items()
    }
    result: dict[str, Any] = {
        "config": options.config,
        "batch": options.batch,
        "threads": options.threads,
        "steps": table,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if {"single", "soft"} <= set(options.modes):
        single, soft = table["single"], table["soft"]
        result["soft_over_single_seconds"] = round(soft["seconds"] / single["seconds"], 2)
        result["soft_over_single_cpu_seconds"] = round(soft["cpu_seconds"] / single["cpu_seconds"], 2)
        result["single_over_soft_saved"] = round(single["saved_mb"] / soft["saved_mb"], 3)
    if options.bias:
        result["bias"] = bias(bench, options.bias)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
