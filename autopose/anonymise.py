"""Persons made unrecognisable in pictures: heads blurred along their joints, or nothing left of the picture at all."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses

#: What of a picture is hidden: the heads of the persons, or all of it.
Hidden = Literal["heads", "picture"]

#: Joints of a head with a lower score do not say where it is; less than drawing asks for, so that rather too much is
#: hidden than too little.
_SEEN = 0.1
#: Joints in the middle of a head, and at its ends.
_FACE, _ENDS = ("nose", "eye", "ear", "mouth", "chin", "face"), ("head", "neck")
#: Radius of a head: in shares of the largest distance between joints of the face (ear to ear, or nose to ear in
#: profile), of its height, of the trunk from shoulders to hips, and of the longer side of the box, whatever is most.
#: People are 7 to 8 heads tall.
_OF_FACE, _OF_HEIGHT, _OF_TRUNK, _OF_BOX = 1.3, 0.75, 0.35, 0.09
#: Coloured spots that are left along a hidden head's diameter.
_SPOTS = 4


def hide(image: NDArray[np.uint8], poses: Poses, what: Hidden) -> NDArray[np.uint8]:
    """Return a copy of an image ``(H, W, 3)`` with heads blurred (:func:`hide_heads`), or a black one of its size."""
    return np.zeros_like(image) if what == "picture" else hide_heads(image, poses)


def hide_heads(image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
    """Return a copy of an image in which the head of every person found is reduced to a few spots of colour.

    Where no joint of a person's head is seen, all of their box is hidden: who is turned away may turn back. Whom the
    networks do not find is not hidden, and clothes and gait remain.

    Args:
        image: ``(H, W, 3)`` uint8 BGR, the image that the poses belong to; not modified.
        poses: whose heads.
    """
    hidden = image.copy()
    for person in poses:
        circle = _head(person)
        if circle is None:
            _reduce(hidden, image, person.boxes[0])
        else:
            center, radius = circle
            _reduce(hidden, image, np.concatenate([center - radius, center + radius]), round_=True)
    return hidden


def _head(person: Poses) -> tuple[NDArray[np.float64], float] | None:
    """Return centre ``(2,)`` and radius of one person's head in image pixels; None if no joint of it is seen."""
    xy = person.keypoints[0].astype(np.float64)
    seen = (person.keypoint_scores[0] >= _SEEN) & np.isfinite(xy).all(-1)
    face, ends = (xy[seen & person.skeleton.named(*names)] for names in (_FACE, _ENDS))
    joints, share = (face, _OF_FACE) if len(face) else (ends, _OF_HEIGHT)
    if not len(joints):
        return None
    spread = np.linalg.norm(joints[:, None] - joints[None], axis=-1).max()
    shoulders, hips = (xy[seen & person.skeleton.named(name)] for name in ("shoulder", "hip"))
    trunk = np.linalg.norm(shoulders.mean(0) - hips.mean(0)) if len(shoulders) and len(hips) else 0.0
    x0, y0, x1, y1 = person.boxes[0].astype(np.float64)
    radius = max(share * spread, _OF_TRUNK * trunk, _OF_BOX * max(x1 - x0, y1 - y0), 4.0)
    if not len(face) and len(ends) == 1:  # the head lies to one side of it
        radius *= 2
    return joints.mean(0), float(radius)


def _reduce(
    hidden: NDArray[np.uint8], image: NDArray[np.uint8], box: NDArray[np.floating], *, round_: bool = False
) -> None:
    """Reduce what lies within a box xyxy, or in the ellipse in it, to a few spots of colour."""
    size = [image.shape[1], image.shape[0]] * 2
    x0, y0, x1, y1 = np.clip(np.concatenate([np.floor(box[:2]), np.ceil(box[2:])]), 0, size).astype(int).tolist()
    if x1 <= x0 or y1 <= y0:
        return
    part = image[y0:y1, x0:x1]
    spots = cv2.resize(part, (min(_SPOTS, x1 - x0), min(_SPOTS, y1 - y0)), interpolation=cv2.INTER_AREA)
    blurred = np.asarray(cv2.resize(spots, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR), np.uint8)
    if not round_:
        hidden[y0:y1, x0:x1] = blurred
        return
    x, y = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
    center, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    inside = ((x - center[0]) / radii[0])[None] ** 2 + ((y - center[1]) / radii[1])[:, None] ** 2 <= 1
    hidden[y0:y1, x0:x1][inside] = blurred[inside]
