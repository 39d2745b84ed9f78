"""How often to detect: agreement with the truth, ids and cost of ``--every N`` on synthetic walkers.

Usage: python benchmarks/every.py [--model default] [--detector truth] [--frames 150]

``--detector truth`` gives the true boxes shifted at random by 3 % of their size, so that only the effect of detecting
less often is seen; CPU seconds are then without the detector's.

Prints per N: persons found, mean OKS with the true pose, id switches (a true person whose id changes), CPU seconds.
The default of ``--every`` is the largest N with no more id switches than N = 1 that finds as many persons.
"""

import argparse
import time

import numpy as np

from autopose.boxes import box_iou
from autopose.data.walkers import synthetic_clip
from autopose.poses import Poses
from autopose.runtime.assignment import assign
from autopose.runtime.estimator import Estimator
from autopose.runtime.pipeline import PosePipeline, timed_work
from autopose.runtime.similarity import oks
from autopose.runtime.stages import Stage, run_stages
from autopose.runtime.video import Frame


class TrueBoxes:
    """A detector that knows the clips' frames."""

    def __init__(self, clips: list[list[tuple[np.ndarray, Poses]]]) -> None:
        self.truths = {id(image): truth for clip in clips for image, truth in clip}
        self.rng = np.random.default_rng(0)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        truth = self.truths[id(image)]
        sides = np.tile(truth.boxes[:, 2:] - truth.boxes[:, :2], 2)
        shifted = truth.boxes + 0.03 * sides * self.rng.standard_normal(sides.shape)
        return shifted.astype(np.float32), np.full(len(truth), 0.9, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="truth")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    clips = [list(synthetic_clip(given.frames, persons=3, seed=seed)) for seed in range(given.seeds)]
    truths = sum(len(truth) for clip in clips for _, truth in clip)
    print(f"{given.seeds} clips of {given.frames} frames at 25 per second, {truths} true persons in all frames")
    print(f"{'every':>5}{'found':>8}{'OKS':>8}{'switches':>10}{'detections':>12}{'CPU s':>8}")
    detector = TrueBoxes(clips) if given.detector == "truth" else given.detector
    with Estimator(given.model, detector, device="cpu", threads=1) as estimator:
        for every in (1, 2, 3, 5, 8):
            found, similar, switches, detections = 0, [], 0, 0
            begin = time.process_time()
            for clip in clips:
                frames = [Frame(image, i, i / 25) for i, (image, _) in enumerate(clip)]
                pipeline = PosePipeline(estimator, every=every, smooth="none", fps=25)
                works = list(run_stages(timed_work(frames, Stage("decode", list)), pipeline.stages()))
                detections += -(-len(frames) // every) + pipeline.follower.redetected
                last: dict[int, int] = {}
                for work, (_, truth) in zip(works, clip, strict=True):
                    poses = work.result
                    overlaps = box_iou(truth.boxes, poses.boxes)
                    for row, column in assign(1 - overlaps):
                        if overlaps[row, column] < 0.4:
                            continue
                        found += 1
                        similar.append(oks(truth[row], poses[column], min_score=0.0)[0, 0])
                        person, track = int(truth.ids[row]), int(poses.ids[column])
                        switches += last.get(person, track) != track
                        last[person] = track
            cpu = time.process_time() - begin
            score = float(np.mean(similar)) if similar else 0.0
            print(f"{every:>5}{found:>8}{score:>8.3f}{switches:>10}{detections:>12}{cpu:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
