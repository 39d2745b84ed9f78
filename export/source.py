"""What ``autopose export MODEL`` starts from: a checkpoint, or an exported FP32 graph where torch is not at hand."""

from dataclasses import dataclass
from pathlib import Path

from autopose.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from autopose.errors import ModelError, require
from autopose.manifest import Task, of_another_task
from autopose.runtime.models import DETECTOR, resolve_model
from autopose.zoo import bundled_weights


@dataclass(frozen=True)
class Source:
    """A resolved MODEL; exactly one of the two is set.

    Attributes:
        checkpoint: weights to trace.
        graph: an exported FP32 ONNX file.
    """

    checkpoint: Checkpoint | None = None
    graph: Path | None = None


def resolve_source(model: str, *, flip: bool, task: Task | None = None) -> Source:
    """Find what MODEL means: a bundled name, a run folder, a checkpoint or an exported ``.onnx``.

    Args:
        model: as the user wrote it.
        flip: which of a bundled model's two graphs, if its weights cannot be used because torch is absent.
        task: what a checkpoint has to be for; None: either.

    Raises:
        ModelError: there is no such model, or it is for another task.
        MissingDependencyError: it is a checkpoint, and torch is not installed.
    """
    path = source_file(model, flip=flip)
    if path.suffix.lower() == ".onnx":
        return Source(graph=path)
    checkpoint = _load(path)
    if task is not None and checkpoint.task != task:
        raise of_another_task(model, checkpoint.task, task)
    return Source(checkpoint=checkpoint)


def source_file(model: str, *, flip: bool) -> Path:
    """Return the one file that MODEL means, without reading it.

    Raises:
        ModelError: there is no such model, or it is one that nothing is made from.
    """
    path = Path(model)
    if path.suffix.lower() in (".engine", ".plan"):
        raise ModelError(f"{model}: is an engine already. Give the checkpoint, run folder or .onnx that it came from.")
    weights = bundled_weights().get(model)  # before folders of that name, as everywhere
    if path.exists() and weights is None:
        return checkpoint_path(path)
    if path.suffix.lower() == ".onnx":
        raise ModelError(f"No model file {model!r}. Give a checkpoint, a run folder, a .onnx or a bundled name.")
    if weights is not None and _torch_is_installed():
        return weights
    return resolve_model(model, flip=flip, task="detector" if model.startswith(DETECTOR) else "pose")


def name_of(model: str) -> str:
    """Return what files made from MODEL are called: a folder's own name, a file's without suffix."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else path.stem if path.is_file() else model


def _torch_is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None and find_spec("safetensors") is not None


def _load(path: Path) -> Checkpoint:
    require("torch", extra="train", why="Exporting a checkpoint")
    return load_checkpoint(path)
