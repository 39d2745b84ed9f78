"""From what a user calls a model (a bundled name, a file, a run's folder) to the exported file to open."""

import difflib
from pathlib import Path
from typing import Literal

from autopose.errors import BackendError, ModelError
from autopose.manifest import TASK_NAMES, Task, of_another_task
from autopose.runtime.first_use import engine_of, graph_of
from autopose.runtime.session import Device, Session, open_session
from autopose.zoo import zoo_folder

Backend = Literal["auto", "ort", "trt"]

_FLIP = "-flip"
#: What the files of bundled detectors begin with.
DETECTOR = "detector-"
_WEIGHTS = ".safetensors"
_EXPORTED = {".onnx": "ort", ".engine": "trt", ".plan": "trt"}


def bundled_models(task: Task = "pose", folder: Path | None = None) -> dict[str, Path]:
    """Return the models that came with the package: name -> ONNX graph without flip averaging.

    Args:
        task: ``pose`` or ``detector``; a detector's name lacks its prefix ``detector-``.
        folder: of another zoo, for tests.
    """
    folder = folder or zoo_folder()
    stems = {path.stem: path for path in sorted(folder.glob("*.onnx")) if not path.stem.endswith(_FLIP)}
    if task == "detector":
        return {stem.removeprefix(DETECTOR): path for stem, path in stems.items() if stem.startswith(DETECTOR)}
    return {stem: path for stem, path in stems.items() if not stem.startswith(DETECTOR)}


def resolve_model(
    name_or_path: str | Path,
    *,
    flip: bool = True,
    task: Task = "pose",
    backend: Backend = "auto",
    folder: Path | None = None,
) -> Path:
    """Return the exported file that a user means.

    Args:
        name_or_path: a bundled model's name, an exported file, a checkpoint, or a run's folder: the exported file that
            lies in it, else its best weights. Weights are exported to the cache.
        flip: which of the two graphs of a bundled pose model.
        task: what the model is for.
        backend: ``ort`` and ``trt`` refuse files of the other one.
        folder: of the bundled models, for tests.

    Raises:
        ModelError: there is no such model, or it is a checkpoint and torch is not installed, or of another task.
        BackendError: it is exported for another backend.
    """
    path = _find(str(name_or_path), flip=flip, task=task, folder=folder)
    kind = _EXPORTED[path.suffix.lower()]
    if backend not in ("auto", kind):
        wanted = "--trt -o model.engine" if backend == "trt" else "-o model.onnx"
        raise BackendError(
            f"Backend {backend!r} cannot open {str(path)!r}. Make a fitting file:\n"
            f"autopose export {name_or_path if kind == 'ort' else 'MODEL'} {wanted}"
        )
    return path


def _find(text: str, *, flip: bool, task: Task, folder: Path | None) -> Path:
    bundled = bundled_models(task, folder)
    name = text.removeprefix(DETECTOR) if task == "detector" else text
    if name in bundled:
        plain = bundled[name]
        return plain.with_name(f"{plain.stem}{_FLIP}.onnx") if flip and task == "pose" else plain
    path = Path(text)
    if path.is_dir():
        return _exported_in(path, flip=flip, task=task)
    if not path.is_file():
        near = difflib.get_close_matches(name, bundled, n=1)
        known = (
            f"did you mean {near[0]!r}?" if near else f"bundled: {', '.join(bundled) or 'none in this installation'}."
        )
        raise ModelError(f"No {TASK_NAMES[task]} {text!r}: neither a bundled name nor a file; {known}")
    if path.suffix.lower() == _WEIGHTS:
        return graph_of(path, flip=flip, task=task)
    if path.suffix.lower() not in _EXPORTED:
        raise ModelError(f"{text}: is no model. Expected .onnx, .engine, a checkpoint (.safetensors) or a run folder.")
    return path


def _exported_in(run: Path, *, flip: bool, task: Task) -> Path:
    """Return the run's exported file that fits, or the only one there is (which is then refused with its reason)."""
    shown = [path for path in run.iterdir() if not path.name.startswith(".")]  # macOS leaves ._NAME beside NAME
    files = sorted(path for path in shown if path.suffix.lower() == ".onnx")
    if not files:
        if not any(path.suffix.lower() == _WEIGHTS for path in shown):
            raise ModelError(f"{run}: this folder holds no model. Expected one that 'autopose train -o' wrote.")
        return graph_of(run, flip=flip, task=task)
    for path in files[:-1]:
        with open_session(path, device="cpu", threads=1) as session:
            if session.manifest.task == task and (task == "detector" or session.manifest.flip == flip):
                return path
    return files[-1]


def open_model(
    name_or_path: str | Path,
    *,
    flip: bool = True,
    task: Task = "pose",
    backend: Backend = "auto",
    device: Device = "auto",
    threads: int | None = None,
) -> Session:
    """Resolve and open a model, and check that it is for the task.

    Raises:
        ModelError: see :func:`resolve_model`; or the file is for another task.
        BackendError: the device or backend cannot be had.
    """
    path = resolve_model(name_or_path, flip=flip, task=task, backend="auto" if backend == "trt" else backend)
    if backend == "trt" and path.suffix.lower() == ".onnx":
        path = engine_of(path, task)
    session = open_session(path, device=device, threads=threads)
    if session.manifest.task != task:
        session.close()
        raise of_another_task(name_or_path, session.manifest.task, task)
    return session
