"""Peak memory of ``autopose infer`` on a long video beside that on a short one, each in a process of its own.

Usage: python benchmarks/memory.py [--frames 500 10000] [--size 640 360] [--persons 3] [--every 2] [--model default]

Both videos show the same walkers, so that only the length differs. Memory depends on the size of the frames and the
number of persons, not on how often the detector runs: --size 256 192 --persons 1 --every 10 --no-flip is the quick way.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from autopose.data.walkers import synthetic_clip
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.run import open_estimator
from autopose.runtime.sources import find_sources
from autopose.runtime.video_writer import VideoWriter


def write_video(path: Path, frames: int, size_wh: tuple[int, int], persons: int) -> None:
    pictures = [image for image, _ in synthetic_clip(50, size_wh=size_wh, persons=persons)]
    writer = VideoWriter(path, size_wh, fps=Fraction(25), time_base=Fraction(1, 25), preset="ultrafast")
    for t, image in enumerate(itertools.islice(itertools.cycle(pictures), frames)):
        writer.write(image, t)
    writer.close()


def child(given: argparse.Namespace) -> None:
    formats = ("video", "json", "coco", "csv", "trc", "sheet")
    settings = {"model": given.model, "detector": given.detector, "flip": given.flip}
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as out, open_estimator(settings) as estimator:
        options = InferOptions(out=Path(out), save=formats, every=given.every)
        report = infer_source(estimator, find_sources([given.child])[0], options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{report.frames} {report.persons} {time.process_time() - begin:.0f} {peak:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=(500, 10_000))
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360))
    parser.add_argument("--persons", type=int, default=3)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="fast")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in given.frames:
            video = Path(folder) / f"{frames}.mp4"
            write_video(video, frames, (given.size[0], given.size[1]), given.persons)
            command = [sys.executable, __file__, *sys.argv[1:], "--child", str(video)]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            count, persons, seconds, peak = output.split()
            print(f"{count} frames, {persons} persons, {seconds} CPU s: peak {peak} MiB", flush=True)
            peaks.append(float(peak))
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
