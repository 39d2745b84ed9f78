"""What is exported on first use and kept in the cache for the next: graphs of checkpoints, engines of graphs."""

import importlib
import logging
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from autopose.errors import AutoposeError, BackendError, ModelError, require
from autopose.manifest import Manifest, Task, of_another_task
from autopose.runtime.engine_sidecar import Builder
from autopose.runtime.gpu import gpu_here
from autopose.runtime.session import open_session

log = logging.getLogger(__name__)


def graph_of(trained: Path, *, flip: bool, task: Task) -> Path:
    """Return the FP32 ONNX graph of trained weights, exporting it if that was not done before.

    Args:
        trained: checkpoint or run folder.
        flip: average over the mirrored crop, where it is a pose model.
        task: what the model has to be for.

    Raises:
        ModelError: torch or onnx, which the export needs, is not installed; or the model is for another task.
        ParityError: the graph deviates from the network.
    """
    lack = [name for name in ("torch", "onnx", "onnxscript", "safetensors") if find_spec(name) is None]
    if lack:
        raise ModelError(
            f'{trained}: has to be exported first, which needs {" and ".join(lack)}: pip install "autopose[train]".\n'
            f"Or, where that is installed: autopose export {trained} -o model.onnx"
        )
    log.info("Looking for the ONNX graph of %s; the first time it is exported.", trained)
    result: Path = _exporter("pipeline").graph_for(str(trained), flip=flip, task=task)
    return result


def engine_of(graph: Path, task: Task) -> Path:
    """Return the FP16 engine of an exported ONNX model, building it if this machine has none yet.

    Args:
        graph: FP32 ``.onnx`` with a manifest.
        task: what the model has to be for.

    Raises:
        ModelError: it is for another task.
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
            "Run it with backend 'ort'; on a machine with a GPU: pip install \"autopose[trt]\", then "
            f"{_command_for(graph)}"
        )
    require("onnx", extra="trt" if builder == "tensorrt" else "trt-rtx", why="Building an engine")
    manifest = _exporter("parity").GraphReference(graph).manifest
    if manifest.task != task:
        raise of_another_task(graph, manifest.task, task)
    log.warning("Looking for the TensorRT engine of %s; the first time it is built, which takes minutes.", graph.name)
    options = _exporter("recipe").Recipe(builder=builder, **_options_of(manifest))
    result: Path = _exporter("pipeline").engine_for(str(graph), None, options).path
    return result


def _command_for(graph: Path) -> str:
    """Return the command that builds an engine of a graph, with the options without which the graph is refused."""
    options: dict[str, Any] = {}
    with suppress(AutoposeError):  # whoever follows the advice is told what is wrong with the file
        with open_session(graph, device="cpu", threads=1) as session:
            manifest = session.manifest
        options = _options_of(manifest)
    exporter = _exporter("recipe")
    command: str = exporter.rebuild_command(
        str(graph), Path("model.engine"), exporter.Recipe(builder="tensorrt", **options)
    )  # fmt: skip
    return command


def _options_of(manifest: Manifest) -> dict[str, Any]:
    """Return the options of an export that a graph came from, as the command line has them."""
    pose = manifest.task == "pose"  # detectors know neither of the two
    return {"flip": manifest.flip or not pose, "decode": manifest.decode or not pose, "io": manifest.io}


def _exporter(module: str) -> ModuleType:
    """Return a module of the exporter, which lies above the runtime: it is needed here alone, and it needs onnx."""
    return importlib.import_module(f"autopose.export.{module}")
