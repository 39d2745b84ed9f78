"""One person followed: the last pose, the motion, and what is usual for this person."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autopose.boxes import contained
from autopose.poses import Poses
from autopose.runtime.evidence import evidence

#: A box this near to a side of the image, as a share of its width or height, touches it.
BORDER = 0.02
#: For so long a part of a lost person may be seen in the same place.
PART_S = 0.5
#: Evidence from which several confident detections speak for a person: at most one in 20 held-out detections above it
#: is none.
BELIEVABLE = 0.43


@dataclass
class Track:
    """One person followed.

    Attributes:
        id: counts from 1; negative while it is not sure that this is a person.
        pose: the last one seen, a ``Poses`` of length 1.
        seen_s: when.
        velocity: of the box centre, pixels per second ``(2,)``.
        hits: frames in which it was seen.
        detections: frames in which a confident detection showed it.
        detected_s: when a detection last showed it; since then its own poses carried it.
        usual_score: running mean of its mean joint score in confident detections.
        usual_px: running mean of its detected boxes' longer side.
        evidence: running mean of :func:`autopose.runtime.evidence.evidence` of its confident detections.
    """

    id: int
    pose: Poses
    seen_s: float
    velocity: NDArray[np.float64]
    hits: int = 1
    detections: int = 1
    detected_s: float = 0.0
    usual_score: float = 0.0
    usual_px: float = 0.0
    evidence: float = 0.0

    @property
    def hopeful(self) -> bool:
        """Tell whether the detections so far speak for a person."""
        return self.evidence >= BELIEVABLE

    @classmethod
    def begin(cls, number: int, pose: Poses, time_s: float) -> "Track":
        """Return the track of a person seen for the first time."""
        return cls(
            number,
            pose,
            time_s,
            np.zeros(2),
            detected_s=time_s,
            usual_score=float(pose.keypoint_scores.mean()),
            usual_px=longer_side(pose),
            evidence=float(evidence(pose)[0]),
        )

    def at(self, time_s: float) -> Poses:
        """Return the last pose moved on to a later time; the motion fades over half a second without a sighting."""
        gap = max(0.0, time_s - self.seen_s)
        shift = self.velocity * 0.5 * (1 - np.exp(-gap / 0.5))
        return replace(
            self.pose,
            boxes=(self.pose.boxes + np.tile(shift, 2)).astype(np.float32),
            keypoints=(self.pose.keypoints + shift).astype(np.float32),
        )

    def follow(self, pose: Poses, time_s: float, *, guessed: bool, sure: bool) -> None:
        """Move on to this frame's pose.

        Args:
            pose: a ``Poses`` of length 1.
            time_s: of the frame.
            guessed: its box came from the frame before.
            sure: its box is a confident detection.
        """
        gap = time_s - self.seen_s
        moved = _displacement(self.pose, pose)
        if not guessed:
            self.detected_s = time_s
            grown = longer_side(pose) - self.usual_px
            self.usual_px += (0.2 if grown > 0 else 0.03) * grown  # a box often shows a part, seldom more than all
        else:  # the box is the last detected one, carried along by the joints: a stray joint does not inflate it
            pose = replace(pose, boxes=(self.pose.boxes + np.tile(moved, 2)).astype(np.float32))
        if sure and not guessed:
            self.detections += 1
            self.evidence += (float(evidence(pose)[0]) - self.evidence) / min(self.detections, 5)
            # Doubtful boxes and guesses do not lower what is usual: else a track slides off its person by and by.
            better = float(pose.keypoint_scores.mean()) - self.usual_score
            self.usual_score += (0.2 if better > 0 else 0.03) * better  # half hidden for a while is not usual
        if gap > 0:
            rate = min(1.0, 0.25 + 1 / (self.hits + 1))  # the first sightings set the velocity, later ones adjust it
            self.velocity += rate * (moved / gap - self.velocity)
        self.pose, self.seen_s = pose, time_s
        self.hits += 1

    def reached_by(self, other: "Track", time_s: float) -> float:
        """Return how likely another, new track is this lost person come back: 0 if it cannot be, up to 1.

        Persons enter and leave at the sides of the picture. One who is lost in its midst and one of about the same size
        who appears there, no further off than a person walks in that time, are one and the same; so is what is seen of
        somebody, an arm beside a tree, in the place of one just lost.
        """
        gap = time_s - self.seen_s
        before, after = self.at(time_s).boxes[0], other.pose.boxes[0]
        smaller = longer_side(other.pose) <= 1.1 * longer_side(self.pose)
        if gap <= PART_S and smaller and contained(before[None], after[None])[0, 0] > 0.5:
            return 1.0
        distance = float(np.linalg.norm((after[:2] + after[2:] - before[:2] - before[2:]) / 2))
        reach = (0.5 + gap) * max(self.usual_px, other.usual_px)  # a walk is nearly one body height per second
        score = max(other.usual_score, float(other.pose.keypoint_scores.mean()))  # who comes forth is half hidden first
        alike = 0.5 < other.usual_px / max(self.usual_px, 1e-6) < 2 and score >= 0.65 * self.usual_score
        if not alike or distance >= reach or not np.array_equal(touched(self.pose), touched(other.pose)):
            return 0.0
        return 1 - distance / reach


def longer_side(pose: Poses) -> float:
    """Return the longer side of a person's box in pixels."""
    return float((pose.boxes[0, 2:] - pose.boxes[0, :2]).max())


def touched(pose: Poses) -> NDArray[np.bool_]:
    """Tell which sides of the image a person's box touches: left, top, right, bottom ``(4,)``."""
    size = np.array(pose.image_size_wh, np.float64)
    low, high = pose.boxes[0, :2] <= BORDER * size, pose.boxes[0, 2:] >= (1 - BORDER) * size
    return np.concatenate([low, high])


def _displacement(before: Poses, after: Poses) -> NDArray[np.float64]:
    """Return how far a person moved: the median over joints confident in both frames, else that of the box centres."""
    seen = (before.keypoint_scores[0] >= 0.3) & (after.keypoint_scores[0] >= 0.3)
    if seen.sum() >= 6:
        return np.asarray(np.median((after.keypoints[0] - before.keypoints[0])[seen], axis=0), np.float64)
    return np.asarray(((after.boxes - before.boxes)[0, :2] + (after.boxes - before.boxes)[0, 2:]) / 2, np.float64)
