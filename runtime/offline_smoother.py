"""Savitzky-Golay smoothing with gap filling, in one pass: frames wait until enough of what follows is known."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses
from autopose.runtime.smoother import CLOCK_S, Smoother
from autopose.runtime.tracker import joined

#: Of joints that are trusted.
MIN_SCORE = 0.2
#: Frames further away in time say nothing of the one that is smoothed, where frames are few in a second.
HALF_WINDOW_S = 0.25
#: Longest time from sighting to sighting that is a straight line.
MAX_GAP_S = 0.5


@dataclass
class _Waiting:
    """A frame that waits for those after it."""

    item: Any
    time_s: float
    poses: Poses
    filled: set[int] = field(default_factory=set)  # tracks that were put back

    def row(self, track: int) -> int | None:
        """Return a person's index in the frame."""
        if self.poses.ids is None:
            return None
        found = np.flatnonzero(self.poses.ids == track)
        return int(found[0]) if len(found) else None


class OfflineSmoother(Smoother):
    """A quadratic fitted to each joint's neighbourhood in time (Savitzky and Golay 1964), after gaps were filled.

    A person missing from up to ``max_gap`` frames, and seen before and after, is put back on the straight line between,
    with half the score of the weaker end. Joints below ``MIN_SCORE`` take no part in a fit; their places are filled by
    the fit of the others. At most ``max_gap + half_window`` frames wait at a time, whatever the length of the video.

    Args:
        half_window: frames on either side of the one that is smoothed.
        max_gap: longest gap to fill, in frames.
    """

    def __init__(self, *, half_window: int, max_gap: int) -> None:
        self.half_window, self.max_gap = half_window, max_gap
        self._unfilled: deque[_Waiting] = deque()
        self._before_gap: _Waiting | None = None
        self._filled: deque[_Waiting] = deque()
        self._done = 0  # frames at the head of ``_filled`` that were given back and serve as neighbours only

    def push(self, item: Any, poses: Poses, time_s: float) -> list[tuple[Any, Poses]]:
        """Take a frame; return those whose neighbourhood is complete."""
        self._unfilled.append(_Waiting(item, time_s, poses))
        ready: list[tuple[Any, Poses]] = []
        while len(self._unfilled) > self.max_gap:
            self._fill_head()
            ready += self._smooth(self.half_window)
        return ready

    def flush(self) -> list[tuple[Any, Poses]]:
        """Return the frames still held."""
        ready: list[tuple[Any, Poses]] = []
        while self._unfilled:
            self._fill_head()
            ready += self._smooth(self.half_window)
        return ready + self._smooth(0)

    def _fill_head(self) -> None:
        """Put back the persons that the oldest frame lacks and its neighbours have; move it on."""
        frame, previous = self._unfilled[0], self._before_gap
        if previous is not None and previous.poses.ids is not None and frame.poses.ids is not None:
            for track in previous.poses.ids.tolist():
                later = self._next_sighting(track) if frame.row(track) is None else None
                if later is not None and later.time_s - previous.time_s < MAX_GAP_S + CLOCK_S:
                    _insert(frame, track, previous, later)
        self._before_gap = self._unfilled.popleft()
        self._filled.append(self._before_gap)

    def _next_sighting(self, track: int) -> _Waiting | None:
        waiting = iter(self._unfilled)
        next(waiting)
        return next((frame for frame in waiting if frame.row(track) is not None), None)

    def _smooth(self, lookahead: int) -> list[tuple[Any, Poses]]:
        ready = []
        while len(self._filled) - self._done > lookahead:
            frame = self._filled[self._done]
            ready.append((frame.item, self._smoothed(self._done)))
            frame.item = None  # the image may go
            self._done += 1
            if self._done > self.half_window:
                self._filled.popleft()
                self._done -= 1
        return ready

    def _smoothed(self, at: int) -> Poses:
        frame = self._filled[at]
        poses = frame.poses
        if poses.ids is None or not len(poses):
            return poses
        last = min(len(self._filled), at + self.half_window + 1)
        near = (self._filled[i] for i in range(max(0, at - self.half_window), last))
        window = [other for other in near if abs(other.time_s - frame.time_s) < HALF_WINDOW_S + CLOCK_S]
        keypoints = poses.keypoints.copy()
        for i, track in enumerate(poses.ids.tolist()):
            rows = [(other, row) for other in window if (row := other.row(track)) is not None]
            times = np.array([other.time_s - frame.time_s for other, _ in rows])
            xy = np.stack([other.poses.keypoints[row] for other, row in rows]).astype(np.float64)
            weight = np.stack([other.poses.keypoint_scores[row] for other, row in rows]) >= MIN_SCORE
            keypoints[i] = _local_quadratic(times, xy, weight, keypoints[i])
        return replace(poses, keypoints=keypoints)


def _insert(frame: _Waiting, track: int, previous: _Waiting, later: _Waiting) -> None:
    """Add a person between two sightings to a frame, on the straight line between them."""
    before, after = previous.row(track), later.row(track)
    assert before is not None
    assert after is not None
    assert frame.poses.ids is not None
    a, b = previous.poses[before], later.poses[after]
    share = (frame.time_s - previous.time_s) / max(later.time_s - previous.time_s, 1e-9)
    # The score is halved once per gap: further into it, the frame before was itself put back.
    trust = 1.0 if track in previous.filled else 0.5
    person = replace(
        frame.poses,
        boxes=(1 - share) * a.boxes + share * b.boxes,
        box_scores=np.minimum(a.box_scores, b.box_scores * 0.5 / trust) * trust,
        keypoints=(1 - share) * a.keypoints + share * b.keypoints,
        keypoint_scores=np.minimum(a.keypoint_scores, b.keypoint_scores * 0.5 / trust) * trust,
        ids=None,
    )
    frame.filled.add(track)
    ids = np.append(frame.poses.ids, track)
    order = np.argsort(ids, kind="stable")
    frame.poses = replace(joined([frame.poses, person]), ids=ids)[order]


def _local_quadratic(
    times: NDArray[np.float64], xy: NDArray[np.float64], trusted: NDArray[np.bool_], raw: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return each joint's fitted position at time 0 ``(K, 2)``; where fewer than four samples are trusted, the raw one.

    Frames may share a time (a container's clock can be coarser than its frames): a parabola needs three times.

    Args:
        times: ``(W,)`` seconds relative to the frame.
        xy: ``(W, K, 2)``.
        trusted: ``(W, K)``.
        raw: ``(K, 2)``.
    """
    scale = max(float(np.abs(times).max()), 1e-9)
    powers = (times / scale)[:, None] ** np.arange(3)  # (W, 3)
    # The fit needs samples on both sides or at 0: it must not run off beyond the last sighting.
    reaches = (trusted & (times <= 0)[:, None]).any(0) & (trusted & (times >= 0)[:, None]).any(0)
    enough = (trusted.sum(0) >= 4) & reaches
    if len(np.unique(times)) < len(times):
        enough &= np.array([len(np.unique(times[samples])) >= 3 for samples in trusted.T])
    weight = np.where(enough, trusted, 1.0)
    normal = np.einsum("wk,wa,wb->kab", weight, powers, powers)
    right = np.einsum("wk,wa,wkc->kac", weight, powers, xy)
    solvable = enough & (len(times) >= 4)
    if not solvable.any():
        return raw
    fitted = np.linalg.solve(normal[solvable], right[solvable])[:, 0]  # the value at time 0
    result = raw.copy()
    result[solvable] = fitted
    return result
