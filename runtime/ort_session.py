"""Models on ONNX Runtime, on the CPU or on CUDA, never on another device than the one that is reported."""

import ctypes
import logging
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from autopose.errors import AutoposeError, BackendError, ModelError
from autopose.manifest import METADATA_KEY, Manifest
from autopose.runtime.gpu import devices, driver_library
from autopose.runtime.ort_binding import BoundModel, DeviceArray
from autopose.runtime.session import Device, Session

log = logging.getLogger(__name__)

#: What ONNX Runtime raises for a file that it cannot use; these share no base class of their own.
_ERROR_NAMES = (
    *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile"),
    *("NotImplemented", "RuntimeException"),
)
ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(ort_errors, name) for name in _ERROR_NAMES if hasattr(ort_errors, name)
)


#: Sessions that are open.
_open: "WeakSet[onnxruntime.InferenceSession]" = WeakSet()


def _keep_inherited() -> None:
    """Never free what a forked process got from its parent: ONNX Runtime would wait for threads that stayed there.

    A web server that opens its estimator before it forks its workers (``gunicorn --preload``) could not end them.
    """
    for session in _open:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_inherited)


#: Session option: QuantizeLinear and DequantizeLinear stay what they are, and what lies between computes in FP32.
WITHOUT_INTEGERS = "session.disable_quant_qdq"


def usable_cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cuda_driver_present() -> bool:
    """Tell whether an NVIDIA driver with at least one device answers."""
    return devices(driver_library()) > 0


def open_ort(
    path: Path, *, device: Device, threads: int, whole: bool = False, integers: bool = True
) -> onnxruntime.InferenceSession:
    """Open any ONNX file on exactly the device that was asked for.

    Args:
        path: ONNX file.
        device: see :func:`autopose.runtime.session.open_session`.
        threads: CPU threads of one run.
        whole: refuse a graph of which ONNX Runtime would leave single nodes to the CPU beside CUDA.
        integers: compute INT8 layers with integers; if not, with their rounded values in FP32.

    Raises:
        ModelError: ONNX Runtime cannot load it.
        BackendError: CUDA was asked for and is not to be had. ONNX Runtime itself would go on, on the CPU.
    """
    wants_cuda = device == "cuda" or (device == "auto" and cuda_driver_present())
    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if wants_cuda and available and hasattr(onnxruntime, "preload_dlls"):
        _preload_cuda(onnxruntime.preload_dlls)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a missing CUDA library is reported below, as an error and not as a log line
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that waits for its share by spinning takes a core away from decoding, drawing and encoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not integers:
        options.add_session_config_entry(WITHOUT_INTEGERS, "1")
    if whole and wants_cuda and available:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = providers_for(cuda=wants_cuda and available, whole=whole)
    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except ORT_ERRORS as error:
        raise ModelError(
            f"{path}: ONNX Runtime cannot load it: {_last_sentence(error)}\n"
            "The file is damaged or not an ONNX model: export it again with 'autopose export'."
        ) from None
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default; it cannot be asked for
    if wants_cuda and "CUDAExecutionProvider" not in session.get_providers():
        cause = "its CUDA libraries could not be loaded" if available else "this ONNX Runtime was built without CUDA"
        mend = 'pip install "autopose[gpu]"' if available else "onnxruntime-gpu is for Linux and Windows on x86-64"
        if device == "cuda":
            raise BackendError(
                f"{path}: device 'cuda' was asked for, but {cause}; ONNX Runtime would run on the CPU.\n"
                f"To have it: {mend}; see 'autopose doctor', or give --device cpu."
            )
        log.warning("A GPU is present, but %s: running on the CPU (%s).", cause, mend)
    _open.add(session)
    return session


def providers_for(*, cuda: bool, whole: bool) -> list[str | tuple[str, dict[str, str]]]:
    """Return the providers to name. ONNX Runtime refuses to have the CPU's named where no node may fall back to it.

    A whole graph computes places, which TF32, ONNX Runtime's default from Ampere on, would round to 10 bits: crops of a
    4K frame would lie a pixel of it beside their boxes.
    """
    if not cuda:
        return ["CPUExecutionProvider"]
    if whole:
        return [("CUDAExecutionProvider", {"use_tf32": "0"})]
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@cache
def _preload_cuda(preload: Callable[[], None]) -> None:
    """Load the libraries of the nvidia wheels (extra "gpu") and of torch, and log what ONNX Runtime prints about it.

    Standard output is for results; what is missing, an error says anyway.
    """
    with redirect_stdout(StringIO()) as printed:
        preload()
    for line in filter(None, printed.getvalue().splitlines()):
        log.debug("ONNX Runtime: %s", line)


def _last_sentence(error: Exception) -> str:
    """Return ONNX Runtime's message without its code and the file's name."""
    text = str(error).rpartition("failed:")[2] or str(error)
    return text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__


class OrtSession(Session):
    """A model on ONNX Runtime.

    Args:
        path: ONNX file with a manifest in its metadata.
        device: see :func:`autopose.runtime.session.open_session`.
        threads: CPU threads of one ``run``; None for all cores that the process may use.
        integers: see :func:`open_ort`.
    """

    backend = "onnxruntime"

    def __init__(
        self, path: Path, *, device: Device = "auto", threads: int | None = None, integers: bool = True
    ) -> None:
        self.threads = usable_cores() if threads is None else max(1, threads)
        self._integers = integers
        self._session: Any = open_ort(path, device=device, threads=self.threads, integers=integers)
        self._file = _file_state(path)
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        super().__init__(path, Manifest.from_json(text, str(path)))
        self.device = "cuda" if "CUDAExecutionProvider" in self._session.get_providers() else "cpu"
        inputs = [item.name for item in self._session.get_inputs()]
        outputs = {item.name for item in self._session.get_outputs()}
        if inputs != ["images"] or not set(self.manifest.outputs) <= outputs:
            raise ModelError(
                f"{path}: takes {inputs} and gives {sorted(outputs)}; its manifest promises ['images'] and "
                f"{sorted(self.manifest.outputs)}.\nThe graph was changed after its export: export it again."
            )
        shapes = {item.name: item.shape[1:] for item in self._session.get_outputs()}
        self._require_shapes(self._session.get_inputs()[0].shape, shapes)
        self._shapes: dict[str, list[int]] = {name: shapes[name] for name in self.manifest.outputs}
        self._fixed = _fixed(self._shapes)
        self._bound: dict[int, BoundModel] = {}
        self._lock = Lock()

    def _require_shapes(self, images: list[int | str], outputs: dict[str, list[int | str]]) -> None:
        """Refuse a graph whose input or outputs are not those of its manifest; named sides may be anything.

        Raises:
            ModelError: it is so.
        """
        manifest = self.manifest
        width, height = manifest.codec.input_size_wh
        expected: dict[str, list[int | None]] = {
            "images": [height, width, 3] if manifest.io == "uint8" else [3, height, width]
        }
        if manifest.task == "pose":
            if len(manifest.outputs) != 1:
                raise ModelError(f"{self.path}: its manifest names the outputs {manifest.outputs}; expected one.")
            joints = len(manifest.keypoint_skeleton)
            columns, rows = manifest.codec.heatmap_size_wh
            expected |= dict.fromkeys(manifest.outputs, [joints, 3] if manifest.decode else [joints, rows, columns])
        else:
            expected |= dict(zip(manifest.outputs, ([None, 4], [None]), strict=False))
        for name, sides in expected.items():
            found = images[1:] if name == "images" else outputs[name]
            fits = len(found) == len(sides) and all(
                side is None or not isinstance(there, int) or there == side
                for side, there in zip(sides, found, strict=True)
            )
            if not fits:
                raise ModelError(
                    f"{self.path}: {name!r} is {found} per image; its manifest promises {sides}.\n"
                    "The graph or its manifest was changed after the export: export it again."
                )

    def _run(self, inputs: NDArray[np.uint8] | NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        if self.device == "cuda" and self._fixed:
            return self._run_bound(inputs)
        try:
            outputs = self._session.run(list(self.manifest.outputs), {"images": np.ascontiguousarray(inputs)})
        except ORT_ERRORS as error:
            raise self._failure(inputs.shape, error) from None
        return tuple(np.asarray(output, np.float32) for output in outputs)

    def bucket(self, count: int) -> int:
        """Return the batch size in which ``count`` images run: on CUDA the next power of two.

        Since 1.20, ONNX Runtime's convolutions keep their plan for one shape only, and make it anew, in a tenth of a
        second for all of a network, whenever another shape comes (onnxruntime#23006): with every frame in which another
        number of persons is. So there are few shapes, and each has a session of its own.
        """
        return 1 << (count - 1).bit_length() if self.device == "cuda" else count

    def run_from_device(self, images: DeviceArray) -> tuple[NDArray[np.float32], ...]:
        """Run on a batch ``(N, h, w, 3)`` uint8 that lies in the memory of the session's device already.

        Args:
            images: N is a :meth:`bucket`.

        Raises:
            BackendError: the session is closed, or a side of an output changes from run to run.
        """
        self.check_open()
        return self._run_bound(images)

    def _run_bound(
        self, images: NDArray[np.uint8] | NDArray[np.float32] | DeviceArray
    ) -> tuple[NDArray[np.float32], ...]:
        """Run from and into memory of the device: up goes the batch (if it is not there), down come the outputs."""
        if not self._fixed:
            raise BackendError(f"{self.path}: its outputs {self._shapes} are not of one size. Export the model again.")
        count = images.shape[0]
        size = self.bucket(count)
        with self._lock:  # the memory is shared by all runs
            self.check_open()  # another thread may have closed it since
            try:
                bound = self._bound_for(size)
                given = images if isinstance(images, DeviceArray) else bound.upload("images", filled(images, size))
                outputs = [
                    bound.allocate(name, (size, *self._shapes[name]), np.float32) for name in self.manifest.outputs
                ]
                bound.run({"images": given}, dict(zip(self.manifest.outputs, outputs, strict=True)))
                return tuple(output.download()[:count] for output in outputs)
            except ORT_ERRORS as error:
                raise self._failure(images.shape, error) from None

    def _bound_for(self, size: int) -> BoundModel:
        """Return what runs batches of this size (see :meth:`bucket`)."""
        key = size if self.device == "cuda" else 0
        if key not in self._bound:
            self._bound[key] = BoundModel(self._another() if self._bound else self._session, self.device)
        return self._bound[key]

    def _another(self) -> Any:
        """Return a session for one more batch size; the first one, slower, where the file is gone or another since."""
        try:
            if _file_state(self.path) == self._file:
                return open_ort(self.path, device="cuda", threads=self.threads, integers=self._integers)
            cause = "the file has changed since it was opened"
        except (AutoposeError, OSError) as error:  # no memory for it, for instance
            cause = str(error).splitlines()[0]
        log.warning("%s: batches of several sizes share a session, which is slow: %s.", self.path, cause.rstrip("."))
        return self._session

    def _failure(self, shape: tuple[int, ...], error: Exception) -> BackendError:
        return BackendError(f"{self.path}: ONNX Runtime failed on {shape}: {_last_sentence(error)}")

    def _close(self) -> None:
        with self._lock:
            self._session, self._bound = None, {}  # ONNX Runtime frees a session when nothing refers to it


def _file_state(path: Path) -> tuple[int, int, int]:
    """Return what is another after a file was replaced."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def filled(batch: NDArray[Any], size: int) -> NDArray[Any]:
    """Return a batch of ``size``: what it lacks are copies of its last entry."""
    return batch if len(batch) == size else np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def _fixed(shapes: dict[str, list[int]]) -> bool:
    return all(isinstance(side, int) for shape in shapes.values() for side in shape)
