"""Engines of ONNX models, built on first use of ``backend="trt"`` and kept in the cache for the next."""

import importlib
import logging
from importlib.util import find_spec
from pathlib import Path

from autopose.errors import BackendError
from autopose.runtime.engine_sidecar import Builder
from autopose.runtime.gpu import gpu_here

log = logging.getLogger(__name__)


def engine_of(graph: Path) -> Path:
    """Return the FP16 engine of an exported ONNX model, building it if this machine has none yet.

    Args:
        graph: FP32 ``.onnx`` with a manifest.

    Raises:
        BackendError: there is no GPU or no TensorRT to build with.
        ParityError: the half-precision graph deviates from the ONNX model.
    """
    builders: tuple[Builder, ...] = ("tensorrt", "tensorrt_rtx")
    builder = next((kind for kind in builders if find_spec(kind) is not None), None)
    lack = [] if gpu_here() else ["no NVIDIA GPU or driver is here"]
    lack += [] if builder else ["neither TensorRT nor TensorRT-RTX is installed"]
    if lack or builder is None:
        raise BackendError(
            f"Backend 'trt' needs an engine of {str(graph)!r}, and {', and '.join(lack)}.\n"
            "Run it with backend 'ort'; on a machine with a GPU: pip install 'autopose[trt]', then "
            f"autopose export {graph} --trt -o model.engine"
        )
    # The exporter lies above the runtime and is looked up by name: it is needed here alone, and it needs onnx.
    pipeline = importlib.import_module("autopose.export.pipeline")
    recipe = importlib.import_module("autopose.export.recipe")
    manifest = importlib.import_module("autopose.export.parity").GraphReference(graph).manifest
    log.warning("Looking for the TensorRT engine of %s; the first time it is built, which takes minutes.", graph.name)
    options = recipe.Recipe(builder=builder, flip=manifest.flip, decode=manifest.decode, io=manifest.io)
    result: Path = pipeline.engine_for(str(graph), None, options).path
    return result
