"""Ids that hold from frame to frame: poses matched to tracks by overlap, joints and motion."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses
from autopose.runtime.assignment import assign
from autopose.runtime.boxes import box_iou, oks


@dataclass
class Track:
    """One person followed.

    Attributes:
        id: counts from 1.
        pose: the last one seen, a ``Poses`` of length 1.
        seen_s: when.
        velocity: of the box centre, pixels per second ``(2,)``.
        hits: frames in which it was seen.
        detected_s: when a detection last showed it; since then its own poses carried it.
        usual_score: running mean of its mean joint score.
    """

    id: int
    pose: Poses
    seen_s: float
    velocity: NDArray[np.float64]
    hits: int = 1
    detected_s: float = 0.0
    usual_score: float = 0.0

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
        bridge_s: for so long the detector may overlook a person whose own poses go on.
    """

    def __init__(
        self, *, start_score: float = 0.3, lost_s: float = 2.0, least: float = 0.12, bridge_s: float = 1.0
    ) -> None:
        self.start_score, self.lost_s, self.least, self.bridge_s = start_score, lost_s, least, bridge_s
        self.tracks: list[Track] = []
        self._next_id = 1
        self._last_s = 0.0

    def update(self, poses: Poses, time_s: float, *, guessed: NDArray[np.bool_] | None = None) -> Poses:
        """Return the poses that belong to a track, with ``ids``, ordered by id.

        Args:
            poses: of one frame, all skeletons alike.
            time_s: of the frame; must not fall.
            guessed: poses whose boxes came from the frame before ``(n,)``; these start no track.
        """
        if guessed is None:
            guessed = np.zeros(len(poses), np.bool_)
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= self.lost_s]
        sure = poses.box_scores >= self.start_score
        ids = np.zeros(len(poses), np.int64)
        free = list(range(len(self.tracks)))
        for group in (np.flatnonzero(sure), np.flatnonzero(~sure)):
            free = self._match(poses, group, free, ids, time_s, guessed)
        for index in np.flatnonzero(sure & (ids == 0) & ~guessed):
            if self._repeats(poses, int(index), ids):
                continue
            ids[index] = self._next_id
            self._next_id += 1
            pose = poses[int(index)]
            usual = float(pose.keypoint_scores.mean())
            self.tracks.append(Track(int(ids[index]), pose, time_s, np.zeros(2), detected_s=time_s, usual_score=usual))
        self._last_s = time_s
        chosen = np.flatnonzero(ids)
        return replace(poses, ids=ids)[chosen[np.argsort(ids[chosen])]]

    def _match(
        self,
        poses: Poses,
        group: NDArray[np.int64],
        free: list[int],
        ids: NDArray[np.int64],
        time_s: float,
        guessed: NDArray[np.bool_],
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
            _follow(track, candidates[row], time_s, guessed=bool(guessed[group[row]]))
            ids[group[row]] = track.id
            taken.add(column)
        return [index for column, index in enumerate(free) if column not in taken]

    @staticmethod
    def _repeats(poses: Poses, index: int, ids: NDArray[np.int64]) -> bool:
        """Tell whether a pose without a track is a second sighting of a person who has one."""
        known = poses[np.flatnonzero(ids)]
        if not len(known):
            return False
        overlap, alike = box_iou(poses[index].boxes, known.boxes)[0], oks(poses[index], known)[0]
        return bool(((overlap > 0.5) & (alike > 0.4)).any() or (alike > 0.75).any() or (overlap > 0.75).any())

    def usual_score(self, track_id: int) -> float:
        """Return the running mean of a person's mean joint score; 0 for an unknown id."""
        return next((track.usual_score for track in self.tracks if track.id == track_id), 0.0)

    def concerns(self, boxes: NDArray[np.float32], time_s: float) -> NDArray[np.bool_]:
        """Tell which boxes ``(n, 4)`` lie where a person, a lost one too, may be: these are worth a doubtful look."""
        live = [track.at(time_s) for track in self.tracks if time_s - track.seen_s <= self.lost_s]
        if not live:
            return np.zeros(len(boxes), np.bool_)
        return np.asarray(box_iou(boxes, joined(live).boxes).max(1, initial=0) > 0.15)

    def expected(self, time_s: float) -> Poses:
        """Return the persons of the last frame, with ids, where they should be in this one (boxes moved, sizes kept).

        Left out is who was overlooked by the detector for more than ``bridge_s``.
        """
        live = [t for t in self.tracks if t.seen_s == self._last_s and time_s - t.detected_s <= self.bridge_s]
        if not live:
            return Poses.empty()
        ids = np.array([track.id for track in live], np.int64)
        return replace(joined([track.at(time_s) for track in live]), ids=ids)


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


def _follow(track: Track, pose: Poses, time_s: float, *, guessed: bool) -> None:
    """Move a track on to its pose in this frame."""
    gap = time_s - track.seen_s
    moved = _displacement(track.pose, pose)
    if not guessed:
        track.detected_s = time_s
    else:  # the box is the last detected one, carried along by the joints: a stray joint does not inflate it
        pose = replace(pose, boxes=(track.pose.boxes + np.tile(moved, 2)).astype(np.float32))
    if gap > 0:
        rate = min(1.0, 0.25 + 1 / (track.hits + 1))  # the first sightings set the velocity, later ones adjust it
        track.velocity += rate * (moved / gap - track.velocity)
    track.pose, track.seen_s = pose, time_s
    track.usual_score += 0.2 * (float(pose.keypoint_scores.mean()) - track.usual_score)
    track.hits += 1


def _displacement(before: Poses, after: Poses) -> NDArray[np.float64]:
    """Return how far a person moved: the median over joints confident in both frames, else that of the box centres."""
    seen = (before.keypoint_scores[0] >= 0.3) & (after.keypoint_scores[0] >= 0.3)
    if seen.sum() >= 6:
        return np.asarray(np.median((after.keypoints[0] - before.keypoints[0])[seen], axis=0), np.float64)
    return np.asarray(((after.boxes - before.boxes)[0, :2] + (after.boxes - before.boxes)[0, 2:]) / 2, np.float64)
