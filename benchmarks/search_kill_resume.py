"""Kill a search with SIGKILL at random moments, resume it each time, and compare with an unbroken run.

    python benchmarks/search_kill_resume.py [--kills 10] [--folder runs/kill] [--set a.b=c ...]

Genotype and every tensor of the last state (weights, architecture, controller, optimisers, generator) must be equal.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

from autopose.genotype import Genotype

QUICK = [
    "search.epochs=4",
    "search.iterations=6",
    "search.batch=4",
    "search.reward_persons=8",
    "search.save_minutes=0",
    "data.synthetic_images=64",
    "data.tune_share=0.25",
    "codec.input_size_wh=[64, 64]",
    "controller.start_epoch=1",
    "controller.updates=3",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("runs/kill"))
    parser.add_argument("--config", default="smoke")
    parser.add_argument(
        "--longest", type=float, default=6.0, help="seconds after the first state until a kill, at most"
    )
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    settings = [part for item in [*QUICK, *options.settings] for part in ("--set", item)]
    whole, broken = options.folder / "whole" / "run", options.folder / "broken" / "run"
    base = [sys.executable, "-m", "autopose", "search", "--config", options.config, *settings, "-q"]
    begun = time.monotonic()
    subprocess.run([*base, "-o", str(whole)], check=True, stdout=subprocess.DEVNULL)
    unbroken_seconds = time.monotonic() - begun
    kills: list[float] = []
    state = broken / "checkpoints" / "state.safetensors"
    while not (broken / "genotype.json").exists():
        resume = ["--resume"] if state.exists() else []
        process = subprocess.Popen([*base, "-o", str(broken), *resume], stdout=subprocess.DEVNULL)
        if len(kills) < options.kills:
            before = state.stat().st_mtime_ns if state.exists() else 0
            moment = random.uniform(0, options.longest)
            while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
                time.sleep(0.02)  # each life gets at least one state further, or this would never end
            time.sleep(moment)
            if process.poll() is None:
                process.kill()
                kills.append(round(moment, 2))
        process.wait()
    one, two = (load_file(folder / "checkpoints" / "state.safetensors") for folder in (whole, broken))
    different = [name for name in one if name not in two or not one[name].equal(two[name])]
    prints = [Genotype.load(folder / "genotype.json").fingerprint() for folder in (whole, broken)]
    result = {
        "kills": len(kills),
        "seconds_after_a_state": kills,
        "unbroken_seconds": round(unbroken_seconds, 1),
        "genotypes": prints,
        "tensors": len(one),
        "different": different,
    }
    print(json.dumps(result, indent=1))
    sys.exit(bool(different) or len(set(prints)) > 1 or set(one) != set(two))


if __name__ == "__main__":
    main()
