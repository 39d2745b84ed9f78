"""Crops to keypoints through a session: flip averaging and decoding wherever the graph leaves them to the runtime."""

import numpy as np
from numpy.typing import NDArray

from autopose.errors import ModelError
from autopose.manifest import Manifest
from autopose.runtime.arguments import check_count
from autopose.runtime.session import Session


def check_flip(manifest: Manifest, flip: bool, where: str) -> None:
    """Refuse a pose model that cannot do, or cannot leave out, the averaging over the mirrored crop.

    Raises:
        ModelError: naming the export command that makes a fitting file.
    """
    if manifest.task != "pose":
        raise ModelError(
            f"{where}: is a {manifest.task}, not a pose model. Give it as --detector, or name a pose model as --model."
        )
    if flip and not manifest.flip and manifest.decode:
        raise ModelError(
            f"{where}: has no flip averaging, which was asked for.\n"
            "Make a file that has it with 'autopose export MODEL --flip', or run this one with --no-flip (flip=False)."
        )
    if not flip and manifest.flip:
        raise ModelError(
            f"{where}: averages over the flipped crop in its graph, and no flip was asked for.\n"
            "Make a file without it with 'autopose export MODEL --no-flip', or leave flip on."
        )


class SessionPredictor:
    """A callable from crops to keypoints: what an evaluation and the estimator run.

    Args:
        session: an opened pose model; closing it stays the caller's business.
        flip: average over the mirrored crop, in the graph or, if the graph gives heatmaps, here.
        batch_size: crops per run of the network, at most.

    Raises:
        ModelError: the model cannot do what is asked.
        ValueError: ``batch_size`` is below 1.
        TypeError: it is no whole number.
    """

    def __init__(self, session: Session, *, flip: bool = True, batch_size: int = 16) -> None:
        check_count("batch_size", batch_size)
        check_flip(session.manifest, flip, str(session.path))
        self.session = session
        self.flip = flip
        self.batch_size = min(batch_size, session.max_batch or batch_size)
        self.codec = session.manifest.codec
        self.skeleton = session.manifest.keypoint_skeleton

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return positions ``(N, K, 2)`` in crop pixels and scores ``(N, K)`` of crops ``(N, h, w, 3)`` uint8 BGR."""
        joints = len(self.skeleton)
        if not len(crops):
            return np.zeros((0, joints, 2)), np.zeros((0, joints), np.float32)
        parts = [self._batch(crops[i : i + self.batch_size]) for i in range(0, len(crops), self.batch_size)]
        return np.concatenate([xy for xy, _ in parts]), np.concatenate([scores for _, scores in parts])

    def _batch(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        (output,) = self.session.run(crops)
        if self.session.manifest.decode:
            return output[..., :2].astype(np.float64), output[..., 2]
        if self.flip and not self.session.manifest.flip:
            (mirrored,) = self.session.run(np.ascontiguousarray(crops[:, :, ::-1]))
            output = self.codec.merge_flipped(output, mirrored, self.skeleton.flip_order)
        return self.codec.decode(output)
