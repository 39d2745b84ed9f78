"""What ``autopose export MODEL`` starts from: a checkpoint, or an exported FP32 graph where torch is not at hand."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from autopose.errors import ModelError, require
from autopose.runtime.models import resolve_model

if TYPE_CHECKING:
    from autopose.checkpoint import Checkpoint

_DETECTOR = "detector-"


@dataclass(frozen=True)
class Source:
    """A resolved MODEL; exactly one of the two is set.

    Attributes:
        name: for file names.
        checkpoint: weights to trace.
        graph: an exported FP32 ONNX file.
    """

    name: str
    checkpoint: "Checkpoint | None" = None
    graph: Path | None = None


def resolve_source(model: str, *, flip: bool) -> Source:
    """Find what MODEL means: a bundled name, a run folder, a checkpoint or an exported ``.onnx``.

    Args:
        model: as the user wrote it.
        flip: which of a bundled model's two graphs, if its weights cannot be used because torch is absent.

    Raises:
        ModelError: there is no such model.
        MissingDependencyError: it is a checkpoint, and torch is not installed.
    """
    path = Path(model)
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise ModelError(f"No model file {model!r}. Give a checkpoint, a run folder, a .onnx or a bundled name.")
        return Source(path.stem, graph=path)
    if path.suffix.lower() in (".engine", ".plan"):
        raise ModelError(f"{model}: is an engine already. Give the checkpoint, run folder or .onnx that it came from.")
    if path.exists():
        return Source(path.name if path.is_dir() else path.stem, checkpoint=_load(path))
    weights = Path(str(resources.files("autopose.zoo"))) / f"{model}.safetensors"
    if weights.is_file() and _torch_is_installed():
        return Source(model, checkpoint=_load(weights))
    task = "detector" if model.startswith(_DETECTOR) else "pose"
    graph = resolve_model(model, flip=flip, task=task)  # type: ignore[arg-type]
    return Source(model, graph=graph)


def source_file(model: str, *, flip: bool) -> Path:
    """Return the one file that MODEL's weights are in, without reading it: for cache keys.

    Raises:
        ModelError: there is no such model.
    """
    path = Path(model)
    if path.is_dir():
        from autopose.checkpoint import checkpoint_path

        return checkpoint_path(path)
    if path.is_file():
        return path
    weights = Path(str(resources.files("autopose.zoo"))) / f"{model}.safetensors"
    if weights.is_file() and _torch_is_installed():
        return weights
    return resolve_model(model, flip=flip, task="detector" if model.startswith(_DETECTOR) else "pose")


def _torch_is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None and find_spec("safetensors") is not None


def _load(path: Path) -> "Checkpoint":
    require("torch", extra="train", why="Exporting a checkpoint")
    from autopose.checkpoint import load_checkpoint

    return load_checkpoint(path)
