"""What is exported on first use and kept in the cache for the next: graphs of checkpoints, engines of graphs."""

import importlib
import logging
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from autopose.errors import AutoposeError, BackendError, ModelError, require
from autopose.runtime.engine_sidecar import Builder
from autopose.runtime.gpu import gpu_here
from autopose.runtime.session import open_session

log = logging.getLogger(__name__)


def graph_of(trained: Path, *, flip: bool) -> Path:
    """Return the FP32 ONNX graph of trained weights, exporting it if that was not done before.

    Args:
        trained: checkpoint or run folder.
        flip: average over the mirrored crop, where it is a pose model.

    Raises:
        ModelError: torch or onnx, which the export needs, is not installed.
        ParityError: the graph deviates from the network.
    """
    lack = [name for name in ("torch", "onnx", "onnxscript", "safetensors") if find_spec(name) is None]
    if lack:
        raise ModelError(
            f"{trained}: has to be exported first, which needs {' and '.join(lack)}: pip install 'autopose[train]'.\n"
            f"Or, where that is installed: autopose export {trained} -o model.onnx"
        )
    log.info("Looking for the ONNX graph of %s; the first time it is exported.", trained)
    result: Path = _exporter("pipeline").graph_for(str(trained), flip=flip)
    return result


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
            f"autopose export {graph} --trt{_options_of(graph)} -o model.engine"
        )
    require("onnx", extra="trt" if builder == "tensorrt" else "trt-rtx", why="Building an engine")
    manifest = _exporter("parity").GraphReference(graph).manifest
    log.warning("Looking for the TensorRT engine of %s; the first time it is built, which takes minutes.", graph.name)
    options = _exporter("recipe").Recipe(builder=builder, flip=manifest.flip, decode=manifest.decode, io=manifest.io)
    result: Path = _exporter("pipeline").engine_for(str(graph), None, options).path
    return result


def _options_of(graph: Path) -> str:
    """Return the options without which an export from a graph is refused."""
    try:
        with open_session(graph, device="cpu", threads=1) as session:
            manifest = session.manifest
    except AutoposeError:  # whoever follows the advice is told what is wrong with it
        return ""
    pose = manifest.task == "pose"
    options = "" if manifest.flip or not pose else " --no-flip"
    options += "" if manifest.decode or not pose else " --no-decode"
    return options + (" --io plain" if manifest.io == "plain" else "")


def _exporter(module: str) -> ModuleType:
    """Return a module of the exporter, which lies above the runtime: it is needed here alone, and it needs onnx."""
    return importlib.import_module(f"autopose.export.{module}")
