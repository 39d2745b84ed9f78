"""What works on this machine: versions, GPU and driver, which backends truly open, room for cached engines."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autopose.errors import AutoposeError, UsageError
from autopose.export.builders import load_builder
from autopose.export.cache import cache_folder
from autopose.runtime.device_memory import open_cuda
from autopose.runtime.engine_sidecar import Builder
from autopose.runtime.gpu import gpu_here
from autopose.runtime.models import bundled_models
from autopose.runtime.session import open_session

Backend = Literal["ort", "ort-cuda", "trt", "trt-rtx"]
BACKENDS: tuple[Backend, ...] = ("ort", "ort-cuda", "trt", "trt-rtx")

_PACKAGES = (
    *("numpy", "opencv-python", "av", "onnxruntime-gpu", "onnxruntime", "torch", "onnx", "onnxscript", "safetensors"),
    *("tensorrt", "tensorrt-rtx-cu13", "cuda-python", "cuda-bindings", "pycuda", "ray"),
)


@dataclass(frozen=True)
class Trial:
    """One backend, tried.

    Attributes:
        backend: which.
        works: whether a model ran on it (or, for engines, could run).
        detail: what was seen, or why not and what would be used instead.
    """

    backend: Backend
    works: bool
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """The state of this machine.

    Attributes:
        system: Python and operating system.
        packages: versions of installed packages, and None for absent ones.
        gpu: the first GPU, or None.
        trials: every backend.
        builders: which engines can be built here: library -> words.
        cache: folder, engines in it, free GB, whether it can be written.
        warnings: what will surprise.
    """

    system: str
    packages: dict[str, str | None]
    gpu: dict[str, Any] | None
    trials: tuple[Trial, ...]
    builders: dict[str, str]
    cache: dict[str, Any]
    warnings: tuple[str, ...]

    def works(self, backend: Backend) -> bool:
        """Tell whether a backend runs models here."""
        return next(trial.works for trial in self.trials if trial.backend == backend)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at this machine; nothing is installed, built or written."""
    packages = {name: _version(name) for name in ("autopose", *_PACKAGES)}
    gpu = gpu_here()
    trials = (
        _trial("ort", lambda: _run_bundled("cpu")),
        _trial("ort-cuda", lambda: _run_bundled("cuda")),
        _trial("trt", lambda: _engine_runs("tensorrt")),
        _trial("trt-rtx", lambda: _engine_runs("tensorrt_rtx")),
    )
    warnings = []
    if packages["onnxruntime"] and packages["onnxruntime-gpu"]:
        warnings.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: pip uninstall both, then "
            "pip install --force-reinstall onnxruntime-gpu."
        )
    if gpu is not None and not trials[1].works:
        warnings.append("A GPU is here, but ONNX Runtime does not open it: '--device auto' runs on the CPU.")
    return Diagnosis(
        system=f"Python {platform.python_version()}, {platform.platform()}, {platform.machine()}",
        packages=packages,
        gpu=asdict(gpu) if gpu else None,
        trials=trials,
        builders={kind: _builds(kind) for kind in ("tensorrt", "tensorrt_rtx")},
        cache=_cache(),
        warnings=tuple(warnings),
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _trial(backend: Backend, attempt: Callable[[], str]) -> Trial:
    try:
        return Trial(backend, True, attempt())
    except AutoposeError as error:
        return Trial(backend, False, " ".join(str(error).split()))


def _run_bundled(device: Literal["cpu", "cuda"]) -> str:
    """Run a bundled model on a black picture.

    Raises:
        AutoposeError: it does not open or run there.
    """
    models = bundled_models()
    if not models:
        raise AutoposeError("no model is bundled with this installation to try it on")
    if device == "cuda" and gpu_here() is None:
        raise AutoposeError("no NVIDIA GPU or CUDA driver is here; '--device auto' runs on the CPU")
    with redirect_stdout(StringIO()), open_session(next(iter(models.values())), device=device) as session:
        width, height = session.manifest.codec.input_size_wh
        session.run(np.zeros((1, height, width, 3), np.uint8))
        return f"{session.path.name} ran on {session.device}"


def _engine_runs(kind: Builder) -> str:
    module = load_builder(kind)
    gpu = gpu_here()
    if gpu is None:
        raise AutoposeError(f"{kind} {module.__version__} is installed, but there is no NVIDIA GPU or driver to run on")
    cuda = open_cuda()
    try:
        return f"{kind} {module.__version__} on {gpu.name} through {cuda.name}"
    finally:
        cuda.close()
        cuda.leave()


def _builds(kind: Builder) -> str:
    try:
        module = load_builder(kind)
    except AutoposeError as error:
        return f"no: {str(error).splitlines()[0]}"
    if kind == "tensorrt_rtx":
        return f"yes, {module.__version__}: ahead of time for any RTX GPU (--trt-rtx --target sm89)"
    return f"yes, {module.__version__}" if gpu_here() else f"no: {module.__version__} builds on a GPU, and none is here"


def _cache() -> dict[str, Any]:
    try:
        folder = cache_folder()
    except UsageError as error:
        return {"folder": str(error), "engines": 0, "free_gb": 0.0, "writable": False}
    # os.path, which says no where Path raises: another user's home may not be looked into.
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return {
        "folder": str(folder),
        "engines": len(list(folder.glob("[!.]*/*.engine"))) if os.path.isdir(folder) else 0,
        "free_gb": round(shutil.disk_usage(existing).free / 1e9, 1),
        "writable": _writable(existing),
    }


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and folder.is_dir()
