"""``Session``, an opened model on one backend, and ``open_session``, which chooses the backend by the file's suffix."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from autopose.errors import BackendError, ModelError
from autopose.manifest import Manifest

Device = Literal["auto", "cpu", "cuda"]


class Session(ABC):
    """An exported model, ready to run: the only thing that differs between backends.

    A context manager; ``close()`` may be called more than once. ``run`` may be called from several threads at once.

    Attributes:
        manifest: what the model expects and gives.
        path: the file.
        backend: ``onnxruntime`` or ``tensorrt``.
        device: ``cpu`` or ``cuda``, the one in use.
        threads: CPU threads of one ``run``.
        max_batch: the largest N of one ``run``; None for any.
    """

    backend: str
    device: str
    threads: int
    max_batch: int | None = None

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.closed = False

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Run the model on a batch.

        Args:
            images: ``(N, h, w, 3)`` uint8, BGR, of the manifest's input size; not modified.

        Returns:
            The outputs in the manifest's order, owned by the caller.

        Raises:
            BackendError: the session is closed or the batch has the wrong type, shape or length.
        """
        self.check_open()
        width, height = self.manifest.codec.input_size_wh
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, 3) or not len(images):
            raise BackendError(
                f"{self.path}: got images {images.shape} {images.dtype}; "
                f"expected (N, {height}, {width}, 3) uint8, N > 0."
            )
        if self.max_batch is not None and len(images) > self.max_batch:
            raise BackendError(
                f"{self.path}: got a batch of {len(images)}; this engine takes at most {self.max_batch}.\n"
                "Give smaller batches or export with a larger --batch."
            )
        return self._run(images if self.manifest.io == "uint8" else normalised(images, self.manifest))

    @abstractmethod
    def _run(self, inputs: NDArray[np.uint8] | NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Run the graph on its own input: uint8 NHWC BGR, or what :func:`normalised` makes, by ``manifest.io``."""

    def check_open(self) -> None:
        """Raise a BackendError if the session is closed."""
        if self.closed:
            raise BackendError(f"{self.path}: the session is closed. Open the model again with open_session().")

    def close(self) -> None:
        """Free the model; further calls of ``run`` are refused."""
        if not self.closed:
            self.closed = True
            self._close()

    @abstractmethod
    def _close(self) -> None:
        """Free what the backend holds; called once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        width, height = self.manifest.codec.input_size_wh
        return f"Session({self.path.name}, {self.manifest.task} {width}x{height}, {self.backend} on {self.device})"


def normalised(images: NDArray[np.uint8], manifest: Manifest) -> NDArray[np.float32]:
    """Return ``(N, 3, H, W)`` float32 RGB, ``(value / 255 - mean) / std``: the input of graphs with ``io = plain``."""
    rgb = images[..., ::-1].astype(np.float32)
    scaled = rgb * (1 / (255 * np.array(manifest.std, np.float32))) - np.array(manifest.mean, np.float32) / manifest.std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def buckets(smallest: int, largest: int) -> list[int]:
    """Return the batch sizes that a GPU makes itself ready for: powers of two between the two, and these."""
    powers = [1 << power for power in range(largest.bit_length()) if smallest <= 1 << power <= largest]
    return sorted({smallest, *powers, largest})


def open_session(path: str | Path, *, device: Device = "auto", threads: int | None = None) -> Session:
    """Open an exported model.

    Args:
        path: ``.onnx`` (ONNX Runtime) or ``.engine`` (TensorRT).
        device: ``auto`` takes CUDA where a GPU and its libraries are, else the CPU; ``cuda`` insists.
        threads: CPU threads of one ``run``; None for as many as the process may use.

    Raises:
        ModelError: there is no such file, or it is not an autopose model.
        BackendError: the device cannot be had or no backend opens the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"No model file {str(path)!r}. Give an exported model, or a name from 'autopose models'.")
    match path.suffix.lower():
        case ".onnx":
            from autopose.runtime.ort_session import OrtSession

            return OrtSession(path, device=device, threads=threads)
        case ".engine" | ".plan":
            if device == "cpu":
                raise BackendError(
                    f"{path}: a TensorRT engine runs on a GPU only. Leave out the device, or give a .onnx."
                )
            from autopose.runtime.trt_session import TrtSession

            return TrtSession(path)
        case suffix:
            raise BackendError(
                f"No backend opens {str(path)!r}: its suffix is {suffix!r}.\n"
                "Known: .onnx (ONNX Runtime), .engine (TensorRT). Checkpoints become one by 'autopose export'."
            )
