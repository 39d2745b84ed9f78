"""Ids that hold from frame to frame: poses matched to tracks by overlap, joints and motion."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses
from autopose.runtime.assignment import assign
from autopose.runtime.boxes import box_iou, boxes_around, oks


@dataclass
class Track:
    """One person followed.

    Attributes:
        id: counts from 1.
        pose: the last one seen, a ``Poses`` of length 1.
        seen_s: when.
        velocity: of the box centre, pixels per second ``(2,)``.
        hits: frames in which it was seen.
    """

    id: int
    pose: Poses
    seen_s: float
    velocity: NDArray[np.float64]
    hits: int = 1

    def at(self, time_s: float) -> Poses:
        """Return the last pose moved on to a later time; the motion fades over half a second without a sighting."""
        gap = time_s - self.seen_s
        shift = self.velocity * 0.5 * (1 - np.exp(-gap / 0.5))
        return replace(
            self.pose,
            boxes=(self.pose.boxes + np.tile(shift, 2)).astype(np.float32),
            keypoints=(self.pose.keypoints + shift).astype(np.float32),
        )


class Tracker:
    """Gives the poses of successive frames the ids of their persons.

    Confident poses are matched first, then doubtful ones to what is left (ByteTrack, Zhang et al. 2022); both by the
    mean of box overlap and OKS against each track's predicted pose. A doubtful pose never starts a track.

    Args:
        start_score: box score from which a pose may start a track.
        lost_s: a track that was not seen for longer is forgotten.
        least: similarity below which nothing is matched.
    """

    def __init__(self, *, start_score: float = 0.4, lost_s: float = 1.5, least: float = 0.12) -> None:
        self.start_score, self.lost_s, self.least = start_score, lost_s, least
        self.tracks: list[Track] = []
        self._next_id = 1

    def update(self, poses: Poses, time_s: float) -> Poses:
        """Return the poses that belong to a track, with ``ids``, ordered by id.

        Args:
            poses: of one frame, all skeletons alike.
            time_s: of the frame; must not fall.
        """
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= self.lost_s]
        sure = poses.box_scores >= self.start_score
        ids = np.zeros(len(poses), np.int64)
        free = list(range(len(self.tracks)))
        for group in (np.flatnonzero(sure), np.flatnonzero(~sure)):
            free = self._match(poses, group, free, ids, time_s)
        for index in np.flatnonzero(sure & (ids == 0)):
            ids[index] = self._next_id
            self._next_id += 1
            self.tracks.append(Track(int(ids[index]), poses[int(index)], time_s, np.zeros(2)))
        chosen = np.flatnonzero(ids)
        return replace(poses, ids=ids)[chosen[np.argsort(ids[chosen])]]

    def _match(
        self, poses: Poses, group: NDArray[np.int64], free: list[int], ids: NDArray[np.int64], time_s: float
    ) -> list[int]:
        """Match a group of poses to the free tracks, write their ids, and return the tracks still free."""
        if not len(group) or not free:
            return free
        predicted = joined([self.tracks[i].at(time_s) for i in free])
        candidates = poses[group]
        alike = (box_iou(candidates.boxes, predicted.boxes) + oks(candidates, predicted)) / 2
        # A track lost for a while may be anywhere near: it ranks behind those just seen.
        age = np.array([time_s - self.tracks[i].seen_s for i in free])
        alike = alike - 0.1 * np.clip(age / self.lost_s, 0, 1) * (alike > 0)
        # Pairs that may not be matched all cost the same, so that they never push a good pair aside.
        pairs = assign(1 - np.where(alike >= self.least, alike, 0))
        taken = set()
        for row, column in pairs:
            if alike[row, column] < self.least:
                continue
            track = self.tracks[free[column]]
            _follow(track, candidates[row], time_s)
            ids[group[row]] = track.id
            taken.add(column)
        return [index for column, index in enumerate(free) if column not in taken]

    def expected(self, time_s: float, within_s: float = 0.5) -> Poses:
        """Return the persons, with ids, where they should be in a frame without detection.

        Boxes go around the last joints where these are confident, else the last box is moved on.
        """
        live = [track.at(time_s) for track in self.tracks if time_s - track.seen_s <= within_s]
        if not live:
            return Poses.empty()
        poses = joined(live)
        around, usable = boxes_around(poses)
        ids = np.array([track.id for track in self.tracks if time_s - track.seen_s <= within_s], np.int64)
        return replace(poses, boxes=np.where(usable[:, None], around, poses.boxes), ids=ids)


def joined(parts: list[Poses]) -> Poses:
    """Return several results of one frame as one."""
    return replace(
        parts[0],
        boxes=np.concatenate([p.boxes for p in parts]),
        box_scores=np.concatenate([p.box_scores for p in parts]),
        keypoints=np.concatenate([p.keypoints for p in parts]),
        keypoint_scores=np.concatenate([p.keypoint_scores for p in parts]),
        ids=None,
    )


def _follow(track: Track, pose: Poses, time_s: float) -> None:
    """Move a track on to its pose in this frame."""
    gap = time_s - track.seen_s
    if gap > 0:
        moved = _displacement(track.pose, pose) / gap
        rate = min(1.0, 0.25 + 1 / (track.hits + 1))  # the first sightings set the velocity, later ones adjust it
        track.velocity += rate * (moved - track.velocity)
    track.pose, track.seen_s = pose, time_s
    track.hits += 1


def _displacement(before: Poses, after: Poses) -> NDArray[np.float64]:
    """Return how far a person moved: the mean over joints confident in both frames, else that of the box centres."""
    seen = (before.keypoint_scores[0] >= 0.3) & (after.keypoint_scores[0] >= 0.3)
    if seen.sum() >= 6:
        return np.asarray((after.keypoints[0] - before.keypoints[0])[seen].mean(0), np.float64)
    return np.asarray(((after.boxes - before.boxes)[0, :2] + (after.boxes - before.boxes)[0, 2:]) / 2, np.float64)
