"""Latency of the networks beside MoveNet (per person) and YOLOX (per frame): all in one process, in interleaved rounds.

    python benchmarks/model_latency.py [--models default] [--detectors default] [--movenet FILE] [--yolox FILE]
        [--threads 1 2] [--rounds 40] [--json OUT]

Models are bundled names (timed without and with flip averaging) or ONNX files of ``autopose export``. The compared
networks are not part of this project: give their ONNX files. All run on ONNX Runtime's CPU provider with the runtime's
own session settings. ``graph`` is one run of the network on a ready input, with the decoding that its graph holds;
``call`` is a whole detection in a 640x480 image: letterbox, network, suppression. Wall times are medians over the
rounds; a ratio is the median over the rounds of the two times of one round, so that what else the machine does meets
both. CPU times count all threads of the process. Two threads need two cores to run on.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from autopose.files import write_atomic
from autopose.runtime.detector import open_detector
from autopose.runtime.models import resolve_model
from autopose.runtime.ort_session import open_ort, usable_cores

#: Element types of the graphs' inputs.
DTYPES = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(float)": np.float32}


@dataclass(frozen=True)
class Subject:
    """Something to time.

    Attributes:
        name: for the table.
        group: subjects of one group are compared: ``per person, graph``, ``per frame, graph``, ``per frame, call``.
        reference: whether the others of the group are divided by it.
        run: the timed call.
    """

    name: str
    group: str
    reference: bool
    run: Callable[[], object]


def graph_run(path: Path, threads: int) -> Callable[[], object]:
    """Return one run of a graph with a single image input, batch 1, on random pixels 0-255."""
    session: Any = open_ort(path, device="cpu", threads=threads)
    (item,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in item.shape]
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(DTYPES[item.type])
    return lambda: session.run(None, {item.name: pixels})


def subjects(options: argparse.Namespace, threads: int) -> list[Subject]:
    """Open everything that was asked for."""
    found: list[Subject] = []

    def add(name: str, group: str, path: Path, *, reference: bool = False) -> None:
        found.append(Subject(name, f"{group}, graph", reference, graph_run(path, threads)))

    for model in options.models:
        if Path(model).is_file():
            add(Path(model).name, "per person", Path(model))
        else:
            for flip in (False, True):
                add(f"{model}, {'flip' if flip else 'no flip'}", "per person", resolve_model(model, flip=flip))
    if options.movenet:
        add(options.movenet.stem, "per person", options.movenet, reference=True)
    detectors = [(name, False) for name in options.detectors] + ([(str(options.yolox), True)] if options.yolox else [])
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    for model, reference in detectors:
        name = Path(model).stem if Path(model).is_file() else f"detector {model}"
        path = Path(model) if reference else resolve_model(model, task="detector")
        add(name, "per frame", path, reference=reference)
        detector = open_detector(model, device="cpu", threads=threads)
        found.append(Subject(name, "per frame, call", reference, lambda detector=detector: detector(image)))  # type: ignore[misc]
    return found


def timed(chosen: list[Subject], rounds: int) -> list[dict[str, Any]]:
    """Run all subjects in turn, in another order each round; return one row of figures per subject."""
    order = np.random.default_rng(0)
    for subject in chosen:
        for _ in range(3):
            subject.run()
    wall, cpu = np.empty((2, len(chosen), rounds))
    for round_ in range(rounds):
        for index in order.permutation(len(chosen)):
            begin, begin_cpu = time.perf_counter(), time.process_time()
            chosen[index].run()
            wall[index, round_] = 1e3 * (time.perf_counter() - begin)
            cpu[index, round_] = 1e3 * (time.process_time() - begin_cpu)
    references = {subject.group: index for index, subject in enumerate(chosen) if subject.reference}
    rows = []
    for index, subject in enumerate(chosen):
        row: dict[str, Any] = {
            "group": subject.group,
            "name": subject.name,
            "wall_ms": float(np.median(wall[index])),
            "wall_ms_p10": float(np.quantile(wall[index], 0.1)),
            "cpu_ms": float(np.median(cpu[index])),
        }
        if subject.group in references:
            other = references[subject.group]
            row["wall_ratio"] = float(np.median(wall[index] / wall[other]))
            row["cpu_ratio"] = float(np.median(cpu[index] / cpu[other]))
        rows.append(row)
    return rows


def main() -> None:
    """Time, print a table per number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["default"])
    parser.add_argument("--detectors", nargs="*", default=["default"])
    parser.add_argument("--movenet", type=Path, help="single-pose MoveNet, ONNX")
    parser.add_argument("--yolox", type=Path, help="YOLOX, ONNX")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, ONNX Runtime {onnxruntime.__version__} CPU"
    load = os.getloadavg()
    print(f"{machine}, {usable_cores()} cores to run on, load {' '.join(f'{value:.1f}' for value in load)}")
    report: dict[str, Any] = {"machine": machine, "cores": usable_cores(), "load": load, "rounds": options.rounds}
    for threads in options.threads:
        if threads > usable_cores():
            print(f"{threads} threads on {usable_cores()} core(s): left out, the times would mean nothing.")
            continue
        rows = timed(subjects(options, threads), options.rounds)
        report[f"threads_{threads}"] = rows
        print(f"\n{threads} thread(s), {options.rounds} rounds")
        print(f"{'':20}{'':24}{'wall ms':>9}{'p10':>8}{'CPU ms':>8}{'wall x':>8}{'CPU x':>8}")
        for row in sorted(rows, key=lambda row: str(row["group"])):
            ratios = f"{row['wall_ratio']:>8.2f}{row['cpu_ratio']:>8.2f}" if "wall_ratio" in row else ""
            print(
                f"{row['group']:20}{row['name']:24}{row['wall_ms']:>9.2f}{row['wall_ms_p10']:>8.2f}"
                f"{row['cpu_ms']:>8.2f}{ratios}"
            )
    if options.json:
        write_atomic(options.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
