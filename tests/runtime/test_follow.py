"""Between detections persons are carried by their own joints; whoever loses these is looked for at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.poses import Poses
from autopose.runtime.estimator import Estimator
from autopose.runtime.follow import Follower, Found, find_all
from autopose.runtime.tracker import Tracker


class Scripted:
    """A detector that finds one box, as surely as it is told."""

    threshold = 0.3

    def __init__(self, box: NDArray[np.float32]) -> None:
        self.box, self.score, self.calls = box, 0.9, 0

    def __call__(self, image: NDArray[np.uint8]) -> Found:
        return self.detect(image, self.threshold)

    def detect(self, image: NDArray[np.uint8], threshold: float) -> Found:
        self.calls += 1
        count = int(self.score >= threshold)
        return self.box[None][:count], np.full(count, self.score, np.float32)


@pytest.fixture
def follower(models: Path, figures: Any) -> Iterator[Follower]:
    joints = figures.at(30, 40)
    detector = Scripted(np.array([*joints.min(0), *joints.max(0)], np.float32))
    with Estimator(models / "pose-flip.onnx", detector, device="cpu", threads=1) as estimator:
        yield Follower(estimator, Tracker(start_score=detector.threshold))


def _ids(poses: Poses) -> list[int]:
    return [] if poses.ids is None else poses.ids.tolist()


def test_who_loses_the_joints_is_looked_for_at_once_and_found_by_a_doubtful_box(
    follower: Follower, figures: Any
) -> None:
    here, gone = figures.paint((200, 200), figures.at(30, 40)), figures.paint((200, 200))
    detector: Any = follower.estimator.detector
    assert _ids(follower.step(here, find_all(follower.estimator, here), 0.0)) == [1]
    assert _ids(follower.step(here, None, 0.04)) == [1]
    assert (follower.redetected, detector.calls) == (0, 1)
    detector.score = 0.1
    assert _ids(follower.step(gone, None, 0.08)) == []
    assert (follower.redetected, detector.calls) == (1, 2)
    detector.score = 0.2  # below the threshold; more than 0.4 of it
    assert _ids(follower.step(here, find_all(follower.estimator, here), 0.12)) == [1]


def test_a_doubtful_box_counts_only_where_somebody_was(follower: Follower, figures: Any) -> None:
    here = figures.paint((200, 200), figures.at(30, 40))
    detector: Any = follower.estimator.detector
    detector.score = 0.2
    for t in range(4):
        assert _ids(follower.step(here, find_all(follower.estimator, here), t / 25)) == []


def test_a_track_starts_from_the_detectors_threshold_on(models: Path, walk: Path, figures: Any) -> None:
    joints = figures.at(10, 60)
    detector = Scripted(np.array([*joints.min(0), *joints.max(0)], np.float32))
    detector.threshold = 0.5
    with Estimator(models / "pose-flip.onnx", detector, device="cpu", threads=1) as estimator:
        for detector.score, count in ((0.4, 0), (0.6, 1)):
            assert [len(poses) for _, poses in estimator.track(walk, every=1, max_frames=3)] == [count] * 3
