"""Time the fabric presets before and after pruning, on one thread: latency of one 384x288 crop.

    python benchmarks/fabric_pruning.py [--repeats 10] [--size 288x384]

The three networks share their weights' names; the pruned ones compute what the unpruned one computes wherever the
removed weights are zero (tests/models/test_fabric.py). Prints MACs, parameters, median and best milliseconds.
"""

import argparse
import statistics
import time

import torch

from autopose.genotype import Genotype
from autopose.models.cost import profile
from autopose.models.network import build_network

PRESETS = ("pnfs-hrnet-cnf5", "pnfs-hrnet-cnf5-pruned", "pnfs-hrnet-cnf5-slim")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--size", default="288x384", help="WxH")
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = (int(side) for side in options.size.split("x"))
    image = torch.randn(1, 3, height, width).to(memory_format=torch.channels_last)
    networks = {name: build_network(Genotype.load(name)).eval() for name in PRESETS}
    times: dict[str, list[float]] = {name: [] for name in PRESETS}
    with torch.inference_mode():
        for repeat in range(options.repeats + 1):  # interleaved, so that load on the machine falls on all alike
            for name, network in networks.items():
                network.to(memory_format=torch.channels_last)
                begun = time.process_time()
                network(image)
                if repeat:
                    times[name].append(1000 * (time.process_time() - begun))
    print(f"{'preset':28s} {'Gi MACs':>8s} {'M params':>9s} {'median ms':>10s} {'best ms':>8s}")
    for name, network in networks.items():
        cost = profile(network, (width, height))
        median, best = statistics.median(times[name]), min(times[name])
        print(f"{name:28s} {cost.macs_gi:8.2f} {cost.params / 1e6:9.2f} {median:10.0f} {best:8.0f}")


if __name__ == "__main__":
    main()
