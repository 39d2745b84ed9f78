"""Smoothing: steadier at rest, close behind in motion; offline against scipy's Savitzky-Golay."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from autopose.poses import Poses
from autopose.runtime.offline_smoother import OfflineSmoother
from autopose.runtime.smoother import OneEuroSmoother, open_smoother

FPS = 30.0


def _poses(keypoints: NDArray[Any], ids: tuple[int, ...] = (1,)) -> Poses:
    joints = np.asarray(keypoints, np.float32).reshape(len(ids), 17, 2)
    boxes = np.tile(np.array([[100, 100, 180, 300]], np.float32), (len(ids), 1))
    scores = np.full((len(ids), 17), 0.9, np.float32)
    return Poses(boxes, scores[:, 0], joints, scores, ids=np.array(ids, np.int64))


def _run(smoother: Any, series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Send ``(T, 17, 2)`` of one person through a smoother."""
    done = [pair for t, xy in enumerate(series) for pair in smoother.push(t, _poses(xy), t / FPS)]
    done += smoother.flush()
    assert [item for item, _ in done] == list(range(len(series)))
    return np.array([poses.keypoints[0] for _, poses in done], np.float64)


def _jitter(series: NDArray[np.float64]) -> float:
    return float(np.diff(series, 2, axis=0).std())


def _standing(rng: np.random.Generator) -> NDArray[np.float64]:
    base = rng.uniform(100, 300, (17, 2))
    return base + rng.normal(0, 1.5, (150, 17, 2))


@pytest.mark.parametrize("kind", ["online", "offline"])
def test_jitter_at_rest_is_at_least_halved(kind: Any) -> None:
    noisy = _standing(np.random.default_rng(0))
    assert _jitter(_run(open_smoother(kind, FPS), noisy)) < _jitter(noisy) / 2


@pytest.mark.parametrize("kind", ["online", "offline"])
def test_lag_at_one_hertz_is_two_frames_at_most(kind: Any) -> None:
    time = np.arange(240) / FPS
    swing = np.zeros((240, 17, 2)) + 200
    swing[..., 0] += 40 * np.sin(2 * np.pi * time)[:, None]  # a fifth of the person's height to either side
    smooth = _run(open_smoother(kind, FPS), swing)[60:, 0, 0]
    lags = {}
    for lag in np.arange(0, 6, 0.1):
        lags[lag] = np.abs(200 + 40 * np.sin(2 * np.pi * (time[60:] - lag / FPS)) - smooth).mean()
    assert min(lags, key=lambda lag: lags[lag]) <= 2.0


def test_online_keeps_uncertain_joints_out() -> None:
    smoother = OneEuroSmoother()
    still = np.full((17, 2), 150.0)
    for t in range(10):
        smoother.push(t, _poses(still), t / FPS)
    wild = _poses(still + 500)
    wild.keypoint_scores[0, :8] = 0.05
    ((_, poses),) = smoother.push(10, wild, 10 / FPS)
    np.testing.assert_array_equal(poses.keypoints[0, :8], 650)  # passed through, as little as it means
    ((_, poses),) = smoother.push(11, _poses(still), 11 / FPS)
    np.testing.assert_allclose(poses.keypoints[0, :8], 150, atol=1e-3)  # and forgotten


def test_online_forgets_persons_who_left() -> None:
    smoother = OneEuroSmoother()
    for t in range(500):
        smoother.push(t, _poses(np.full((17, 2), 100.0), (t,)), t / FPS)
    assert len(smoother._people) < 100


def test_poses_without_ids_pass() -> None:
    poses = replace(_poses(np.ones((17, 2))), ids=None)
    assert OneEuroSmoother().smoothed(poses, 0.0) is poses


def test_offline_against_scipy() -> None:
    noisy = _standing(np.random.default_rng(1))[:40]
    smooth = _run(OfflineSmoother(half_window=4, max_gap=3), noisy)
    expected = savgol_filter(noisy, 9, 2, axis=0)
    np.testing.assert_allclose(smooth[4:-4], expected[4:-4], atol=1e-3)


def _with_gap(gap: range, max_gap: int, fps: float = FPS) -> list[Poses]:
    smoother = OfflineSmoother(half_window=2, max_gap=max_gap)
    done: list[tuple[Any, Poses]] = []
    for t in range(30):
        poses = _poses(np.full((17, 2), 10.0 * t))
        done += smoother.push(t, poses[:0] if t in gap else poses, t / fps)
    done += smoother.flush()
    assert [item for item, _ in done] == list(range(30))
    return [poses for _, poses in done]


def test_offline_fills_short_gaps_on_the_line() -> None:
    results = _with_gap(range(10, 15), max_gap=5)
    for t, poses in enumerate(results):
        assert len(poses) == 1
        np.testing.assert_allclose(poses.keypoints, 10.0 * t, atol=1e-2)
    assert results[12].keypoint_scores.max() == pytest.approx(0.45)
    assert results[12].ids is not None


def test_offline_leaves_long_gaps() -> None:
    for length in (6, 7):
        assert [len(poses) for poses in _with_gap(range(10, 10 + length), max_gap=5)][10 : 10 + length] == [0] * length


@pytest.mark.parametrize(("fps", "filled"), [(8.0, True), (3.0, False)])
def test_offline_gaps_are_measured_in_seconds_too(fps: float, filled: bool) -> None:
    """Two frames without a person are 0.375 s from sighting to sighting at 8 frames a second, a whole second at 3."""
    assert [len(poses) for poses in _with_gap(range(10, 12), max_gap=5, fps=fps)][10:12] == [filled] * 2


def test_offline_frames_far_apart_are_not_mixed() -> None:
    """At one frame a second a neighbour is another posture: joints stay as they were found."""
    noisy = _standing(np.random.default_rng(2))[:20]
    smoother = open_smoother("offline", 1.0)
    done = [pair for t, xy in enumerate(noisy) for pair in smoother.push(t, _poses(xy), float(t))]
    done += smoother.flush()
    np.testing.assert_allclose([poses.keypoints[0] for _, poses in done], noisy, atol=1e-4)


def test_offline_holds_few_frames() -> None:
    smoother = OfflineSmoother(half_window=4, max_gap=10)
    given = 0
    for t in range(300):
        given += len(smoother.push(t, _poses(np.full((17, 2), float(t))), t / FPS))
        assert t + 1 - given <= 15


def test_frames_that_share_a_time_are_smoothed_offline() -> None:
    """Two frames of each time: a line is found where there are three times."""
    xy = np.arange(40.0)[:, None, None] // 2 * np.ones((1, 17, 2)) * 3 + 100
    for frames in (4, 40):
        smoother = OfflineSmoother(half_window=4, max_gap=3)
        done = [pair for t in range(frames) for pair in smoother.push(t, _poses(xy[t]), t // 2 / FPS)]
        done += smoother.flush()
        found = np.array([poses.keypoints[0] for _, poses in done])
        assert found.shape == (frames, 17, 2)
        np.testing.assert_allclose(found, xy[:frames], atol=1e-2)
