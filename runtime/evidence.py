"""How much speaks for a person: the detector's word and the pose network's."""

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses

#: Evidence from which a detection in a separate image counts as a person: one in 137 photographs that show nobody then
#: has a false one. Most of these the bundled detector was trained on: docs/benchmarks.md, "False persons".
LEAST_EVIDENCE = 0.52
#: Share of the box's score in the evidence; the rest is the joints'. Chosen on held-out images (there).
BOX_SHARE = 0.75


def evidence(poses: Poses) -> NDArray[np.float64]:
    """Return how surely each detection is a person ``(n,)``: three quarters the box's score, one the joints'.

    A detector takes a bush for a person at times; the pose network then finds no joints in it. Of the joints the better
    half counts, by its mean score: whoever is cut off by the border, or sits behind a table, is a person all the same.
    """
    scores = np.sort(poses.keypoint_scores.astype(np.float64), axis=-1)
    half = max(scores.shape[-1] // 2, 1)
    better: NDArray[np.float64] = scores[:, -half:].mean(-1)
    return BOX_SHARE * poses.box_scores + (1 - BOX_SHARE) * better
