"""CPU time of one training sample: python benchmarks/data_loading.py [ANNOTATIONS.json].

Without a file, on 64 synthetic pictures of 480x360. One core; CPU time, so that other processes do not count.
"""

import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from autopose.data.augment import Augment
from autopose.data.coco import load_coco
from autopose.data.coco_file import read_coco
from autopose.data.detection_dataset import DetectionAugment, DetectionDataset
from autopose.data.images import DiskReader, ImageReader, PackedReader, pack_images
from autopose.data.pose_dataset import PoseDataset
from autopose.data.scenes import scenes_from_coco
from autopose.data.synthetic import write_synthetic
from autopose.heatmap import Codec


def report(what: str, data: PoseDataset | DetectionDataset) -> None:
    """Print milliseconds of CPU time per sample, the best of three rounds."""
    rounds = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        start = time.process_time()
        for index in range(len(data)):
            data.sample(index, rng)
        rounds.append((time.process_time() - start) / len(data) * 1000)
    print(f"{what}: {min(rounds):.2f} ms")


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            annotations = Path(sys.argv[1])
        else:
            start = time.process_time()
            annotations = write_synthetic(folder / "set", images=64, seed=0, size_wh=(480, 360))
            print(
                f"drawing a picture of 480x360 with 1 to 3 persons: {(time.process_time() - start) / 64 * 1000:.0f} ms"
            )
        persons, scenes = load_coco(annotations)[:500], scenes_from_coco(read_coco(annotations))[:500]
        paths = [person.image_path for person in persons] + [scene.image_path for scene in scenes]
        pack = PackedReader(pack_images(paths, folder / "set.pack"))
        readers: tuple[tuple[str, ImageReader], ...] = (("files", DiskReader()), ("a pack", pack))
        for source, reader in readers:
            for what, augment in (("plain", None), ("augmented", Augment())):
                report(f"pose crop 192x256, {what}, from {source}", PoseDataset(persons, Codec(), augment, reader))
            for what, change in (("plain", None), ("augmented", DetectionAugment())):
                whole = DetectionDataset(scenes, (320, 320), change, reader)
                report(f"detector input 320x320, {what}, from {source}", whole)


main()
