"""How well the latency table predicts derived networks: random genotypes, exported and measured on ONNX Runtime.

    python benchmarks/search_latency.py [--config small] [--networks 20] [--threads 1] [--table latency-cpu.json]
        [--graphs FOLDER] [--skip-share 0.5]

Measures the table first if the file does not exist. Prints Spearman's rho (the bar is 0.9) and the mean relative error
of plain sums and of a calibration on the other half of the networks; the table is kept with the calibration on all of
them, as ``autopose bench RECIPE --ops --calibrate N`` does. Graphs are kept in FOLDER for another run.
``--skip-share`` makes that share of all edges ``skip``, which is where searches for a low latency end.
"""

import argparse
import json
from pathlib import Path

from autopose.config import load_config
from autopose.search.config import SearchConfig
from autopose.search.latency import LatencyTable, report
from autopose.search.latency_bench import measure_space
from autopose.search.latency_networks import calibrate_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--table", type=Path, default=Path("latency-cpu.json"))
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--skip-share", type=float, default=0.0)
    options = parser.parse_args()
    if options.graphs is not None:
        options.graphs.mkdir(parents=True, exist_ok=True)
    config = load_config(SearchConfig, options.config, group="search")
    if options.table.exists():
        table = LatencyTable.load(options.table)
    else:
        table = measure_space(config, threads=options.threads, rounds=options.rounds)
    found = calibrate_space(
        table, config, options.networks, skip_share=options.skip_share, rounds=options.rounds, graphs=options.graphs
    )  # fmt: skip
    found.table.save(options.table)
    result = {
        "table": str(options.table),
        "all": report(found.predicted_ms, found.measured_ms),
        "calibrated_on_the_other_half": found.other_half,
        "scale": found.table.scale,
        "offset_ms": found.table.offset_ms,
        "predicted_ms": [round(value, 3) for value in found.predicted_ms],
        "measured_ms": [round(value, 3) for value in found.measured_ms],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
