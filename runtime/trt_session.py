"""Models as TensorRT or TensorRT-RTX engines: pinned memory, one stream and one CUDA graph per batch size."""

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.errors import BackendError, MissingDependencyError, ModelError
from autopose.manifest import Manifest
from autopose.runtime.device_memory import Bytes, CapturedGraph, Cuda, open_cuda
from autopose.runtime.engine_sidecar import EngineSidecar, read_sidecar, require_fit
from autopose.runtime.gpu import gpu_here
from autopose.runtime.session import Session, buckets

log = logging.getLogger(__name__)


def bucket_for(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest bucket that holds ``count`` images."""
    return next(size for size in sizes if size >= count)


@dataclass
class _Bound:
    """A tensor of the engine: its device memory and the pinned memory beside it, for the largest batch."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # without the batch
    address: int
    host: Bytes

    def bytes_of(self, batch: int) -> Bytes:
        return self.host[: batch * self.dtype.itemsize * int(np.prod(self.shape))]

    def values_of(self, batch: int) -> NDArray[Any]:
        return self.bytes_of(batch).view(self.dtype).reshape(batch, *self.shape)


@dataclass
class _Bucket:
    """An execution context fixed to one batch size, and its graph once captured."""

    context: Any
    graph: CapturedGraph | None = None
    capturable: bool = True
    runs: int = 0


@dataclass
class _State:
    library: Any
    cuda: Cuda
    runtime: Any
    engine: Any
    stream: int
    images: _Bound
    outputs: list[_Bound]
    buckets: dict[int, _Bucket] = field(default_factory=dict)
    scratch: tuple[int, int] | None = None  # address and size of what all contexts compute in


class TrtSession(Session):
    """An engine on the first GPU. Several sessions run side by side, each on its own stream.

    Each batch size of :func:`buckets` has its own execution context and, from its second run on, its own CUDA graph:
    upload, network and download are launched as one. A batch in between runs in the next larger bucket. TensorRT-RTX
    records its graphs itself: it swaps faster kernels in as they are compiled, and a graph of ours would keep the slow
    ones.

    Args:
        path: ``.engine`` with its sidecar.
        graphs: use CUDA graphs.

    Raises:
        ModelError: the engine is damaged, or of another version or GPU than this machine's.
        MissingDependencyError: TensorRT or the CUDA package is not installed.
        BackendError: there is no GPU.
    """

    backend = "tensorrt"
    device = "cuda"
    threads = 1

    def __init__(self, path: Path, *, graphs: bool = True) -> None:
        sidecar = read_sidecar(path)
        trt = load_library(sidecar, path)
        gpu = gpu_here()
        require_fit(
            sidecar,
            path,
            version=trt.__version__,
            gpu=gpu.name if gpu else None,
            capability=gpu.capability if gpu else None,
        )
        super().__init__(path, sidecar.manifest)
        self.sidecar = sidecar
        self.max_batch = sidecar.batches[2]
        self.sizes = buckets(sidecar.batches[0], sidecar.batches[2])
        self.graphs = graphs
        self._rtx = sidecar.builder == "tensorrt_rtx"
        self._lock = Lock()
        if gpu is None:
            raise BackendError(f"{path}: a TensorRT engine runs on an NVIDIA GPU, and no driver or device is here.\n"
                               "Use the .onnx on the CPU, or see 'autopose doctor'.")  # fmt: skip
        memory = open_cuda()
        try:
            self._state = self._open(trt, memory, path, sidecar.manifest)
        except Exception:
            memory.close()
            raise
        finally:
            memory.leave()

    def _open(self, trt: Any, cuda: Cuda, path: Path, manifest: Manifest) -> _State:
        runtime = open_runtime(trt)
        if runtime is None:
            raise BackendError(
                f"{path}: {self.sidecar.builder} {trt.__version__} cannot start: the driver is older than its CUDA.\n"
                "Update the driver, or use the .onnx; 'autopose doctor' tells what is here."
            )
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise ModelError(
                f"{path}: {self.sidecar.builder} {trt.__version__} refuses the engine: it was built for another "
                f"version or GPU.\nBuild it again: {self.sidecar.rebuild or 'autopose export MODEL --trt'}"
            )
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if inputs != ["images"] or not set(manifest.outputs) <= set(names):
            raise ModelError(f"{path}: takes {inputs} and gives {names}; its sidecar promises ['images'] and "
                             f"{list(manifest.outputs)}. Build it again: {self.sidecar.rebuild}")  # fmt: skip

        def bind(name: str) -> _Bound:
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            shape = tuple(int(side) for side in engine.get_tensor_shape(name))[1:]
            size = int(np.prod(shape)) * dtype.itemsize * self.sizes[-1]
            return _Bound(name, dtype, shape, cuda.allocate(size), cuda.pinned(size))

        stream = cuda.stream()
        return _State(trt, cuda, runtime, engine, stream, bind("images"), [bind(name) for name in manifest.outputs])

    def _run(self, inputs: NDArray[np.uint8] | NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        count = len(inputs)
        size = bucket_for(count, self.sizes)
        state = self._state
        with self._lock:
            self.check_open()  # another thread may have closed it since
            state.cuda.enter()
            try:
                state.images.values_of(size)[:count] = inputs  # what is left of the bucket keeps older images
                bucket = state.buckets.get(size) or self._new_bucket(size)
                self._execute(bucket, size)
                state.cuda.synchronise(state.stream)
                return tuple(output.values_of(size)[:count].astype(np.float32) for output in state.outputs)
            finally:
                state.cuda.leave()

    def _new_bucket(self, size: int) -> _Bucket:
        state = self._state
        context = self._new_context()
        if context is None:
            raise BackendError(f"{self.path}: no GPU memory for batches of {size}. Give smaller batches.")
        accepted = context.set_input_shape("images", (size, *state.images.shape)) and all(
            context.set_tensor_address(bound.name, bound.address) for bound in (state.images, *state.outputs)
        )
        if not accepted:
            raise BackendError(
                f"{self.path}: TensorRT refuses batches of {size}. Build it again: {self.sidecar.rebuild}"
            )
        state.buckets[size] = _Bucket(context)
        return state.buckets[size]

    def _new_context(self) -> Any:
        state, trt = self._state, self._state.library
        if self._rtx:
            config = state.engine.create_runtime_config()
            if self.graphs:
                config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            return state.engine.create_execution_context(config)
        # A context would take the memory of the largest batch for itself. They run one after the other, and share it.
        if state.scratch is None:
            size = max(int(state.engine.device_memory_size_v2), 1)
            state.scratch = state.cuda.allocate(size), size
        context = state.engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is not None:
            context.set_device_memory(*state.scratch)
        return context

    def _execute(self, bucket: _Bucket, size: int) -> None:
        """Enqueue a run: the first plainly, which warms up; the second records the graph; then the graph."""
        if bucket.graph is None and self.graphs and not self._rtx and bucket.capturable and bucket.runs:
            try:
                bucket.graph = CapturedGraph(self._state.stream, lambda: self._enqueue(bucket, size))
            except BackendError as error:
                bucket.capturable = False
                log.info("%s: batches of %d run without a CUDA graph: %s", self.path, size, error)
        bucket.runs += 1
        if bucket.graph is not None:
            bucket.graph.launch()
        else:
            self._enqueue(bucket, size)

    def _enqueue(self, bucket: _Bucket, size: int) -> None:
        state = self._state
        state.cuda.upload(state.images.address, state.images.bytes_of(size), state.stream)
        if not bucket.context.execute_async_v3(state.stream):
            raise BackendError(f"{self.path}: TensorRT failed to run a batch of {size}.")
        for output in state.outputs:
            state.cuda.download(output.bytes_of(size), output.address, state.stream)

    def _close(self) -> None:
        with self._lock:
            state = self._state
            state.cuda.enter()
            try:
                state.cuda.synchronise(state.stream)
                while state.buckets:  # no name keeps a bucket's context alive beyond its engine
                    if (graph := state.buckets.popitem()[1].graph) is not None:
                        graph.close()
                state.engine = state.runtime = None  # contexts, then engine, then runtime
                state.cuda.close()
            finally:
                state.cuda.leave()


def open_runtime(trt: Any) -> Any:
    """Return TensorRT's runtime; None where it cannot start, as on a driver that is too old for it."""
    try:
        return trt.Runtime(trt.Logger(trt.Logger.ERROR))
    except TypeError:  # pybind's way of saying that the constructor returned a null pointer
        return None


def load_library(sidecar: EngineSidecar, path: Path) -> Any:
    """Import the library that built an engine.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module(sidecar.builder)
    except (ImportError, OSError) as error:
        extra = "trt" if sidecar.builder == "tensorrt" else "trt-rtx"
        cause = str(error).splitlines()[0]
        raise MissingDependencyError(
            f"{path}: this engine needs {sidecar.builder}, which could not be imported ({cause}).\n"
            f'Install it with: pip install "autopose[{extra}]", or use the .onnx.'
        ) from None
