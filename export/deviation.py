"""How far an exported model's results are from the reference's, in input pixels, and how far they may be.

A heatmap's maximum is an argmax and the quarter step a sign, so two values that are equal up to rounding may swap and
move a joint by a whole step although nothing is wrong. Joints whose reference heatmap is such a tie are left out, and
counted.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autopose.affine import BOX_PADDING
from autopose.boxes import keep_best_boxes
from autopose.console import counted
from autopose.errors import ParityError
from autopose.heatmap import Codec
from autopose.poses import SAME_PERSON_IOU
from autopose.runtime.detector import MAX_PERSONS
from autopose.skeleton import Skeleton

Precision = Literal["fp32", "fp16", "int8"]
#: Boxes ``(D, 4)`` and scores ``(D)`` of an image, or with a leading N of a batch.
Found = tuple[NDArray[np.floating], NDArray[np.floating]]


#: Joints (and boxes) that count.
CONFIDENT = 0.2
#: Heatmap values that differ by less are a tie.
TIE = 1e-3


@dataclass(frozen=True)
class Limits:
    """What a precision may deviate: mean and maximum in input pixels, scores absolutely; None: not gated."""

    mean_px: float
    max_px: float | None
    score: float


LIMITS: Mapping[Precision, Limits] = {
    "fp32": Limits(0.02, 0.2, 0.005),
    "fp16": Limits(0.3, None, 0.05),
    "int8": Limits(1.0, None, 0.3),
}
#: FP32 arithmetic with weights rounded to FP16 (``--compact``).
COMPACT_LIMITS = Limits(0.1, None, 0.02)


@dataclass(frozen=True)
class Deviation:
    """Of an artefact from the reference.

    Attributes:
        crops: images compared.
        joints: confident joints compared (or boxes of a detector).
        ties: confident joints left out.
        missing: confident boxes that the artefact has not (detector).
        surplus: confident boxes that the reference has not (detector).
        mean_px, p99_px, max_px: distances in input pixels; 0 without confident joints.
        oks: mean object keypoint similarity of the artefact's joints to torch's; 1 without confident joints.
        score: largest difference of a score, of all joints.
    """

    crops: int
    joints: int
    ties: int
    missing: int
    mean_px: float
    p99_px: float
    max_px: float
    oks: float
    score: float
    surplus: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)

    def breaches(self, limits: Limits) -> list[str]:
        """Return what exceeds the limits, each as a phrase."""
        found = []
        if self.mean_px > limits.mean_px:
            found.append(f"mean distance {self.mean_px:.3f} px (limit {limits.mean_px})")
        if limits.max_px is not None and self.max_px > limits.max_px:
            found.append(f"maximum distance {self.max_px:.3f} px (limit {limits.max_px})")
        if self.score > limits.score:
            found.append(f"a score differs by {self.score:.4f} (limit {limits.score})")
        if self.missing > 0.02 * (self.joints + self.missing):
            found.append(f"{self.missing} of {self.joints + self.missing} boxes are missing")
        if self.surplus > 0.02 * (self.joints + self.missing):
            found.append(f"{counted(self.surplus, 'new box', 'new boxes')} beside {self.joints + self.missing}")
        if not np.isfinite(self.mean_px + self.score):
            found.append("results are not finite")
        return found

    def require(self, limits: Limits, where: str, *, mend: str = "Export with a higher --precision") -> None:
        """Raise if a limit is exceeded.

        Args:
            limits: of the artefact's precision.
            where: its name.
            mend: what the user can do.

        Raises:
            ParityError: says by how much.
        """
        if breaches := self.breaches(limits):
            raise ParityError(
                f"{where}: deviates from the FP32 network on {counted(self.crops, 'image')}: "
                f"{'; '.join(breaches)}.\n"
                f"The file was not kept. {mend}, or report this with the model."
            )


def tied(heatmaps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which joints ``(N, K)`` of maps ``(N, K, h, w)`` sit on a tie of their peak or of a neighbour comparison."""
    count, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count, joints, -1)
    top = np.partition(flat, -2, axis=-1)[..., -2:]
    peak = flat.argmax(-1)
    x, y = peak % width, peak // width

    def at(dx: int, dy: int) -> NDArray[np.float32]:
        index = np.clip(y + dy, 0, height - 1) * width + np.clip(x + dx, 0, width - 1)
        return np.asarray(np.take_along_axis(flat, index[..., None], -1)[..., 0])

    ties = top[..., 1] - top[..., 0] < TIE
    ties |= np.abs(at(1, 0) - at(-1, 0)) < TIE  # at the border the peak and one neighbour: a tie already
    return np.asarray(ties | (np.abs(at(0, 1) - at(0, -1)) < TIE))


def compare_keypoints(
    heatmaps: NDArray[np.float32], keypoints: NDArray[np.floating], codec: Codec, skeleton: Skeleton
) -> Deviation:
    """Compare an artefact's keypoints ``(N, K, 3)`` with torch's heatmaps ``(N, K, h, w)``."""
    xy, scores = codec.decode(heatmaps)
    confident, ties = scores >= CONFIDENT, tied(heatmaps)
    used = confident & ~ties
    distance = np.linalg.norm(keypoints[..., :2] - xy, axis=-1)
    width, height = codec.input_size_wh
    area = width * height / BOX_PADDING**2
    oks = np.exp(-(distance**2) / (2 * area * (2 * np.array(skeleton.sigmas)) ** 2))
    return _summary(
        len(heatmaps), distance[used], np.abs(keypoints[..., 2] - scores), int((confident & ties).sum()), oks=oks[used]
    )


def compare_boxes(
    reference: Found,
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> Deviation:
    """Compare an artefact's boxes ``(N, D, 4)`` and scores ``(N, D)`` with torch's; each box with the nearest one.

    Of boxes of the same person only the best is compared, as at run time: whether a shoulder of its peak is a peak of
    its own may hang on rounding. It is compared with all of the other side's, because of two equally good ones rounding
    chooses the best as well.
    """
    distances: list[float] = []
    differences, missing, surplus = [0.0], 0, 0
    for images_found in zip(zip(*reference, strict=True), zip(boxes, scores, strict=True), strict=True):
        reference_found, own_found = images_found
        near, apart, lost = _nearest(_persons(*reference_found), own_found)
        distances, differences, missing = distances + near, differences + apart, missing + lost
        _, apart, lost = _nearest(_persons(*own_found), reference_found)
        differences, surplus = differences + apart, surplus + lost
    return _summary(
        len(boxes), np.array(distances), np.array(differences), 0, missing=missing, surplus=surplus
    )  # fmt: skip


def _persons(boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> Found:
    kept = keep_best_boxes(boxes, scores, SAME_PERSON_IOU, MAX_PERSONS)
    return boxes[kept], scores[kept]


def _nearest(found: Found, others: Found) -> tuple[list[float], list[float], int]:
    """Return distance and difference of score of each confident box to the nearest other, and how many have none."""
    distances, differences, alone = [], [], 0
    for box, score in zip(*found, strict=True):
        if score < CONFIDENT:
            break  # scores fall
        distance = np.abs(others[0] - box).max(-1)
        nearest = int(np.nanargmin(np.where(np.isfinite(distance), distance, np.inf)))
        # A peak may move to the next cell if two are equal: then its box is another prediction of the same person.
        if distance[nearest] > 0.25 * float((box[2:] - box[:2]).max()):
            alone += bool(score > CONFIDENT + 0.05)
            continue
        distances.append(float(distance[nearest]))
        differences.append(abs(float(others[1][nearest] - score)))
    return distances, differences, alone


def _summary(
    crops: int,
    distance: NDArray[np.floating],
    difference: NDArray[np.floating],
    ties: int,
    *,
    oks: NDArray[np.floating] | None = None,
    missing: int = 0,
    surplus: int = 0,
) -> Deviation:
    some = distance.size > 0
    return Deviation(
        crops=crops,
        joints=int(distance.size),
        ties=ties,
        missing=missing,
        mean_px=float(distance.mean()) if some else 0.0,
        p99_px=float(np.quantile(distance, 0.99)) if some else 0.0,
        max_px=float(distance.max()) if some else 0.0,
        oks=float(oks.mean()) if some and oks is not None else 1.0,
        score=float(difference.max()),
        surplus=surplus,
    )
