"""The pipeline beside a plain per-box loop, and beside rtmlib, with the same boxes and the same ONNX pose network.

Usage: python benchmarks/pipeline.py VIDEO --boxes RESULTS.json [--rtmlib-python PYTHON --plain PLAIN.onnx]

Boxes are those of a results file of ``autopose infer VIDEO``, so that the detector takes no part. Everything runs
without flip averaging on two threads per network. rtmlib runs in its own environment (PYTHON with rtmlib installed) on
a graph exported with ``autopose export MODEL --no-flip --no-decode --io plain``; it decodes no SimCC from heatmaps, so
its box loop, affine crop and normalisation are timed around this network and the maximum of each map is taken.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from autopose.runtime.estimator import Estimator
from autopose.runtime.given_boxes import GivenBoxes
from autopose.runtime.ort_session import usable_cores
from autopose.runtime.pipeline import PosePipeline, timed_work
from autopose.runtime.stages import Stage, run_stages
from autopose.runtime.video import VideoReader

RTMLIB = """
import json, sys, time
import cv2, numpy as np
from rtmlib.tools.pose_estimation.rtmpose import RTMPose

class Heatmaps(RTMPose):
    def postprocess(self, outputs, center, scale, simcc_split_ratio=2.0):
        maps = outputs[0]
        n, k, h, w = maps.shape
        flat = maps.reshape(n, k, -1)
        peak = flat.argmax(-1)
        xy = np.stack([peak % w, peak // w], -1) * 4 + 1.5
        keypoints = xy / np.array(self.model_input_size) * scale + center - scale / 2
        return keypoints, flat.max(-1)

video, boxes, model, width, height = sys.argv[1:6]
frames = json.load(open(boxes))["frames"]
pose = Heatmaps(model, model_input_size=(int(width), int(height)), backend="onnxruntime", device="cpu")
capture = cv2.VideoCapture(video)
persons = 0
begin, cpu = time.perf_counter(), time.process_time()
for record in frames:
    found, image = capture.read()
    if not found:
        break
    if record["persons"]:
        keypoints, scores = pose(image, bboxes=[p["box"] for p in record["persons"]])
        persons += len(keypoints)
print(json.dumps({"persons": persons, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}))
"""


def pipeline(estimator: Estimator, video: Path, boxes: Path) -> dict[str, float]:
    """Run the pipeline; its own stages tell which is the slowest."""
    poser = PosePipeline(estimator, every=1, tracking=False, smooth="none", boxes=GivenBoxes(boxes))
    decode, stages = Stage("decode", list), poser.stages()
    begin, cpu = time.perf_counter(), time.process_time()
    persons = sum(len(work.result) for work in run_stages(timed_work(VideoReader(video), decode), stages))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    slowest = max(stage.timings()["total_s"] for stage in (decode, *stages))
    return {"persons": persons, "seconds": seconds, "cpu": cpu, "slowest_stage": slowest}


def plain_loop(estimator: Estimator, video: Path, boxes: Path) -> dict[str, float]:
    """Crop, run and decode box after box, in order."""
    given = GivenBoxes(boxes)
    persons = 0
    begin, cpu = time.perf_counter(), time.process_time()
    for frame in VideoReader(video):
        for box in given(frame)[0]:
            crops = estimator.crop(frame.image, box[None])
            xy, _ = estimator.predictor(crops.images)
            crops.to_image(xy)
            persons += 1
    return {"persons": persons, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--boxes", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rtmlib-python")
    parser.add_argument("--plain", type=Path)
    given = parser.parse_args()
    cores = usable_cores()
    print(f"{given.video.name}, {cores} cores, load {' '.join(Path('/proc/loadavg').read_text().split()[:3])}")
    rates: dict[str, list[float]] = {}
    with Estimator(given.model, "full-frame", device="cpu", flip=False, threads=cores) as estimator:
        estimator.warmup()
        width, height = estimator.manifest.codec.input_size_wh
        for _ in range(given.rounds):  # in turn, so that a change of load meets all alike
            for name, run in (("pipeline", pipeline), ("plain loop", plain_loop)):
                figures = run(estimator, given.video, given.boxes)
                rates.setdefault(name, []).append(figures["persons"] / figures["seconds"])
                note = ""
                if "slowest_stage" in figures:
                    bound = max(figures["slowest_stage"], figures["cpu"] / cores)
                    note = f", {figures['seconds'] / bound:.2f}x of max(slowest stage, CPU / cores)"
                _tell(name, figures, note)
            if given.rtmlib_python and given.plain:
                command = [given.rtmlib_python, "-c", RTMLIB, str(given.video), str(given.boxes), str(given.plain)]
                done = subprocess.run([*command, str(width), str(height)], capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"rtmlib failed: {done.stderr[-800:]}")
                figures = json.loads(done.stdout.splitlines()[-1])
                rates.setdefault("rtmlib", []).append(figures["persons"] / figures["seconds"])
                _tell("rtmlib", figures, "")
    middle = {name: float(np.median(values)) for name, values in rates.items()}
    for name, rate in middle.items():
        print(f"median {name}: {rate:.1f} persons/s, pipeline is {middle['pipeline'] / rate:.2f}x")


def _tell(name: str, figures: dict[str, float], note: str) -> None:
    rate = figures["persons"] / figures["seconds"]
    print(
        f"{name:10} {figures['persons']:.0f} persons, {figures['seconds']:.1f} s, "
        f"{figures['cpu']:.1f} CPU s, {rate:.1f} persons/s{note}",
        flush=True,
    )


if __name__ == "__main__":
    main()
