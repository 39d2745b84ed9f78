"""Steadier joints: the One-Euro filter while a video runs, Savitzky-Golay with gap filling where frames may wait."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses

Smoothing = Literal["online", "offline", "none"]

#: Of equal times, written as multiples of a container's unit.
CLOCK_S = 1e-3


class Smoother(ABC):
    """Takes the tracked poses of successive frames and gives them back smoothed, possibly some frames later."""

    @abstractmethod
    def push(self, item: Any, poses: Poses, time_s: float) -> list[tuple[Any, Poses]]:
        """Take a frame's poses, with ids; return the frames that are ready, each with the item that came with it."""

    def flush(self) -> list[tuple[Any, Poses]]:
        """Return the frames still held, at the end."""
        return []


@dataclass
class _Filtered:
    """State of one person's joints, in units of the person's size."""

    xy: NDArray[np.float64]
    speed: NDArray[np.float64]
    seen_s: NDArray[np.float64]
    size: float


@dataclass
class OneEuroSmoother(Smoother):
    """The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) on every joint of every track, without delay.

    Positions are divided by the person's size (the box's longer side), so that the constants hold at any resolution.

    Attributes:
        min_cutoff_hz: cut-off of a joint at rest; lower is steadier.
        beta: Hz of cut-off gained per person size per second; higher follows faster.
        speed_cutoff_hz: cut-off of the speed's own filter.
        min_score: joints below it pass through and leave the filter as it is.
        forget_s: a joint not seen for longer starts anew.
    """

    min_cutoff_hz: float = 1.2
    beta: float = 6.0
    speed_cutoff_hz: float = 1.5
    min_score: float = 0.15
    forget_s: float = 0.4
    _people: dict[int, _Filtered] = field(default_factory=dict, repr=False)

    def push(self, item: Any, poses: Poses, time_s: float) -> list[tuple[Any, Poses]]:
        """Smooth at once."""
        return [(item, self.smoothed(poses, time_s))]

    def smoothed(self, poses: Poses, time_s: float) -> Poses:
        """Return the poses of a frame with filtered keypoints; poses without ids come back as they are."""
        if poses.ids is None:
            return poses
        keypoints = poses.keypoints.copy()
        for i, track in enumerate(poses.ids.tolist()):
            keypoints[i] = self._person(track, poses[i], time_s)
        stale = [t for t, state in self._people.items() if time_s - state.seen_s.max() > 5 * self.forget_s]
        for track in stale:
            del self._people[track]
        return replace(poses, keypoints=keypoints)

    def _person(self, track: int, pose: Poses, time_s: float) -> NDArray[np.float32]:
        seen = pose.keypoint_scores[0] >= self.min_score
        raw = pose.keypoints[0].astype(np.float64)
        size = max(1.0, float((pose.boxes[0, 2:] - pose.boxes[0, :2]).max()))
        state = self._people.get(track)
        if state is None:
            state = _Filtered(raw.copy(), np.zeros_like(raw), np.full(len(raw), -np.inf), size)
            self._people[track] = state
        state.size += 0.1 * (size - state.size)
        gap = time_s - state.seen_s
        forgotten = gap >= self.forget_s + CLOCK_S
        known = seen & ~forgotten & (gap > 0)
        fresh = seen & (forgotten | (gap < 0))  # a clock that was set back
        state.xy[fresh], state.speed[fresh] = raw[fresh], 0
        dt = np.where(known, gap, 1.0)[:, None]
        speed = (raw - state.xy) / state.size / dt
        state.speed += np.where(known[:, None], _gain(self.speed_cutoff_hz, dt) * (speed - state.speed), 0)
        # One cut-off for both axes: a joint that moves sideways does not lag vertically.
        cutoff = self.min_cutoff_hz + self.beta * np.linalg.norm(state.speed, axis=-1, keepdims=True)
        state.xy += np.where(known[:, None], _gain(cutoff, dt) * (raw - state.xy), 0)
        state.seen_s[seen] = time_s
        return np.where(seen[:, None], state.xy, raw).astype(np.float32)


def _gain(cutoff_hz: "float | NDArray[np.float64]", dt: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight of a new sample in a first-order low-pass filter."""
    rate = 2 * np.pi * cutoff_hz * dt
    return np.asarray(rate / (rate + 1))


class NoSmoother(Smoother):
    """Passes everything through."""

    def push(self, item: Any, poses: Poses, time_s: float) -> list[tuple[Any, Poses]]:
        """Return the frame as it is."""
        return [(item, poses)]


def open_smoother(kind: Smoothing, fps: float) -> Smoother:
    """Return the smoother of a name, its windows fitted to a frame rate."""
    if kind == "online":
        return OneEuroSmoother()
    if kind == "offline":
        from autopose.runtime.offline_smoother import OfflineSmoother

        half = int(np.clip(round(fps * 0.12), 2, 10))
        return OfflineSmoother(half_window=half, max_gap=int(np.clip(round(fps * 0.35), 2, 20)))
    return NoSmoother()
