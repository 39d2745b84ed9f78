"""Make the README's picture: the bundled models on a synthetic clip.

python benchmarks/readme_picture.py docs/assets/synthetic.webp
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from autopose import Estimator
from autopose.data.walkers import synthetic_clip


def main(out: Path) -> None:
    """Draw what the bundled models find (not the ground truth) on 48 frames and write them as a moving WebP."""
    frames = []
    with Estimator() as estimator:
        for index, (frame, _) in enumerate(synthetic_clip(frames=96, size_wh=(960, 540), persons=3, seed=1)):
            if index % 2 == 0:
                drawn = estimator.predict(frame).plot()
                frames.append(cv2.resize(drawn, (640, 360), interpolation=cv2.INTER_AREA))
    # 80 ms per frame; as a GIF it would be nine times as large.
    animation = cv2.Animation()
    animation.frames = frames
    animation.durations = np.full(len(frames), 80, np.int32)
    cv2.imwriteanimation(str(out), animation, [cv2.IMWRITE_WEBP_QUALITY, 75])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the .webp file")
    main(parser.parse_args().out)
