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


def _run(smoother: Any, series: NDArray[np.float64], fps: float = FPS) -> NDArray[np.float64]:
    """Send ``(T, 17, 2)`` of one person through a smoother."""
    done = [pair for t, xy in enumerate(series) for pair in smoother.push(t, _poses(xy), t / fps)]
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


@pytest.mark.parametrize("jump_s", [1.0, -1.0], ids=["unseen for a second", "clock set back"])
def test_online_starts_anew(jump_s: float) -> None:
    noisy = _standing(np.random.default_rng(3))[:20]
    smoother = OneEuroSmoother()
    for t in range(10):
        smoother.push(t, _poses(np.full((17, 2), 30.0 * t)), 5 + t / FPS)
    again = [smoother.smoothed(_poses(xy), 5 + 9 / FPS + jump_s + t / FPS).keypoints[0] for t, xy in enumerate(noisy)]
    np.testing.assert_allclose(again, _run(OneEuroSmoother(), noisy), atol=1e-3)


def test_online_goes_by_the_size_that_a_person_has_now() -> None:
    noisy = _standing(np.random.default_rng(4))
    smoother = OneEuroSmoother()
    far = _poses(noisy[0])
    smoother.push(0, replace(far, boxes=far.boxes / np.float32(20)), 0.0)
    near = [smoother.smoothed(_poses(xy), t / FPS).keypoints[0] for t, xy in enumerate(noisy[1:], start=1)]
    assert _jitter(np.array(near[60:], np.float64)) < _jitter(noisy) / 2


def test_frames_that_share_a_time_pass_online() -> None:
    smoother = OneEuroSmoother()
    for t in range(6):
        xy = smoother.smoothed(_poses(np.full((17, 2), 100.0)), t // 2 / FPS).keypoints
        np.testing.assert_allclose(xy, 100)


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
    smooth = _run(open_smoother("offline", 60), noisy, 60)  # 0.12 s to either side
    np.testing.assert_allclose(smooth[7:-7], savgol_filter(noisy, 15, 2, axis=0)[7:-7], atol=1e-3)


def test_offline_uncertain_joints_take_no_part_and_are_filled() -> None:
    smoother = OfflineSmoother(half_window=4, max_gap=3)
    done: list[tuple[Any, Poses]] = []
    for t in range(20):
        poses = _poses(np.full((17, 2), 5.0 * t))
        if t == 10:
            poses.keypoints[0, :8], poses.keypoint_scores[0, :8] = 900, 0.1
        if t > 15:  # not seen again: a parabola would run off
            poses.keypoints[0, 16], poses.keypoint_scores[0, 16] = 300, 0.1
        done += smoother.push(t, poses, t / FPS)
    done += smoother.flush()
    expected = 5 * np.mgrid[:20, :17][0]
    expected[16:, 16] = 300
    np.testing.assert_allclose([poses.keypoints[0, :, 0] for _, poses in done], expected, atol=1e-2)


def test_offline_puts_a_person_back_in_the_order_of_ids() -> None:
    """Person 1 is missing from frames 10 to 12; the box grows, and its score falls, on the way."""
    smoother = OfflineSmoother(half_window=2, max_gap=5)
    done: list[tuple[Any, Poses]] = []
    for t in range(20):
        poses = _poses(np.full((2, 17, 2), 10.0 * t), (1, 2))
        poses.boxes[0], poses.box_scores[0] = (0, 0, 10 * t, 20 * t), 0.9 if t < 10 else 0.6
        done += smoother.push(t, poses[1:] if 10 <= t < 13 else poses, t / FPS)
    done += smoother.flush()
    for t, (_, poses) in enumerate(done):
        assert poses.ids is not None
        assert poses.ids.tolist() == [1, 2]
        np.testing.assert_allclose(poses.boxes[0], (0, 0, 10 * t, 20 * t), atol=1e-2)
    np.testing.assert_allclose([poses.box_scores[0] for _, poses in done[9:14]], [0.9, 0.3, 0.3, 0.3, 0.6], atol=1e-6)


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


def test_offline_gaps_of_a_third_of_a_second_are_filled_at_any_rate() -> None:
    smoother = open_smoother("offline", 60)
    shown: list[int] = []
    for t in range(60):
        poses = _poses(np.full((17, 2), 100.0))
        shown += [len(done) for _, done in smoother.push(t, poses[:0] if 20 <= t < 40 else poses, t / 60)]
    assert shown + [len(done) for _, done in smoother.flush()] == [1] * 60


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


@pytest.mark.parametrize(("fps", "start_s"), [(2.5, 0.0), (2.5, 7.2), (5.0, 0.0), (10.0, 0.0)])
def test_online_forgets_after_the_same_time_however_the_clock_is_rounded(fps: float, start_s: float) -> None:
    seen = 2.5  # sightings in a second: each lies just as long after the one before as a joint is remembered
    noisy = _standing(np.random.default_rng(1))[:40]
    smoother = OneEuroSmoother()
    times = start_s + np.arange(40) * round(fps / seen) / fps
    done = np.array([smoother.smoothed(_poses(xy), t).keypoints[0] for xy, t in zip(noisy, times, strict=True)])
    exact = OneEuroSmoother(forget_s=0.5)
    expected = np.array([exact.smoothed(_poses(xy), t * 0.4).keypoints[0] for t, xy in enumerate(noisy)])
    np.testing.assert_allclose(done, expected, atol=1e-3)
