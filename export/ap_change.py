"""How much an artefact changes the average precision on annotated persons: the same boxes, both networks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco import load_coco
from autopose.evaluation.coco import evaluate_keypoints
from autopose.evaluation.predict import predict_persons
from autopose.export.parity import BATCH, Reference, keypoints_of, rounding_session


@dataclass(frozen=True)
class ApChange:
    """AP of the FP32 network and of the artefact on the same ground-truth boxes."""

    reference: float
    artefact: float

    @property
    def change(self) -> float:
        """Return the artefact's AP minus the reference's."""
        return self.artefact - self.reference


def ap_change(
    reference: Reference,
    artefact: Path,
    annotations: Path,
    *,
    images: Path | None = None,
    for_engine: bool = False,
) -> ApChange:
    """Evaluate both networks on ground-truth boxes; FP16 artefacts with their rounding made explicit.

    Args:
        reference: the FP32 network.
        artefact: an ONNX pose model.
        annotations: COCO keypoint file.
        images: folder that its ``file_name`` is relative to.
        for_engine: an engine is built from it, see :func:`autopose.export.parity.rounding_session`.
    """
    manifest = reference.manifest
    codec = manifest.codec
    persons = load_coco(annotations, images=images, skeleton=manifest.keypoint_skeleton)

    def ap(predict: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float64], NDArray[np.float32]]]) -> float:
        results = predict_persons(predict, persons, codec, batch_size=BATCH)
        return evaluate_keypoints(results, annotations, skeleton=manifest.keypoint_skeleton)["AP"]

    with rounding_session(artefact, for_engine=for_engine) as session:

        def run(crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
            keypoints = keypoints_of(session, crops)
            return keypoints[..., :2], keypoints[..., 2].astype(np.float32)

        own = ap(run)
    return ApChange(ap(lambda crops: codec.decode(reference.maps(crops)[0])), own)
