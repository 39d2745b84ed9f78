"""Jitter and lag of the smoothers: one photograph encoded as a 100-frame clip, and a figure that swings at 1 Hz.

Usage: python benchmarks/jitter.py PHOTO [--model default] [--detector fast]

Jitter is the standard deviation of the second differences of all joints with score >= 0.2, in pixels. Lag is the shift
in frames at 30 per second that fits the smoothed swing best.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from autopose.image_files import read_image
from autopose.poses import Poses
from autopose.runtime.estimator import Estimator
from autopose.runtime.smoother import open_smoother
from autopose.runtime.video_writer import VideoWriter


def jitter(estimator: Estimator, video: Path, smooth: str) -> tuple[float, int]:
    series: dict[int, list[Poses]] = {}
    for _, poses in estimator.track(video, every=1, smooth=smooth):
        for person in poses:
            series.setdefault(int(person.ids[0]), []).append(person)
    whole = [persons for persons in series.values() if len(persons) == 100]
    differences = []
    for persons in whole:
        xy = np.stack([p.keypoints[0] for p in persons])
        sure = np.stack([p.keypoint_scores[0] for p in persons]).min(0) >= 0.2
        differences.append(np.diff(xy[:, sure], 2, axis=0).ravel())
    return (float(np.concatenate(differences).std()) if differences else float("nan")), len(whole)


def lag(smooth: str) -> float:
    time = np.arange(300) / 30
    smoother = open_smoother(smooth, 30.0)
    done = []
    for t in range(300):
        joints = np.full((1, 17, 2), 200.0, np.float32)
        joints[..., 0] += 40 * np.sin(2 * np.pi * time[t])
        ones = np.ones((1, 17), np.float32)
        box = np.array([[100, 100, 180, 300]], np.float32)
        done += smoother.push(t, Poses(box, ones[:, 0], joints, ones, ids=np.array([1])), time[t])
    done += smoother.flush()
    got = np.array([poses.keypoints[0, 0, 0] for _, poses in done])[60:]
    shifts = np.arange(0, 8, 0.05)
    errors = [np.abs(200 + 40 * np.sin(2 * np.pi * (time[60:] - s / 30)) - got).mean() for s in shifts]
    return float(shifts[int(np.argmin(errors))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="fast")
    given = parser.parse_args()
    image = read_image(given.photo)
    with tempfile.TemporaryDirectory() as folder, Estimator(given.model, given.detector, device="cpu") as estimator:
        video = Path(folder) / "still.mp4"
        size_wh = image.shape[1], image.shape[0]
        writer = VideoWriter(video, size_wh, fps=Fraction(30), time_base=Fraction(1, 30), crf=28)
        for t in range(100):
            writer.write(image, t)
        writer.close()
        for smooth in ("none", "online", "offline"):
            value, persons = jitter(estimator, video, smooth)
            delay = "" if smooth == "none" else f", lag at 1 Hz {lag(smooth):.2f} frames"
            print(f"{smooth:8} jitter {value:.4f} px over {persons} persons{delay}", flush=True)


if __name__ == "__main__":
    main()
