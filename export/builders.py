"""TensorRT and TensorRT-RTX behind one door: the module, its version, and the GPU at hand."""

import importlib
from types import ModuleType
from typing import Any

from autopose.errors import BackendError, MissingDependencyError, UsageError
from autopose.runtime.engine_sidecar import Builder

#: TensorRT 10.12 is the first whose builder takes the same strongly typed networks as 11; TensorRT-RTX 1.2 the first
#: with CUDA graphs of its own.
OLDEST = {"tensorrt": (10, 12), "tensorrt_rtx": (1, 2)}
_ADVICE = {
    "tensorrt": (
        'TensorRT is not installed ({error}): pip install "autopose[trt]" (with libraries from NVIDIA\'s own index).\n'
        "Instead, 'autopose export MODEL' makes a .onnx that runs everywhere, and 'autopose export MODEL --trt-rtx "
        "--target sm89' builds RTX engines without a GPU."
    ),
    "tensorrt_rtx": (
        'TensorRT-RTX is not installed ({error}): pip install "autopose[trt-rtx]".\n'
        "Instead, 'autopose export MODEL' makes a .onnx that runs everywhere."
    ),
}


def load_builder(kind: Builder) -> ModuleType:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        MissingDependencyError: it is not installed; says what to install and what to do instead.
        BackendError: it is too old.
    """
    try:
        module = importlib.import_module(kind)
    except (ImportError, OSError) as error:
        raise MissingDependencyError(_ADVICE[kind].format(error=str(error).splitlines()[0])) from None
    version = tuple(int(part) for part in module.__version__.split(".")[:2])
    if version < OLDEST[kind]:
        raise BackendError(
            f"{kind} {module.__version__} is too old: {'.'.join(map(str, OLDEST[kind]))} or newer is needed.\n"
            f'pip install --upgrade "autopose[{"trt" if kind == "tensorrt" else "trt-rtx"}]"'
        )
    return module


def parse_targets(trt: Any, targets: tuple[str, ...]) -> list[Any]:
    """Return TensorRT-RTX's compute capabilities for names such as ``sm89``.

    Raises:
        UsageError: a name that this version does not know.
    """
    known = {name.lower(): value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    for target in targets:
        if target not in known:
            raise UsageError(
                f"--target {target}: TensorRT-RTX {trt.__version__} builds for {', '.join(known)}.\n"
                "(sm75 Turing, sm80 and sm86 Ampere, sm89 Ada, sm120 and sm121 Blackwell)"
            )
    return [known[target] for target in targets]
