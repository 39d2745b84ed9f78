"""The parity gate: every artefact against the FP32 network, in keypoint pixels, before it is declared good."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from autopose.errors import BackendError, MissingDependencyError, ModelError
from autopose.export.deviation import COMPACT_LIMITS, LIMITS, Deviation, compare_boxes, compare_keypoints
from autopose.export.onnx_graph import load_graph
from autopose.export.rounding import rounding_graph
from autopose.manifest import Manifest
from autopose.runtime.gpu import gpu_here
from autopose.runtime.ort_session import OrtSession
from autopose.runtime.session import Session, normalised, open_session

log = logging.getLogger(__name__)

BATCH = 16

#: What :meth:`Reference.maps` returns.
Maps = tuple[NDArray[np.float32], ...]


class Reference(Protocol):
    """The FP32 network that artefacts are held against."""

    @property
    def manifest(self) -> Manifest:
        """What it expects; its ``decode`` does not count."""
        ...

    def maps(self, images: NDArray[np.uint8]) -> Maps:
        """Return heatmaps ``(N, K, h, w)`` of a pose network, or boxes and scores of a detector."""
        ...


class GraphReference:
    """An exported FP32 graph as the reference, where its checkpoint is not at hand."""

    def __init__(self, path: Path) -> None:
        with open_session(path, device="cpu") as session:
            self.manifest = session.manifest
        if self.manifest.precision != "fp32":
            raise ModelError(
                f"{path}: is {self.manifest.precision}; artefacts are made from and held against an FP32 model.\n"
                "Give the checkpoint or its FP32 export."
            )
        self.path = path

    @cached_property
    def _network(self) -> Any:
        """The ONNX Runtime session of the network, which is asked for a few annotated persons at a time."""
        import onnxruntime

        model = load_graph(self.path)
        if self.manifest.task == "pose" and self.manifest.decode:
            producer = {name: node for node in model.graph.node for name in node.output}
            # The score is the maximum of the raw maps in every refinement; the argmax may be of blurred ones.
            score = next(node for node in reversed(model.graph.node) if node.op_type == "ReduceMax")
            heatmaps = producer[score.input[0]].input[0]  # before it is flattened
            del model.graph.output[:]
            model.graph.output.append(onnx.helper.make_tensor_value_info(heatmaps, onnx.TensorProto.FLOAT, None))
        return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def maps(self, images: NDArray[np.uint8]) -> Maps:
        """Return what the network gives, see :class:`Reference`."""

        def run(batch: NDArray[np.uint8]) -> Maps:
            inputs = normalised(batch, self.manifest) if self.manifest.io == "plain" else batch
            return tuple(self._network.run(None, {"images": inputs}))

        return in_batches(run, images)


def measure(expected: Maps, session: Session, images: NDArray[np.uint8]) -> Deviation:
    """Compare an opened artefact with what :meth:`Reference.maps` gave on the same images."""
    manifest = session.manifest
    if manifest.task == "detector":
        return compare_boxes((expected[0], expected[1]), *in_batches(session.run, images, _size(session)))
    return compare_keypoints(
        expected[0], keypoints_of(session, images), manifest.codec, manifest.keypoint_skeleton
    )  # fmt: skip


def check_engine(
    expected: Maps, engine: Path, images: NDArray[np.uint8], *, name: str | None = None
) -> Deviation | None:
    """Measure a TensorRT engine on this machine's GPU: a correct graph can still become a wrong engine.

    Args:
        expected: what :meth:`Reference.maps` gave on ``images``.
        engine: with its sidecar.
        images: ``(N, H, W, 3)`` uint8 BGR of the input size.
        name: what an error calls it.

    Returns:
        The deviation; None where the engine cannot be run, because there is no GPU or it is for another one.

    Raises:
        ParityError: it deviates more than its precision may.
    """
    if gpu_here() is None:
        return None
    try:
        with open_session(engine) as session:
            deviation = measure(expected, session, images)
            limits = LIMITS[session.manifest.precision]
    except (BackendError, ModelError, MissingDependencyError) as error:
        log.warning("The engine was not run, only its graph was compared: %s", str(error).splitlines()[0])
        return None
    deviation.require(limits, name or engine.name)
    return deviation


def check(
    expected: Maps,
    path: Path,
    images: NDArray[np.uint8],
    *,
    name: str | None = None,
    for_engine: bool = False,
    compact: bool = False,
) -> Deviation:
    """Measure an ONNX artefact on the CPU; FP16 ones with their rounding made explicit (:mod:`~.rounding`).

    Args:
        expected: what :meth:`Reference.maps` gave on ``images``.
        path: the artefact.
        images: ``(N, H, W, 3)`` uint8 BGR of the input size.
        name: what an error calls it.
        for_engine: an engine is built from it, see :func:`rounding_session`.
        compact: its weights are stored in half precision.

    Raises:
        ParityError: it deviates more than its precision may.
    """
    with rounding_session(path, for_engine=for_engine) as session:
        deviation = measure(expected, session, images)
        limits = COMPACT_LIMITS if compact else LIMITS[session.manifest.precision]
        mend = "Leave out --compact" if compact else "Export with a higher --precision"
        deviation.require(limits, name or path.name, mend=mend)
    return deviation


@contextmanager
def rounding_session(path: Path, *, for_engine: bool = False) -> Iterator[Session]:
    """Open an ONNX artefact on the CPU; of an FP16 one, a copy with its rounding made explicit.

    The sums of an engine's INT8 layers do not overflow; a CPU's may (:mod:`~.quantise`). So a graph from which an
    engine is built is run with its rounded values in FP32, which hold such sums exactly enough.
    """
    with OrtSession(path, device="cpu", integers=not for_engine) as session:
        if session.manifest.precision != "fp16":
            yield session
            return
    with tempfile.TemporaryDirectory() as folder:
        emulated = Path(folder) / "rounded.onnx"
        onnx.save(rounding_graph(load_graph(path)), str(emulated))
        with OrtSession(emulated, device="cpu") as session:
            yield session


def keypoints_of(session: Session, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return ``(N, K, 3)`` of a pose model, decoding its heatmaps if the graph does not."""
    (output,) = in_batches(session.run, crops, _size(session))
    if session.manifest.decode:
        return output.astype(np.float64)
    xy, scores = session.manifest.codec.decode(output)
    return np.concatenate([xy, scores[..., None]], axis=-1)


def _size(session: Session) -> int:
    return min(BATCH, session.max_batch or BATCH)


def in_batches(
    run: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]], images: NDArray[np.uint8], size: int = BATCH
) -> tuple[NDArray[np.float32], ...]:
    """Run in batches; join each output."""
    parts = [run(images[start : start + size]) for start in range(0, len(images), size)]
    return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))
