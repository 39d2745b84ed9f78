"""How much speaks for a person: the detector's word and the pose network's."""

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses

#: Evidence from which a detection in a separate image counts as a person. Chosen on images held out of the training of
#: the bundled models: docs/benchmarks.md, "False persons".
LEAST_EVIDENCE = 0.33


def evidence(poses: Poses) -> NDArray[np.float64]:
    """Return the mean of box score and mean joint score of each person ``(n,)``.

    A detector takes a bush for a person at times; the pose network then finds no joints in it.
    """
    joints: NDArray[np.float64] = poses.keypoint_scores.astype(np.float64).mean(-1)
    return (poses.box_scores + joints) / 2
