"""How well the latency table predicts derived networks: random genotypes, exported and measured on ONNX Runtime.

    python benchmarks/search_latency.py [--config small] [--networks 20] [--threads 1] [--table latency-cpu.json]
        [--graphs FOLDER] [--skip-share 0.5]

Measures the table first if the file does not exist. Prints Spearman's rho (the bar is 0.9) and the mean relative error
of the calibrated prediction; the calibration (a factor and a constant, fitted on the first half) is kept in the table.
Graphs are kept in FOLDER for another run. ``--skip-share`` makes that share of all edges ``skip``, which is where
searches for a low latency end.
"""

import argparse
import json
import random
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from autopose.config import load_config
from autopose.files import atomic_path
from autopose.genotype import AutoPoseGenotype
from autopose.models.network import build_network
from autopose.search.config import SearchConfig
from autopose.search.latency import LatencyTable, report
from autopose.search.latency_bench import measure_space, median_ms
from autopose.search.space import open_space


def exported(genotype: AutoPoseGenotype, size_wh: tuple[int, int], folder: Path) -> Path:
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
    graphs = options.graphs or Path(tempfile.mkdtemp())
    graphs.mkdir(parents=True, exist_ok=True)
    config = load_config(SearchConfig, options.config, group="search")
    space, size_wh = open_space(config.space, config.space_settings()), config.codec.input_size_wh
    supernet, generator = space.supernet(17), torch.Generator().manual_seed(0)
    genotypes: list[AutoPoseGenotype] = []
    while len(genotypes) < options.networks:
        supernet.randomize(generator)
        for name, logits in supernet.arch.items() if options.skip_share else ():
            skipped = torch.rand(len(logits), generator=generator) < options.skip_share
            logits.data[skipped, supernet.choices[name].index("skip")] = 1e3
        genotype = space.derive(supernet, space.random_macro(generator), name="random", provenance={})
        assert isinstance(genotype, AutoPoseGenotype)
        genotypes.append(genotype)
    if options.table.exists():
        table = LatencyTable.load(options.table)
    else:
        table = measure_space(config, threads=options.threads, rounds=options.rounds)
    plain = table.model_copy(update={"scale": 1.0, "offset_ms": 0.0})
    predicted = [plain.predict_ms(space.latency_units(genotype, size_wh) or []) for genotype in genotypes]
    measured: list[float] = []
    feed = {"x": np.random.default_rng(0).standard_normal((1, 3, size_wh[1], size_wh[0])).astype(np.float32)}
    sessions = []
    for genotype in genotypes:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = 3
        path = exported(genotype, size_wh, graphs)
        sessions.append(onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"]))
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(3):  # in random order, several times: a machine that is slow for a while slows all alike
        for index in random.sample(range(len(sessions)), len(sessions)):
            session = sessions[index]
            inputs = {session.get_inputs()[0].name: feed["x"]}
            times[index].append(median_ms(lambda s=session, i=inputs: s.run(None, i), options.rounds))  # type: ignore[misc]
    measured = [min(values) for values in times]
    half = len(genotypes) // 2
    table = plain.calibrated(predicted[:half], measured[:half])
    table.save(options.table)
    calibrated = [table.scale * value + table.offset_ms for value in predicted]
    result = {
        "table": str(options.table),
        "all": report(predicted, measured),
        "calibrated_on_the_other_half": report(calibrated[half:], measured[half:]),
        "scale": table.scale,
        "offset_ms": table.offset_ms,
        "predicted_ms": [round(value, 3) for value in predicted],
        "measured_ms": [round(value, 3) for value in measured],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
