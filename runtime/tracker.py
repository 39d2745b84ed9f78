"""Ids that hold from frame to frame: poses matched to tracks by overlap, joints and motion."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autopose.boxes import box_iou, contained
from autopose.poses import Poses
from autopose.runtime.assignment import assign
from autopose.runtime.followed import Track
from autopose.runtime.similarity import first_of_alike, made_of, oks

#: Evidence from which one sighting gives an id: at most one in 50 held-out detections above it is no person
#: (docs/benchmarks.md, "False persons"). :data:`SIGHTINGS` confident detections do from ``BELIEVABLE``.
CLEAR = 0.52
SIGHTINGS = 3
#: Sightings after which a lost person is looked for in those who appear.
KNOWN = 8
#: Share of a person's usual mean joint score that a doubtful box must reach to be this person.
LIKENESS = 0.5
#: The same share for any box: with hardly a joint of this person, a sure box is something else as well.
HARDLY = 0.25
#: Mean of box overlap and OKS below which nothing is matched.
LEAST_ALIKE = 0.12
#: OKS of clearly seen joints from which two tracked poses are one person's, seen twice: the older id is shown.
TWICE = 0.75
#: Share of an untracked pose's joints that are those of known persons, from which it is no other person.
MIXED = 0.6
#: Where a thing stands that has been looked at ``SIGHTINGS`` times in vain, joints are looked for only so often.
GLANCE_S = 0.5
#: Overlap of a box with that of a thing from which it still stands there.
STANDING = 0.7


class Tracker:
    """Gives the poses of successive frames the ids of their persons.

    Confident poses are matched first, then doubtful ones to what is left (ByteTrack, Zhang et al. 2022); both by the
    mean of box overlap and OKS against each track's predicted pose. A doubtful pose never starts a track.

    A person gets an id, and is returned, from the first sighting if box and joints speak clearly for one, else after
    ``SIGHTINGS`` confident detections; what the detector takes for a person and the pose network does not gets none.
    Who appears where a lost person may have gone (:meth:`Track.reached_by`) gets the lost id.

    Args:
        start_score: box score from which a pose may start a track.
        lost_s: a track that was not seen for longer, nor in the frame before, is forgotten.
        bridge_s: for so long the detector may overlook a person whose own poses go on.
        trusting: every box is a person's, as its giver says: each pose gets an id at once and is returned.
    """

    def __init__(
        self,
        *,
        start_score: float = 0.3,
        lost_s: float = 2.0,
        bridge_s: float = 1.0,
        trusting: bool = False,
    ) -> None:
        self.start_score = -np.inf if trusting else start_score
        self.lost_s, self.bridge_s, self.trusting = lost_s, bridge_s, trusting
        self.tracks: list[Track] = []
        self._next_id = 1
        self._next_unsure = -1
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
        kept_s = {True: self.lost_s, False: self.bridge_s}
        self.tracks = [
            track
            for track in self.tracks
            # Who was in the frame before is not lost, however long ago that was (a time lapse).
            if time_s - track.seen_s <= kept_s[track.id > 0] or track.seen_s == self._last_s
        ]
        sure = poses.box_scores >= self.start_score
        ids = np.zeros(len(poses), np.int64)
        free = list(range(len(self.tracks)))
        for group in (np.flatnonzero(sure), np.flatnonzero(~sure)):
            free = self._match(poses, group, free, ids, time_s, guessed)
        for index in np.flatnonzero(sure & (ids == 0) & ~guessed):
            if self._repeats(poses, int(index), ids):
                continue
            ids[index] = self._next_unsure
            self._next_unsure -= 1
            self.tracks.append(Track.begin(int(ids[index]), poses[int(index)], time_s))
        for track in [track for track in self.tracks if track.id < 0 and track.id in ids]:  # seen in this frame
            place = int(np.flatnonzero(ids == track.id)[0])
            if self._repeats(poses, place, np.maximum(ids, 0)):
                self.tracks.remove(track)
            else:
                self._confirm(track, time_s)
                ids[place] = track.id
        self._last_s = time_s
        chosen = np.flatnonzero(ids > 0)
        chosen = chosen[np.argsort(ids[chosen])]
        if self.trusting:
            return replace(poses, ids=ids)[chosen]
        # Two boxes may lead to one person's joints, while the other is hidden, say: the track goes on unseen.
        shown = first_of_alike(oks(poses[chosen], poses[chosen], 0.3) > TWICE)
        return replace(poses, ids=ids)[chosen[shown]]

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
        # A doubtful box without this person's joints is something else: better none than a track that slides off.
        usual = np.array([self.tracks[i].usual_score for i in free])
        doubtful = candidates.box_scores < self.start_score
        needed = np.where(doubtful, LIKENESS, HARDLY)[:, None] * usual
        unlike = (candidates.keypoint_scores.mean(-1)[:, None] < needed) & ~guessed[group][:, None]
        alike = np.where(unlike, 0, alike)
        # Pairs that may not be matched all cost the same, so that they never push a good pair aside.
        pairs = assign(1 - np.where(alike >= LEAST_ALIKE, alike, 0))
        taken = set()
        for row, column in pairs:
            if alike[row, column] < LEAST_ALIKE:
                continue
            track = self.tracks[free[column]]
            sure = bool(candidates.box_scores[row] >= self.start_score)
            track.follow(candidates[row], time_s, guessed=bool(guessed[group[row]]), sure=sure)
            ids[group[row]] = track.id
            taken.add(column)
        return [index for column, index in enumerate(free) if column not in taken]

    def _confirm(self, track: Track, time_s: float) -> None:
        """Give a new track its id, once enough speaks for a person: that of a lost one in reach, or the next."""
        clear = self.trusting or track.evidence >= CLEAR
        if not clear and (track.detections < SIGHTINGS or not track.hopeful):
            return
        lost = [t for t in self.tracks if t.id > 0 and 0 < time_s - t.seen_s <= self.lost_s and t.hits >= KNOWN]
        likely = max(lost, key=lambda t: t.reached_by(track, time_s), default=None)
        if likely is not None and likely.reached_by(track, time_s) > 0:
            self.tracks.remove(likely)
            track.id, track.hits = likely.id, track.hits + likely.hits
            return
        track.id = self._next_id
        self._next_id += 1

    def _repeats(self, poses: Poses, index: int, ids: NDArray[np.int64]) -> bool:
        """Tell whether a pose without a track is a second sighting of a person who has one."""
        pose, known = poses[index], poses[np.flatnonzero(ids)]
        if self.trusting or not len(known):
            return False
        overlap, alike = box_iou(pose.boxes, known.boxes)[0], oks(pose, known)[0]
        # The upper half of a person, say, taken for another: only the joints that are really seen agree.
        part = (contained(pose.boxes, known.boxes)[0] > 0.8) & (oks(pose, known, 0.3)[0] > 0.6)
        same = ((overlap > 0.5) & (alike > 0.4)) | (alike > 0.75) | (overlap > 0.75) | part
        # One box around two persons who touch: the joints are the arms of one and the legs of the other.
        return bool(same.any() or made_of(pose, known)[0] > MIXED)

    def usual_score(self, track_id: int) -> float:
        """Return the running mean of a person's mean joint score; 0 for an unknown id."""
        return next((track.usual_score for track in self.tracks if track.id == track_id), 0.0)

    def concerns(self, boxes: NDArray[np.float32], time_s: float) -> NDArray[np.bool_]:
        """Tell which boxes ``(n, 4)`` lie where a person, a lost one too, may be: these are worth a doubtful look."""
        live = [track.at(time_s) for track in self.tracks if track.id > 0 and time_s - track.seen_s <= self.lost_s]
        return _overlaps_one(boxes, live, 0.15)

    def dismissed(self, boxes: NDArray[np.float32], time_s: float) -> NDArray[np.bool_]:
        """Tell which boxes ``(n, 4)`` show a thing that stands where it was, and was lately found to be no person."""
        things = [
            track.pose
            for track in self.tracks
            if track.id < 0 and not track.hopeful and track.detections >= SIGHTINGS and time_s - track.seen_s < GLANCE_S
        ]
        return _overlaps_one(boxes, things, STANDING)

    def expected(self, time_s: float) -> Poses:
        """Return the persons of the last frame, with ids, where they should be in this one (boxes moved, sizes kept).

        Left out is who was overlooked by the detector for more than ``bridge_s``, and what looks like no person.
        """
        live = [
            track
            for track in self.tracks
            if track.seen_s == self._last_s and time_s - track.detected_s <= self.bridge_s
            if track.id > 0 or track.hopeful
        ]
        if not live:
            return Poses.empty()
        ids = np.array([track.id for track in live], np.int64)
        return replace(joined([track.at(time_s) for track in live]), ids=ids)


def _overlaps_one(boxes: NDArray[np.float32], parts: list[Poses], least: float) -> NDArray[np.bool_]:
    """Tell which boxes ``(n, 4)`` overlap one of the poses' boxes by an IoU above ``least``; none without poses."""
    if not parts:
        return np.zeros(len(boxes), np.bool_)
    return np.asarray(box_iou(boxes, joined(parts).boxes).max(1) > least)


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
