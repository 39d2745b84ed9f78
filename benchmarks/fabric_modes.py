"""Compare the fabric space's search modes, and the AutoPose space, over seeds at equal budgets.

    python benchmarks/fabric_modes.py -o runs/fabric-modes [--config smoke] [--seeds 3] [--train-steps 400]
                                      [--set search.epochs=4 ...] [--train-set train.batch=8 ...]

Every search gets the same number of gradient steps: ``sync`` takes one per iteration on all training data, ``first``
one of the weights and one of the architecture, ``random`` divides them among its candidates. So ``sync`` and ``random``
run twice the iterations. Every result is then trained from scratch with the ``smoke`` recipe and scored on its tune
split by AP and by the mean OKS, which tells poor networks apart. Writes RESULTS.json beside the runs and prints mean
and standard deviation. An interrupted comparison goes on with the same command: finished runs are not repeated.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from autopose.checkpoint import load_checkpoint
from autopose.config import load_config
from autopose.data.coco import load_coco
from autopose.evaluation.coco import mean_oks
from autopose.evaluation.predict import predict_persons
from autopose.files import write_atomic
from autopose.genotype import Genotype
from autopose.models.cost import profile
from autopose.search.config import SearchConfig
from autopose.search.loop import Run
from autopose.training.config import TrainConfig
from autopose.training.predictor import TorchPredictor
from autopose.training.resumable import is_resumable
from autopose.training.trainer import train

#: Mode -> settings, and how many times the configured iterations.
MODES: dict[str, tuple[tuple[str, ...], int]] = {
    "fabric sync": (("space=fabric", "search.gradient=sync", "search.arch_share=0"), 2),
    "fabric first": (("space=fabric", "search.gradient=first"), 1),
    "fabric random": (("space=fabric", "search.strategy=random", "search.random_sharing=separate"), 2),
    "autopose first": (("space=autopose", "search.gradient=first"), 1),
}
RANDOM = ("search.arch_share=0", "search.candidates=3")


def one(mode: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Search and train once; return its figures."""
    folder = options.out / f"{mode.replace(' ', '-')}-{seed}"
    done = folder / "figures.json"
    if done.exists():
        figures: dict[str, Any] = json.loads(done.read_text())
        return figures
    settings, factor = MODES[mode]
    base = load_config(SearchConfig, options.config, options.settings, group="search")
    overrides = [
        *options.settings,
        *settings,
        f"search.seed={seed}",
        f"search.iterations={base.search.iterations * factor}",
    ]
    if mode == "fabric random":
        overrides += RANDOM
    begun = time.process_time()
    config = load_config(SearchConfig, options.config, overrides, group="search")
    if not (folder / "search" / "genotype.json").exists():
        Run(config, folder / "search", resume=is_resumable(folder / "search" / "checkpoints")).search()
    searched = time.process_time() - begun
    genotype = Genotype.load(folder / "search" / "genotype.json")
    steps = [f"train.seed={seed}", f"train.steps={options.train_steps}", f"train.eval_every={options.train_steps}"]
    recipe = load_config(TrainConfig, "smoke", [*options.train_settings, *steps], group="train")
    begun = time.process_time()
    shutil.rmtree(folder / "train", ignore_errors=True)  # what an interrupted comparison left
    best = load_checkpoint(train(genotype, recipe, folder / "train"))
    trained = round(time.process_time() - begun, 1)
    tune = folder / "train" / "tune.json"
    network = best.build()
    predictor = TorchPredictor(network, best.codec, best.skeleton, flip=False)
    results = predict_persons(predictor, load_coco(tune), best.codec)
    figures = {
        "mode": mode,
        "seed": seed,
        "AP": best.metrics["AP"],
        "OKS": mean_oks(results, tune),
        "gmacs": profile(network, best.codec.input_size_wh).macs / 1e9,
        "search_score": genotype.provenance["shared_weight_score"],
        "search_cpu_s": round(searched, 1),
        "train_cpu_s": trained,
    }
    write_atomic(done, json.dumps(figures, indent=2) + "\n")
    return figures


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/fabric-modes"))
    parser.add_argument("--config", default="smoke")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-steps", type=int, default=400)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of the search")
    parser.add_argument("--train-set", dest="train_settings", action="append", default=[], help="of the training")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        for mode in options.modes:
            rows.append(one(mode, seed, options))
            print(json.dumps(rows[-1]), flush=True)
            write_atomic(options.out / "RESULTS.json", json.dumps(rows, indent=2) + "\n")
    print(f"{'mode':16s} {'n':>2s} {'AP mean':>8s} {'sd':>6s} {'OKS mean':>9s} {'sd':>6s} {'search CPU s':>13s}")
    for mode in options.modes:
        own = [row for row in rows if row["mode"] == mode]
        seconds = statistics.mean(row["search_cpu_s"] for row in own)
        ap, ap_sd = mean_and_deviation([row["AP"] for row in own])
        oks, oks_sd = mean_and_deviation([row["OKS"] for row in own])
        print(f"{mode:16s} {len(own):2d} {ap:8.3f} {ap_sd:6.3f} {oks:9.3f} {oks_sd:6.3f} {seconds:13.0f}")


if __name__ == "__main__":
    main()
