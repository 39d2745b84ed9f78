"""Deviation, AP change and CPU speed of FP32, FP16 and INT8 exports of one model, timed in turn.

    python benchmarks/export_precisions.py --model default --data DATA [--threads 1] [--rounds 20] [-o FILE.json]

DATA holds ``pose/val.json`` (compared on, never calibrated on) and ``pose/stanford40.json`` (calibration crops). Times
are of ONNX Runtime on the CPU; FP16 is not timed there, because the CPU provider computes it in FP32.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from autopose.errors import ParityError
from autopose.export.crops import crops_from_annotations
from autopose.export.pipeline import export_model
from autopose.export.recipe import Recipe
from autopose.runtime.session import open_session


def timed(paths: dict[str, Path], crops: np.ndarray, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Run the models in turn, so that whatever else the machine does hits all alike."""
    sessions = {name: open_session(path, device="cpu", threads=threads) for name, path in paths.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
    for _ in range(rounds + 2):
        for name, session in sessions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            session.run(crops)
            spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    result = {}
    for name, session in sessions.items():
        wall, cpu = np.array(spent[name][2:]).T * 1e3 / len(crops)
        result[name] = {
            "wall_ms_p50": float(np.median(wall)),
            "wall_ms_min": float(wall.min()),
            "cpu_ms_p50": float(np.median(cpu)),
            "cpu_ms_min": float(cpu.min()),
        }
        session.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    val, calibration = arguments.data / "pose" / "val.json", arguments.data / "pose" / "stanford40.json"
    report: dict[str, object] = {"load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, Path] = {}
        for precision in ("fp32", "fp16", "int8"):
            recipe = Recipe(precision=precision, calibration=calibration, flip=False, check=val)  # type: ignore[arg-type]
            try:
                result = export_model(arguments.model, Path(folder) / f"{precision}.onnx", recipe)
            except ParityError as error:  # the gate refused the graph: the others are still worth their figures
                report[precision] = {"refused": str(error).splitlines()[0]}
                print(f"{precision}: refused. {error}", flush=True)
                continue
            report[precision] = result.to_dict()
            deviation = result.deviation
            distance = f"mean {deviation.mean_px:.4f} px, max {deviation.max_px:.2f} px"
            joints = f"{deviation.joints} joints, {deviation.ties} ties"
            change = result.details["AP_change"]
            print(f"{precision}: {distance}; {joints}; AP change {change:+.4f}", flush=True)
            if precision != "fp16":
                paths[precision] = result.path
            size_wh = result.manifest.codec.input_size_wh
        for batch in (1, 8):
            crops = crops_from_annotations(val, size_wh, batch)
            times = timed(paths, crops, arguments.threads, arguments.rounds)
            report[f"batch_{batch}"] = times
            print(f"batch {batch}, ms per crop: {times}", flush=True)
            if "int8" in times:
                ratio = times["fp32"]["cpu_ms_p50"] / times["int8"]["cpu_ms_p50"]
                print(f"batch {batch}: INT8 is {ratio:.2f} times as fast (CPU time)", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
