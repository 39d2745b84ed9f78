"""Person detectors: from an image to boxes. Any callable of the ``Detector`` form plugs in."""

from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from autopose.affine import invert, letterbox_matrix, transform_boxes, warp
from autopose.boxes import clip_boxes, keep_best_boxes
from autopose.errors import DataError
from autopose.manifest import of_another_task
from autopose.poses import SAME_PERSON_IOU
from autopose.runtime.models import Backend, open_model, resolve_model
from autopose.runtime.session import Device, Session

#: Boxes with a lower score are not looked at.
#: Chosen on held-out images, and on clips: docs/benchmarks.md, "False persons".
DEFAULT_THRESHOLD = 0.25
#: Persons per image, at most; the best by score.
MAX_PERSONS = 100


@runtime_checkable
class Detector(Protocol):
    """Finds the persons of an image. Several threads may call it at once if they share an estimator."""

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes xyxy ``(n, 4)`` in image pixels and scores ``(n,)`` of an image ``(H, W, 3)`` BGR."""
        ...


def checked_found(found: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what a detector gave as boxes ``(n, 4)`` and scores ``(n,)``; nothing of any shape means nobody.

    Boxes without area are left out.

    Raises:
        DataError: it has another form, a value that is not finite, or corners in the wrong order.
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise DataError(
            f"The detector gave {type(found).__name__}; expected (boxes, scores): boxes (n, 4), xyxy in image pixels, "
            "and scores (n,)."
        )
    boxes, scores = (np.asarray(part, np.float32) for part in found)
    if not boxes.size and not scores.size:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes),):
        raise DataError(
            f"The detector gave boxes of shape {boxes.shape} and scores of shape {scores.shape}; expected (n, 4), "
            "xyxy in image pixels, and (n,)."
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise DataError("The detector gave a box or a score that is not finite.")
    wrong = (boxes[:, 2:] < boxes[:, :2]).any(1)
    if wrong.any():
        raise DataError(
            f"The detector gave the box {boxes[wrong][0].tolist()}; expected corners x0, y0, x1, y1 in image pixels, "
            "not width and height."
        )
    held = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return boxes[held], scores[held]


@runtime_checkable
class AdjustableDetector(Protocol):
    """A detector whose threshold can be chosen per image: trackers also look at doubtful boxes."""

    threshold: float

    def detect(self, image: NDArray[np.uint8], threshold: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes and scores down to a threshold."""
        ...


class SessionDetector:
    """The package's own detector network: letterbox, one run, boxes back to image pixels.

    Args:
        session: an opened detector; owned, ``close()`` closes it.
        threshold: least score of a box.
    """

    def __init__(self, session: Session, *, threshold: float = DEFAULT_THRESHOLD) -> None:
        if session.manifest.task != "detector":
            raise of_another_task(session.path, session.manifest.task, "detector")
        self.session = session
        self.threshold = threshold

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find the persons of one image."""
        return self.detect(image, self.threshold)

    def detect(self, image: NDArray[np.uint8], threshold: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find the persons of one image, down to another threshold."""
        size_wh = image.shape[1], image.shape[0]
        input_wh = self.session.manifest.codec.input_size_wh
        matrix = letterbox_matrix(size_wh, input_wh)
        boxes, scores = self.session.run(warp(image, matrix, input_wh)[None])
        return finished_boxes(boxes[0], scores[0], matrix, size_wh, threshold)

    def close(self) -> None:
        """Close the session."""
        self.session.close()


def finished_boxes(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    matrix: NDArray[np.floating],
    image_size_wh: tuple[int, int],
    threshold: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn raw boxes ``(n, 4)`` in input pixels into the persons of the image: threshold, suppress, map back, clip."""
    chosen = np.flatnonzero(scores >= threshold)
    chosen = chosen[keep_best_boxes(boxes[chosen], scores[chosen], SAME_PERSON_IOU, MAX_PERSONS)]
    clipped = clip_boxes(transform_boxes(boxes[chosen], invert(matrix)), image_size_wh)
    solid = (clipped[:, 2:] - clipped[:, :2] >= 1).all(-1)
    return clipped[solid], np.asarray(scores[chosen][solid], np.float32)


class FullFrame:
    """Takes the whole image as one person: for pictures that are already cropped, and only when asked for."""

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the image's own frame with score 1."""
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)


#: Corners x0, y0, x1, y1 of a part of an image, in whole pixels.
Region: TypeAlias = tuple[int, int, int, int]

#: What a detector sees around a region, as a share of its sides: the whole of persons at its border.
_AROUND = 0.25


def found_within(
    region: Region | None, detector: Detector, image: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the persons in a part of an image: those whose boxes have their centre in it, in pixels of the image.

    The detector sees this part and a margin as if they were all: small persons in it are larger to it.

    Args:
        region: the part; what of it lies outside of the image is left out. None for the whole image.
        detector: to ask.
        image: ``(H, W, 3)`` BGR.

    Raises:
        DataError: the part lies outside of the image, or the detector gave another form (:func:`checked_found`).
    """
    if region is None:
        return checked_found(detector(image))
    x0, y0, x1, y1 = region
    height, width = image.shape[:2]
    if x0 >= width or y0 >= height:
        raise DataError(
            f"The region {x0} {y0} {x1} {y1} lies outside of an image of {width}x{height} pixels; expected corners "
            "x0 y0 x1 y1 in pixels of the image."
        )
    around = 0.0 if isinstance(detector, FullFrame) else _AROUND
    pad_x, pad_y = round(around * (x1 - x0)), round(around * (y1 - y0))
    left, top = max(x0 - pad_x, 0), max(y0 - pad_y, 0)
    boxes, scores = checked_found(detector(np.ascontiguousarray(image[top : y1 + pad_y, left : x1 + pad_x])))
    boxes = boxes + np.array([left, top, left, top], np.float32)
    inside = centered_within(region, boxes)
    return boxes[inside], scores[inside]


def centered_within(region: Region, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which boxes xyxy ``(n, 4)`` have their centre in a part of the image."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((centers >= region[:2]) & (centers <= region[2:])).all(-1))


def open_detector(
    name_or_path: str | Path,
    *,
    device: Device = "auto",
    backend: Backend = "auto",
    threads: int | None = None,
    threshold: float = DEFAULT_THRESHOLD,
) -> Detector:
    """Open a detector.

    Args:
        name_or_path: a bundled detector (``default``), an exported one, an ONNX file of YOLOX's layout, or
            ``full-frame``.
        device: see :func:`autopose.runtime.session.open_session`.
        backend: ``ort`` and ``trt`` refuse files of the other one.
        threads: CPU threads of one run.
        threshold: least score of a box.

    Raises:
        ModelError: there is none of that name, or its layout is not known.
    """
    if str(name_or_path) == "full-frame":
        return FullFrame()
    path = Path(name_or_path)
    if path.suffix.lower() == ".onnx" and path.is_file():
        from autopose.runtime.yolox import YoloxDetector, is_yolox

        if is_yolox(path):
            return YoloxDetector(path, device=device, threads=threads, threshold=threshold)
    # A TensorRT pose model may go with the bundled detector, which is an ONNX file.
    kind: Backend = backend if resolve_model(name_or_path, task="detector").suffix != ".onnx" else "auto"
    session = open_model(name_or_path, task="detector", backend=kind, device=device, threads=threads)
    return SessionDetector(session, threshold=threshold)
