"""Search, train, export and run human pose networks.

    >>> from autopose import Estimator
    >>> poses = Estimator().predict("photo.jpg")

Names are imported when they are first used, so that ``import autopose`` costs next to nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autopose.checkpoint import Checkpoint as Checkpoint
    from autopose.checkpoint import load_checkpoint as load_checkpoint
    from autopose.errors import AutoposeError as AutoposeError
    from autopose.genotype import AutoPoseGenotype as AutoPoseGenotype
    from autopose.genotype import Genotype as Genotype
    from autopose.poses import Poses as Poses
    from autopose.runtime.estimator import Estimator as Estimator
    from autopose.skeleton import COCO17 as COCO17
    from autopose.skeleton import MPII16 as MPII16
    from autopose.skeleton import Skeleton as Skeleton

__version__ = "0.1.0"

# ONNX Runtime since 1.29 reports sessions, model names and hashes to its vendor from Linux and macOS as well, through a
# queue in ~/.cache, unless this is set before its first session. Who wants to report sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "AutoPoseGenotype": "genotype",
    "AutoposeError": "errors",
    "COCO17": "skeleton",
    "Checkpoint": "checkpoint",
    "Estimator": "runtime.estimator",
    "Genotype": "genotype",
    "MPII16": "skeleton",
    "Poses": "poses",
    "Skeleton": "skeleton",
    "load_checkpoint": "checkpoint",
}

__all__ = [
    "COCO17",
    "MPII16",
    "AutoPoseGenotype",
    "AutoposeError",
    "Checkpoint",
    "Estimator",
    "Genotype",
    "Poses",
    "Skeleton",
    "__version__",
    "load_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'autopose' has no attribute {name!r}")
    return getattr(importlib.import_module(f"autopose.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
