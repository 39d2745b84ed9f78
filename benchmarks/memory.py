"""Peak memory of ``autopose infer`` on a long video beside that on a short one, each in a process of its own.

Usage: python benchmarks/memory.py [--frames 500 10000] [--size 640 360] [--model default] [--detector default]

Both videos show the same walkers, so that only the length differs.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from autopose.data.walkers import synthetic_clip
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.run import open_estimator
from autopose.runtime.sources import find_sources
from autopose.runtime.video_writer import VideoWriter


def write_video(path: Path, frames: int, size_wh: tuple[int, int]) -> None:
    pictures = [image for image, _ in synthetic_clip(50, size_wh=size_wh, persons=3)]
    writer = VideoWriter(path, size_wh, fps=Fraction(25), time_base=Fraction(1, 25), preset="ultrafast")
    for t, image in enumerate(itertools.islice(itertools.cycle(pictures), frames)):
        writer.write(image, t)
    writer.close()


def child(video: str, model: str, detector: str) -> None:
    formats = ("video", "json", "coco", "csv", "trc", "sheet")
    with tempfile.TemporaryDirectory() as out, open_estimator({"model": model, "detector": detector}) as estimator:
        options = InferOptions(out=Path(out), save=formats)
        report = infer_source(estimator, find_sources([video])[0], options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{report.frames} {report.persons} {report.fps:.1f} {peak:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=(500, 10_000))
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360))
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="default")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.model, given.detector)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in given.frames:
            video = Path(folder) / f"{frames}.mp4"
            write_video(video, frames, (given.size[0], given.size[1]))
            command = [
                sys.executable,
                __file__,
                "--child",
                str(video),
                "--model",
                given.model,
                "--detector",
                given.detector,
            ]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            count, persons, fps, peak = output.split()
            print(f"{count} frames, {persons} persons, {fps} frames/s: peak {peak} MiB", flush=True)
            peaks.append(float(peak))
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
