"""Share of annotated faces that ``infer --hide heads`` hides, by the height of the person.

    python benchmarks/hidden_heads.py ANNOTATIONS.json [--images DIR] [--model default] [--detector default]
        [--threshold 0.25]

A face counts where the annotator saw the nose (visibility 2); it is hidden if the nose and the eyes that were seen all
lie in what is hidden. As in a run, heads of poses that are not believed in are hidden, too.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from autopose import Estimator
from autopose.anonymise import hide_heads
from autopose.data.coco_file import read_coco
from autopose.image_files import read_image

FACE = slice(0, 3)  # nose and eyes of COCO's joints
HEIGHTS = (0, 60, 120, 240, 10**6)


def main() -> None:
    """Print a line for each range of heights, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="COCO keypoints")
    parser.add_argument("--images", type=Path, help="folder of the pictures; that of the annotations if not given")
    parser.add_argument("--model", default="default")
    parser.add_argument("--detector", default="default")
    parser.add_argument("--threshold", type=float, default=0.25)
    options = parser.parse_args()
    file = read_coco(options.annotations)
    folder = options.images or file.folder
    tall, hidden = [], []
    with Estimator(options.model, options.detector, detector_threshold=options.threshold) as estimator:
        for number, image in file.images.items():
            picture = read_image(folder / image["file_name"], upright=False)
            found = estimator.detect(picture)
            crops = estimator.crop(picture, found[0])
            (poses,) = estimator.estimate([crops], [found], [(picture.shape[1], picture.shape[0])])
            noise = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)  # no area of one colour
            gone = (hide_heads(noise, poses) != noise).any(-1)
            for record in file.annotations:
                joints = np.array(record.get("keypoints", []), float).reshape(-1, 3)
                if record["image_id"] != number or not len(joints) or joints[0, 2] != 2:
                    continue
                x, y = joints[FACE][joints[FACE, 2] == 2, :2].astype(int).T
                tall.append(record["bbox"][3])
                hidden.append(gone[y.clip(0, len(gone) - 1), x.clip(0, gone.shape[1] - 1)].all())
    heights, shares = np.array(tall), np.array(hidden)
    for low, high in [*pairwise(HEIGHTS), (0, HEIGHTS[-1])]:
        chosen = (heights >= low) & (heights < high)
        name = f"{low} to {high} pixels" if high < HEIGHTS[-1] else f"{low} pixels or more"
        print(f"persons of {name}: {shares[chosen].sum()} of {chosen.sum()} faces hidden")


if __name__ == "__main__":
    main()
