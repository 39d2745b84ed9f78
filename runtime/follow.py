"""Persons followed by their own poses in frames without a detection, and doubted when the poses become uncertain."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autopose.boxes import box_iou
from autopose.poses import Poses
from autopose.runtime.detector import AdjustableDetector, centered_within, found_within
from autopose.runtime.tracker import Tracker

if TYPE_CHECKING:
    from autopose.runtime.estimator import Estimator

Found = tuple[NDArray[np.float32], NDArray[np.float32]]

#: Share of the detector's threshold down to which a box may continue a track.
DOUBTFUL = 0.4
#: Share of a person's usual mean joint score below which a guess is dropped.
KEPT = 0.65


class Follower:
    """Estimates one frame after the other; where nothing was detected, boxes come from the frame before.

    A guess is dropped when its mean joint score falls below ``KEPT`` of what the person had, and the detector is asked
    at once, as it is when it has not been for ``Tracker.bridge_s``: people walk out of guesses that old. Where the
    detector overlooks a person who is still well seen, the guess goes on for as long.
    Doubtful boxes count where a person was before, and nowhere else.

    Args:
        estimator: to use.
        tracker: keeps the persons.

    Attributes:
        redetected: frames in which the detector was asked out of turn.
        doubted: every pose that was estimated in the latest frame, of those whom the tracker does not show, too.
    """

    def __init__(self, estimator: "Estimator", tracker: Tracker) -> None:
        self.estimator, self.tracker = estimator, tracker
        self.redetected = 0
        self.doubted = Poses.empty()
        self._detected_s = -np.inf

    def step(self, image: NDArray[np.uint8], found: Found | None, time_s: float) -> Poses:
        """Return the tracked poses of a frame.

        Args:
            image: ``(H, W, 3)`` BGR.
            found: boxes and scores if the detector has seen the frame.
            time_s: of the frame.
        """
        expected = self.tracker.expected(time_s)
        if found is None and time_s - self._detected_s <= self.tracker.bridge_s:
            poses, guessed, dropped = self._estimate(image, _nothing(), expected)
            if not dropped:
                return self.tracker.update(poses, time_s, guessed=guessed)
        if found is None:
            self.redetected += 1
            found = find_all(self.estimator, image)
        self._detected_s = time_s
        boxes, scores = found
        worth = (scores >= self.tracker.start_score) & ~self.tracker.dismissed(boxes, time_s)
        worth |= self.tracker.concerns(boxes, time_s)
        poses, guessed, _ = self._estimate(image, (boxes[worth], scores[worth]), expected)
        return self.tracker.update(poses, time_s, guessed=guessed)

    def _estimate(
        self, image: NDArray[np.uint8], found: Found, expected: Poses
    ) -> tuple[Poses, NDArray[np.bool_], bool]:
        """Return poses of detections and of expected persons not covered by one; which are guesses; if one was lost."""
        boxes, scores = found
        open_ = np.ones(len(expected), np.bool_)
        if len(boxes) and len(expected):
            open_ = box_iou(expected.boxes, boxes).max(1) < 0.3
        if self.estimator.region is not None:  # who walks out of it is not followed
            open_ &= centered_within(self.estimator.region, expected.boxes)
        guesses = expected[open_]
        all_boxes = np.concatenate([boxes, guesses.boxes])
        all_scores = np.concatenate([scores, guesses.box_scores])
        crops = self.estimator.crop(image, all_boxes)
        size_wh = image.shape[1], image.shape[0]
        (poses,) = self.estimator.estimate([crops], [(all_boxes, all_scores)], [size_wh], unique=False)
        self.doubted = poses
        guessed = np.arange(len(poses)) >= len(boxes)
        usual = np.concatenate([np.zeros(len(boxes)), [self.tracker.usual_score(t) for t in _ids(guesses)]])
        certain = poses.keypoint_scores.mean(-1) >= KEPT * usual if len(poses) else np.zeros(0, np.bool_)
        lost = bool((guessed & ~certain).any())
        return poses[certain], guessed[certain], lost


def find_all(estimator: "Estimator", image: NDArray[np.uint8]) -> Found:
    """Return the boxes of an estimator's detector down to doubtful ones, where it can give these."""
    detector = estimator.detector
    if isinstance(detector, AdjustableDetector):
        detector = partial(detector.detect, threshold=DOUBTFUL * detector.threshold)
    return found_within(estimator.region, detector, image)


def _nothing() -> Found:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)


def _ids(poses: Poses) -> list[int]:
    return [] if poses.ids is None else poses.ids.tolist()
