"""Other people pasted beside a person: crops in which more than one could be meant.

Most labelled photographs show one person; where people stand together, a network that has only seen such crops gives
one person the limbs of another. Here a second labelled person is cut out along a silhouette drawn around the joints
and painted next to the first, in front of or behind them: only the person in the middle is to be found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.affine import transform
from autopose.poses import Person
from autopose.skeleton import Skeleton

Image = NDArray[np.uint8]

#: Thickness of a limb as a share of the trunk's length, by the first of these joints that it has; 0.25 without any.
_THICKNESS = {"knee": 0.42, "wrist": 0.26, "elbow": 0.32}
_HEAD = ("nose", "eye", "ear", "head")
#: Of each of these a joint has to be labelled, or there is no trunk.
_TRUNK = ("shoulder", "hip")
#: Joints that a person needs to be cut out, and that a person needs for others to stand behind them.
_LEAST_JOINTS = 9


def can_be_cut_out(person: Person) -> bool:
    """Return whether enough is labelled to draw a silhouette: most joints, and a trunk."""
    labelled = (person.weight > 0) & np.isfinite(person.keypoints).all(-1)
    return int(labelled.sum()) >= _LEAST_JOINTS and _has_trunk(labelled, person.skeleton)


def _has_trunk(labelled: NDArray[np.bool_], skeleton: Skeleton) -> bool:
    return all((skeleton.named(part) & labelled).any() for part in _TRUNK)


def _trunk(
    xy: NDArray[np.floating], labelled: NDArray[np.bool_], skeleton: Skeleton
) -> tuple[NDArray[np.floating], float] | None:
    """Return the labelled corners of the trunk and its length, or None without a shoulder and a hip."""
    if not _has_trunk(labelled, skeleton):
        return None
    shoulders, hips = (skeleton.named(part) & labelled for part in _TRUNK)
    corners = np.concatenate([xy[shoulders], xy[hips]])
    length = float(np.linalg.norm(xy[shoulders].mean(0) - xy[hips].mean(0)))
    # Seen from above or bent forward the trunk is short; the shoulders then tell the size.
    width = float(np.linalg.norm(xy[shoulders][0] - xy[shoulders][-1]))
    return corners, max(length, 1.3 * width)


def silhouette(
    xy: NDArray[np.floating], labelled: NDArray[np.bool_], skeleton: Skeleton, size_wh: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Return a soft mask ``(h, w)`` in [0, 1] of the body around labelled joints, or None without a trunk.

    Args:
        xy: ``(K, 2)`` joints in the mask's pixels.
        labelled: ``(K,)``.
        skeleton: names of the joints.
        size_wh: of the mask.
    """
    trunk = _trunk(xy, labelled, skeleton)
    if trunk is None:
        return None
    corners, length = trunk
    mask = np.zeros((size_wh[1], size_wh[0]), np.uint8)
    # Joints without a label can be anything, and a joint far outside is drawn as far as OpenCV's numbers reach.
    points = np.where(labelled[:, None], np.rint(xy), 0).clip(-10_000, 10_000).astype(np.int32)

    def pixels(share: float) -> int:
        return max(round(share * length), 2)

    hull = cv2.convexHull(np.rint(corners).clip(-10_000, 10_000).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 255)
    cv2.polylines(mask, [hull], True, 255, min(pixels(0.3), 255))
    for a, b in skeleton.limb_indices:
        if labelled[a] and labelled[b]:
            ends = f"{skeleton.joints[a]} {skeleton.joints[b]}"
            share = next((s for part, s in _THICKNESS.items() if part in ends), 0.25)
            cv2.line(mask, points[a].tolist(), points[b].tolist(), 255, min(pixels(share), 255))
    head = skeleton.named(*_HEAD) & labelled
    if head.any():
        cv2.circle(mask, points[head].mean(0).astype(int).tolist(), pixels(0.36), 255, -1)
    for k in np.flatnonzero(skeleton.named("wrist", "ankle") & labelled):
        cv2.circle(mask, points[k].tolist(), pixels(0.2), 255, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.03 * length, 0.7))
    return np.asarray(soft, np.float32) / np.float32(255)


def neighbour_matrix(
    box_xyxy: NDArray[np.floating], other_xyxy: NDArray[np.floating], matrix: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """Draw the ``(2, 3)`` map that brings another image's person beside the person of a crop.

    Args:
        box_xyxy: ``(4,)`` box of the person in the crop, in its image's pixels.
        other_xyxy: ``(4,)`` box of the other person, in the other image's pixels.
        matrix: ``(2, 3)`` from the first image to the crop.
        rng: source of chance.
    """
    (w, h), (other_w, other_h) = box_xyxy[2:] - box_xyxy[:2], np.maximum(other_xyxy[2:] - other_xyxy[:2], 1)
    ratio = h / other_h * np.exp(rng.normal(0, 0.25))
    side = rng.choice((-1.0, 1.0))
    apart = np.array([side * rng.uniform(0.3, 1.0) * (w + ratio * other_w) / 2, rng.uniform(-0.2, 0.2) * h])
    place = transform(((box_xyxy[:2] + box_xyxy[2:]) / 2 + apart)[None], matrix)[0]
    linear = ratio * matrix[:, :2]
    if rng.random() < 0.5:
        linear = linear * np.array([-1.0, 1.0])
    offset = place - linear @ ((other_xyxy[:2] + other_xyxy[2:]) / 2)
    return np.concatenate([linear, offset[:, None]], axis=1)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """Another person painted into a crop.

    Attributes:
        person: number of the other person.
        matrix: ``(2, 3)`` from the other's image to the crop.
        alpha: ``(h, w)`` float32 in [0, 1]: where the other is seen.
    """

    person: int
    matrix: NDArray[np.float64]
    alpha: NDArray[np.float32]


def place_neighbour(
    xy: NDArray[np.floating],
    weight: NDArray[np.float32],
    skeleton: Skeleton,
    size_wh: tuple[int, int],
    other: Person,
    matrix: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
    """Return where another person is seen in a crop, and the weights of the joints, halved where they are hidden now.

    Nobody is seen (None) where the other would hide half of the person's joints or more.

    Args:
        xy: ``(K, 2)`` joints of the person who is meant, crop pixels.
        weight: ``(K,)`` their loss weights.
        skeleton: names of the joints.
        size_wh: of the crop.
        other: the other person (:func:`can_be_cut_out`).
        matrix: from the other's image to the crop (:func:`neighbour_matrix`).
        rng: source of chance.
    """
    alpha = silhouette(transform(other.keypoints, matrix), other.weight > 0, other.skeleton, size_wh)
    if alpha is None:
        return None, weight
    labelled = weight > 0
    behind = labelled.sum() >= _LEAST_JOINTS and rng.random() < 0.5
    if behind:
        own = silhouette(xy, labelled, skeleton, size_wh)
        if own is not None:
            alpha = alpha * (1 - own)
    columns, rows = np.where(labelled[:, None], np.rint(xy), -1).astype(int).T
    inside = labelled & (columns >= 0) & (rows >= 0) & (columns < size_wh[0]) & (rows < size_wh[1])
    hidden = np.zeros(len(xy), bool)
    hidden[inside] = alpha[rows[inside], columns[inside]] > 0.5
    if hidden.sum() * 2 >= inside.sum():
        return None, weight
    return alpha, np.where(hidden, np.float32(0.5), np.float32(1)) * weight


def paint_neighbour(crop: Image, image: Image, neighbour: Neighbour) -> Image:
    """Return the crop ``(h, w, 3)`` with the other person, of whose picture ``image`` is, in it."""
    size_wh = (crop.shape[1], crop.shape[0])
    painted = cv2.warpAffine(image, neighbour.matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return blend(np.asarray(painted, np.uint8), crop, neighbour.alpha)


def blend(front: Image, behind: Image, alpha: NDArray[np.float32]) -> Image:
    """Return the first picture where ``alpha`` ``(h, w)`` is 1, the second where it is 0, between them a mixture."""
    return np.asarray(cv2.blendLinear(front, behind, alpha, 1 - alpha), np.uint8)


def candidates(persons: Sequence[Person]) -> NDArray[np.int64]:
    """Return the indices of the persons who can be cut out."""
    return np.flatnonzero([can_be_cut_out(person) for person in persons])
