"""The little of CUDA that a TensorRT session needs, behind one seam with two implementations: pycuda, cuda-python.

Addresses and streams are plain integers, as TensorRT takes them. CUDA graphs go through the driver library itself,
which both implementations share: pycuda does not wrap stream capture.
"""

import ctypes
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.errors import BackendError, MissingDependencyError
from autopose.runtime.gpu import driver_library

Bytes = NDArray[np.uint8]


class Cuda(ABC):
    """Memory, copies and streams of the first GPU; used from one thread at a time."""

    name: str

    @abstractmethod
    def enter(self) -> None:
        """Make the GPU's primary context current in the calling thread."""

    @abstractmethod
    def leave(self) -> None:
        """Undo the last :meth:`enter` of this thread."""

    @abstractmethod
    def stream(self) -> int:
        """Return a new stream that does not wait for the legacy default stream."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes of device memory."""

    @abstractmethod
    def pinned(self, size: int) -> Bytes:
        """Return ``size`` bytes of page-locked host memory, which the copies below need to run alongside kernels."""

    @abstractmethod
    def upload(self, address: int, host: Bytes, stream: int) -> None:
        """Enqueue a copy of all of ``host`` to the device."""

    @abstractmethod
    def download(self, host: Bytes, address: int, stream: int) -> None:
        """Enqueue a copy from the device that fills ``host``."""

    @abstractmethod
    def synchronise(self, stream: int) -> None:
        """Wait until all work of a stream is done."""

    @abstractmethod
    def close(self) -> None:
        """Free everything that was handed out."""


class CudaPython(Cuda):
    """By ``cuda.bindings.runtime`` of the cuda-python packages."""

    name = "cuda-python"

    def __init__(self) -> None:
        self.runtime: Any = importlib.import_module("cuda.bindings.runtime")
        self._streams: list[int] = []
        self._device: list[int] = []
        self._pinned: list[int] = []
        self.enter()

    def _call(self, function: str, *arguments: Any) -> Any:
        status, *values = getattr(self.runtime, function)(*arguments)
        if int(status):
            _, text = self.runtime.cudaGetErrorString(status)
            message = text.decode() if isinstance(text, bytes) else str(text)
            raise BackendError(f"CUDA: {function} failed: {message}.")
        return values[0] if values else None

    def enter(self) -> None:
        self._call("cudaSetDevice", 0)  # the primary context becomes current in this thread

    def leave(self) -> None:
        return

    def stream(self) -> int:
        self._streams.append(int(self._call("cudaStreamCreateWithFlags", self.runtime.cudaStreamNonBlocking)))
        return self._streams[-1]

    def allocate(self, size: int) -> int:
        self._device.append(int(self._call("cudaMalloc", size)))
        return self._device[-1]

    def pinned(self, size: int) -> Bytes:
        self._pinned.append(int(self._call("cudaMallocHost", size)))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self._pinned[-1]))

    def upload(self, address: int, host: Bytes, stream: int) -> None:
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, host.ctypes.data, host.nbytes, kind, stream)

    def download(self, host: Bytes, address: int, stream: int) -> None:
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, address, host.nbytes, kind, stream)

    def synchronise(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def close(self) -> None:
        self.enter()
        for release, handles in (
            ("cudaStreamDestroy", self._streams),
            ("cudaFree", self._device),
            ("cudaFreeHost", self._pinned),
        ):
            while handles:
                self._call(release, handles.pop())


class PyCuda(Cuda):
    """By ``pycuda.driver``, in the device's primary context, which TensorRT uses as well."""

    name = "pycuda"

    def __init__(self) -> None:
        self.driver: Any = importlib.import_module("pycuda.driver")
        self.driver.init()
        self.context: Any = self.driver.Device(0).retain_primary_context()
        self._streams: dict[int, Any] = {}
        self._device: list[Any] = []
        self._pinned: list[Any] = []
        self.enter()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self.driver.Error as error:
            raise BackendError(f"CUDA: {str(error).splitlines()[0]}.") from None

    def enter(self) -> None:
        self.context.push()

    def leave(self) -> None:
        self.context.pop()

    def stream(self) -> int:
        stream = self._call(self.driver.Stream, 1)  # CU_STREAM_NON_BLOCKING
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def allocate(self, size: int) -> int:
        self._device.append(self._call(self.driver.mem_alloc, size))
        return int(self._device[-1])

    def pinned(self, size: int) -> Bytes:
        self._pinned.append(self._call(self.driver.pagelocked_empty, size, np.uint8))
        return np.asarray(self._pinned[-1])

    def upload(self, address: int, host: Bytes, stream: int) -> None:
        self._call(self.driver.memcpy_htod_async, address, host, self._streams[stream])

    def download(self, host: Bytes, address: int, stream: int) -> None:
        self._call(self.driver.memcpy_dtoh_async, host, address, self._streams[stream])

    def synchronise(self, stream: int) -> None:
        self._call(self._streams[stream].synchronize)

    def close(self) -> None:
        for memory in (*(array.base for array in self._pinned), *self._device):  # whoever still has the arrays
            self._call(memory.free)
        self._pinned.clear()
        self._device.clear()
        self._streams.clear()


def open_cuda(which: str | None = None) -> Cuda:
    """Open the GPU through pycuda if it is installed, else through cuda-python.

    Args:
        which: ``pycuda`` or ``cuda-python`` insists.

    Raises:
        MissingDependencyError: neither (or not the one asked for) can be imported.
        BackendError: there is no GPU or driver.
    """
    failures = []
    for implementation in (PyCuda, CudaPython):
        if which not in (None, implementation.name):
            continue
        try:
            return implementation()
        except ImportError as error:
            failures.append(f"{implementation.name}: {str(error).splitlines()[0]}")
        except BackendError:
            raise
        except Exception as error:  # noqa: BLE001  (pycuda and cuda-python raise classes of their own)
            raise BackendError(
                f"{implementation.name} finds no usable GPU ({str(error).splitlines()[0]}). See 'autopose doctor'."
            ) from None
    raise MissingDependencyError(
        f"A TensorRT engine needs pycuda or cuda-python ({'; '.join(failures)}).\n"
        'Install one with: pip install cuda-python (or "autopose[pycuda]")'
    )


class CapturedGraph:
    """Work of a stream, recorded once and launched as a whole (CUDA graph).

    Args:
        stream: where the work is recorded and launched.
        record: enqueues the work; must not allocate or synchronise.
        driver: the CUDA driver library; None: this machine's.

    Raises:
        BackendError: the work cannot be captured.
    """

    _RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: other threads may go on allocating meanwhile

    def __init__(self, stream: int, record: Callable[[], None], driver: Any = None) -> None:
        self._driver = driver if driver is not None else driver_library()
        if self._driver is None:
            raise BackendError("CUDA graph: there is no NVIDIA driver on this machine. See 'autopose doctor'.")
        self._stream = ctypes.c_void_p(stream)
        self._graph, self._launchable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(self._RELAXED))
        try:
            record()
        finally:  # a stream that is left capturing could not be used again
            status = self._driver.cuStreamEndCapture(self._stream, ctypes.byref(self._graph))
        if status or not self._graph.value:
            raise BackendError(f"CUDA graph: the work could not be captured (driver error {status}).")
        self._call(
            "cuGraphInstantiateWithFlags", ctypes.byref(self._launchable), self._graph, ctypes.c_ulonglong(0)
        )  # fmt: skip

    def _call(self, function: str, *arguments: Any) -> None:
        if status := getattr(self._driver, function)(*arguments):
            raise BackendError(f"CUDA graph: {function} failed (driver error {status}).")

    def launch(self) -> None:
        """Enqueue the recorded work."""
        self._call("cuGraphLaunch", self._launchable, self._stream)

    def close(self) -> None:
        """Free the graph."""
        if self._launchable.value:
            self._driver.cuGraphExecDestroy(self._launchable)
        if self._graph.value:
            self._driver.cuGraphDestroy(self._graph)
        self._graph, self._launchable = ctypes.c_void_p(), ctypes.c_void_p()
