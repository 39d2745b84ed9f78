"""Skeletons onto images: anti-aliased limbs by side of the body, thickness by the person's size, track ids."""

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses

#: BGR of limbs and joints on the left, on the right and in the middle of the body.
LEFT, RIGHT, MIDDLE = (80, 175, 255), (255, 150, 60), (120, 230, 120)
_SIDES = {"left": LEFT, "l": LEFT, "right": RIGHT, "r": RIGHT}
#: BGR of track ids, taken in turn, in pictures and on the page of 'view': seen on its light and its dark ground.
TRACK_COLOURS = (
    (75, 25, 230), (75, 180, 60), (0, 168, 224), (200, 130, 0), (48, 130, 245), (180, 30, 145), (207, 190, 23),
    (230, 50, 240), (0, 174, 127), (155, 115, 212), (128, 128, 0), (40, 110, 170), (0, 0, 128), (0, 128, 128),
)  # fmt: skip
#: Sub-pixel bits of OpenCV's drawing functions: coordinates are given in 1/16 pixels.
_SHIFT = 4


def draw(
    image: NDArray[np.uint8],
    poses: Poses,
    *,
    min_score: float = 0.2,
    boxes: bool = False,
    ids: bool = True,
) -> NDArray[np.uint8]:
    """Return a copy of the image with the skeletons on it.

    Args:
        image: ``(H, W, 3)`` uint8 BGR, the image that the poses belong to; not modified.
        poses: what to draw.
        min_score: joints below it, and limbs that end in one, are left out.
        boxes: draw the boxes too.
        ids: write track ids, where there are any, and colour boxes by them.
    """
    canvas = image.copy()
    for i in range(len(poses)):
        draw_person(canvas, poses, i, min_score=min_score)
        track = None if poses.ids is None else int(poses.ids[i])
        colour = TRACK_COLOURS[((track or 1) - 1) % len(TRACK_COLOURS)]  # ids count from 1
        if boxes:
            x0, y0, x1, y1 = np.round(poses.boxes[i]).astype(int).tolist()
            # Edges lie between pixels: the last one inside is drawn.
            cv2.rectangle(canvas, (x0, y0), (max(x1 - 1, x0), max(y1 - 1, y0)), colour, 1, cv2.LINE_AA)
        if ids and track is not None:
            _write_id(canvas, poses, i, str(track), colour, min_score)
    return canvas


def draw_person(canvas: NDArray[np.uint8], poses: Poses, index: int, *, min_score: float = 0.2) -> None:
    """Draw one person's limbs and joints into the canvas."""
    skeleton = poses.skeleton
    xy = poses.keypoints[index].astype(np.float64)
    seen = (poses.keypoint_scores[index] >= min_score) & np.isfinite(xy).all(-1)
    box = poses.boxes[index]
    size = float(np.hypot(box[2] - box[0], box[3] - box[1]))
    # A dark rim keeps the lines visible on any ground; both grow with the person.
    thickness = max(1, round(size / 130))
    rim = thickness + max(2, thickness // 2)
    fixed = np.round(np.clip(np.where(seen[:, None], xy, 0), -1e5, 1e5) * (1 << _SHIFT)).astype(int)
    limbs = [(a, b) for a, b in skeleton.limb_indices.tolist() if seen[a] and seen[b]]
    for a, b in limbs:
        cv2.line(canvas, fixed[a].tolist(), fixed[b].tolist(), (30, 30, 30), rim, cv2.LINE_AA, _SHIFT)
    for a, b in limbs:
        colour = side_colour(skeleton.joints[a], skeleton.joints[b])
        cv2.line(canvas, fixed[a].tolist(), fixed[b].tolist(), colour, thickness, cv2.LINE_AA, _SHIFT)
    radius = max(1.5, 0.9 * thickness + 0.6)
    for joint in np.flatnonzero(seen):
        at = fixed[joint].tolist()
        colour = side_colour(skeleton.joints[joint], skeleton.joints[joint])
        cv2.circle(canvas, at, round((radius + 1) * (1 << _SHIFT)), (30, 30, 30), -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, at, round(radius * (1 << _SHIFT)), colour, -1, cv2.LINE_AA, _SHIFT)


def side_colour(first: str, second: str) -> tuple[int, int, int]:
    """Return the BGR colour of a limb between two joints: of its side, or the middle's where it joins both."""
    colours = {_SIDES[word] for name in (first, second) for word in name.split("_") if word in _SIDES}
    return colours.pop() if len(colours) == 1 else MIDDLE


def _write_id(
    canvas: NDArray[np.uint8], poses: Poses, index: int, text: str, colour: tuple[int, int, int], min_score: float
) -> None:
    """Write a track id above the person's highest joint, black or white on its colour: some colours are dark."""
    seen = (poses.keypoint_scores[index] >= min_score) & np.isfinite(poses.keypoints[index]).all(-1)
    box = poses.boxes[index]
    top = float(poses.keypoints[index][seen, 1].min()) if seen.any() else float(box[1])
    height = float(np.clip((box[3] - box[1]) / 14, 9, 28))
    scale = height / 22  # Hershey Simplex capitals are 22 px high at scale 1
    weight = max(1, round(scale * 2))
    (width, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    x = round(float(np.clip((box[0] + box[2]) / 2 - width / 2, 2, max(canvas.shape[1] - width - 2, 2))))
    y = round(float(np.clip(top - height * 1.2, tall + 3, canvas.shape[0] - 3)))
    cv2.rectangle(canvas, (x - 3, y - tall - 3), (x + width + 3, y + 4), colour, -1, cv2.LINE_AA)
    light = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 140
    ink = (0, 0, 0) if light else (255, 255, 255)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, weight, cv2.LINE_AA)
