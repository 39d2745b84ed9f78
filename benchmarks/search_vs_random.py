"""The search against random search of equal budget: derived networks, trained alike, over several seeds.

    python benchmarks/search_vs_random.py [--config smoke] [--train-config smoke] [--seeds 3] [--steps 300]

Each strategy searches with each seed; each genotype is trained from scratch with the same recipe, steps and seed; the
figure is the AP on the tune split (drawn figures for ``smoke``). Finished parts are kept and skipped when run again.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from autopose.genotype import Genotype
from autopose.models.cost import profile
from autopose.models.network import build_network
from autopose.training.resumable import is_resumable


def autopose(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "autopose", *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="smoke")
    parser.add_argument("--train-config", default="smoke")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--strategies", nargs="+", default=["bilevel", "random"])
    parser.add_argument("--folder", type=Path, default=Path("runs/search-vs-random"))
    parser.add_argument("--set", action="append", default=[], dest="settings", help="of the search")
    parser.add_argument("--train-set", action="append", default=[], dest="train_settings", help="of the training")
    options = parser.parse_args()
    settings = [part for item in options.settings for part in ("--set", item)]
    train_settings = [part for item in options.train_settings for part in ("--set", item)]
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for strategy in options.strategies:
            run = options.folder / f"{strategy}-{seed}"
            genotype = run / "genotype.json"
            if not genotype.exists():
                resume = ["--resume"] if is_resumable(run / "checkpoints") else []
                autopose(
                    "search", "--config", options.config, "-o", str(run), "--strategy", strategy,
                    "--set", f"search.seed={seed}", *settings, *resume,
                )  # fmt: skip
            figures = run / "trained.json"
            if not figures.exists():
                trained = run / "trained"
                resume = ["--resume"] if is_resumable(trained) else []
                autopose(
                    "train", str(genotype), "--config", options.train_config, "-o", str(trained),
                    "--json", str(figures),
                    "--set", f"train.steps={options.steps}", "--set", f"train.eval_every={options.steps}",
                    "--set", f"train.seed={seed}", *train_settings, *resume,
                )  # fmt: skip
            network = Genotype.load(genotype)
            rows.append(
                {
                    "strategy": strategy,
                    "seed": seed,
                    "AP": json.loads(figures.read_text())["AP"],
                    "shared_weight_score": network.provenance["shared_weight_score"],
                    "gmacs": profile(build_network(network), (192, 256)).macs / 1e9,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    for strategy in options.strategies:
        found = [row["AP"] for row in rows if row["strategy"] == strategy]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(f"{strategy}: AP {statistics.mean(found):.3f} +- {spread:.3f} over {len(found)} seeds")


if __name__ == "__main__":
    main()
