"""The TensorRT session's own logic on a painted TensorRT and host memory; the real ones under the ``gpu`` mark.

What is faked is the interface alone (names, shapes, addresses, streams); its network gives the mean brightness.
"""

import ctypes
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autopose.errors import BackendError, MissingDependencyError, ModelError
from autopose.heatmap import Codec
from autopose.manifest import Manifest
from autopose.runtime import trt_session
from autopose.runtime.device_memory import Bytes, CapturedGraph, Cuda, open_cuda
from autopose.runtime.engine_sidecar import Builder, EngineSidecar, sha256_of
from autopose.runtime.gpu import Gpu
from autopose.runtime.session import buckets, open_session
from autopose.runtime.trt_session import TrtSession, bucket_for

JOINTS, HEIGHT, WIDTH = 17, 64, 32


class HostCuda(Cuda):
    """Device memory that is host memory; streams do everything at once."""

    name = "host"

    def __init__(self) -> None:
        self.memory: dict[int, Bytes] = {}
        self.depth = 0
        self.closed = False
        self.copied = 0

    def enter(self) -> None:
        self.depth += 1

    def leave(self) -> None:
        self.depth -= 1

    def stream(self) -> int:
        return 7

    def allocate(self, size: int) -> int:
        array = np.zeros(size, np.uint8)
        self.memory[array.ctypes.data] = array
        return array.ctypes.data

    def pinned(self, size: int) -> Bytes:
        return np.zeros(size, np.uint8)

    def upload(self, address: int, host: Bytes, stream: int) -> None:
        self.memory[address][: host.nbytes] = host
        self.copied += host.nbytes

    def download(self, host: Bytes, address: int, stream: int) -> None:
        host[:] = self.memory[address][: host.nbytes]
        self.copied += host.nbytes

    def synchronise(self, stream: int) -> None:
        return

    def close(self) -> None:
        self.closed = True


class Context:
    """Writes the mean brightness of each image into all its keypoints."""

    strategy: Any = None
    largest = 12

    def __init__(self, cuda: HostCuda) -> None:
        self.cuda = cuda
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.memory = (0, 0)
        self.runs = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        self.memory = memory, size

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] <= self.largest

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.runs += 1
        batch = self.shape[0]
        images = self.cuda.memory[self.addresses["images"]][: int(np.prod(self.shape))].reshape(batch, -1)
        keypoints = self.cuda.memory[self.addresses["keypoints"]].view(np.float32)[: batch * JOINTS * 3]
        keypoints.reshape(batch, -1)[:] = images.astype(np.float32).mean(-1, keepdims=True)
        return True


def painted_tensorrt(cuda: HostCuda, contexts: list[Context]) -> Any:
    shapes = {"images": (-1, HEIGHT, WIDTH, 3), "keypoints": (-1, JOINTS, 3)}

    def create_execution_context(strategy: Any) -> Context:
        contexts.append(Context(cuda))
        contexts[-1].strategy = strategy
        return contexts[-1]

    engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=list(shapes).__getitem__,
        get_tensor_mode=lambda name: "in" if name == "images" else "out",
        get_tensor_dtype=lambda name: np.uint8 if name == "images" else np.float32,
        get_tensor_shape=shapes.__getitem__,
        create_execution_context=create_execution_context,
        create_runtime_config=lambda: SimpleNamespace(cuda_graph_strategy="disabled"),
        device_memory_size_v2=4096,
    )

    class Logger:
        ERROR = 1

        def __init__(self, level: int) -> None:
            return

    return SimpleNamespace(
        __version__="11.4.0",
        Logger=Logger,
        Runtime=lambda logger: SimpleNamespace(
            deserialize_cuda_engine=lambda plan: engine if plan == b"a plan" else None
        ),
        TensorIOMode=SimpleNamespace(INPUT="in"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
        CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"),
        nptype=lambda dtype: dtype,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_engine(tmp_path, b"a plan")


def write_engine(folder: Path, plan: bytes, builder: Builder = "tensorrt") -> Path:
    path = folder / "model.engine"
    path.write_bytes(plan)
    EngineSidecar(
        manifest=Manifest(codec=Codec(input_size_wh=(WIDTH, HEIGHT)), precision="fp16"),
        builder=builder,
        builder_version="11.4.0",
        onnx_sha256="0" * 64,
        engine_sha256=sha256_of(path),
        batches=(1, 4, 12),
        gpu="Painted",
        compute_capability="8.9",
        half_share=1.0,
        rebuild="autopose export default --trt",
    ).save(path)
    return path


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> tuple[HostCuda, list[Context]]:
    cuda, contexts = HostCuda(), []  # type: ignore[var-annotated]
    for library in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, library, painted_tensorrt(cuda, contexts))
    monkeypatch.setattr(trt_session, "gpu_here", lambda: Gpu("Painted", "8.9", "13.0", 24.0))

    def open_painted() -> HostCuda:
        cuda.enter()
        return cuda

    monkeypatch.setattr(trt_session, "open_cuda", open_painted)
    return cuda, contexts


def test_every_batch_has_a_bucket_that_holds_it() -> None:
    assert buckets(1, 64) == [1, 2, 4, 8, 16, 32, 64]
    assert buckets(1, 12) == [1, 2, 4, 8, 12]
    assert buckets(3, 20) == [3, 4, 8, 16, 20]
    assert buckets(1, 1) == [1]
    sizes = buckets(1, 12)
    assert [bucket_for(count, sizes) for count in range(1, 13)] == [1, 2, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12]


def test_batches_run_in_buckets_and_come_back_whole(
    engine: Path, painted: tuple[HostCuda, list[Context]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, contexts = painted
    launched = []

    class Graph:
        def __init__(self, stream: int, record: Any) -> None:
            self.record = record
            record()  # the painted stream does not record: the real one would not run it here

        def launch(self) -> None:
            launched.append(1)
            self.record()

        def close(self) -> None:
            launched.append(-1)

    monkeypatch.setattr(trt_session, "CapturedGraph", Graph)
    rng = np.random.default_rng(0)
    with open_session(engine) as session:
        assert (session.backend, session.device, session.max_batch) == ("tensorrt", "cuda", 12)
        for count in (3, 1, 3, 4, 12, 3):
            images = rng.integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
            (keypoints,) = session.run(images)
            assert keypoints.shape == (count, JOINTS, 3)
            assert keypoints.dtype == np.float32
            expected = np.broadcast_to(images.reshape(count, -1).mean(-1)[:, None, None], keypoints.shape)
            np.testing.assert_allclose(keypoints, expected, rtol=1e-5)
        assert sorted(context.shape[0] for context in contexts) == [1, 4, 12]  # 3 shares with 4
        assert sum(launched) == 3  # the second and later runs of the bucket of 4
        first = session.run(images[:1])[0]
        session.run(images[1:2])
        assert first[0, 0, 0] == pytest.approx(images[0].mean(), rel=1e-5)  # owned by the caller
        with pytest.raises(BackendError, match="at most 12"):
            session.run(np.zeros((13, HEIGHT, WIDTH, 3), np.uint8))
    assert cuda.closed
    assert cuda.depth == 0  # every enter has its leave
    with pytest.raises(BackendError, match="closed"):
        session.run(images)
    session.close()


def test_a_run_that_waited_for_another_meets_a_session_closed_meanwhile(
    engine: Path, painted: tuple[HostCuda, list[Context]]
) -> None:
    errors: list[BaseException] = []
    started = threading.Event()

    def run() -> None:
        started.set()
        try:
            session.run(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))
        except BackendError as error:
            errors.append(error)

    with TrtSession(engine) as session:
        with session._lock:
            thread = threading.Thread(target=run)
            thread.start()
            started.wait()
            time.sleep(0.2)  # it waits for the lock now
            session.closed = True
        thread.join()
        session.closed = False
    assert len(errors) == 1
    assert "closed" in str(errors[0])


def test_goes_on_without_a_graph_where_capture_fails(
    engine: Path, painted: tuple[HostCuda, list[Context]], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def refuse(stream: int, record: Any) -> Any:
        attempts.append(1)
        raise BackendError("CUDA graph: not capturable")

    monkeypatch.setattr(trt_session, "CapturedGraph", refuse)
    images = np.full((2, HEIGHT, WIDTH, 3), 9, np.uint8)
    with TrtSession(engine) as session:
        for _ in range(4):
            assert session.run(images)[0].max() == 9
    assert len(attempts) == 1


def test_refuses_engines_that_cannot_run_here(
    tmp_path: Path, painted: tuple[HostCuda, list[Context]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_engine(tmp_path, b"another plan")
    with pytest.raises(ModelError, match="refuses the engine"):
        TrtSession(other)
    assert painted[0].closed
    monkeypatch.setattr(trt_session, "gpu_here", lambda: None)
    with pytest.raises(BackendError, match="runs on an NVIDIA GPU"):
        TrtSession(other)
    monkeypatch.setattr(trt_session, "gpu_here", lambda: Gpu("Other", "8.6", "13.0", 8.0))
    with pytest.raises(ModelError, match="this GPU is Other"):
        TrtSession(other)


def test_the_contexts_share_their_memory(engine: Path, painted: tuple[HostCuda, list[Context]]) -> None:
    """Each would take what the largest batch needs, and only one of them runs at a time."""
    cuda, contexts = painted
    with TrtSession(engine) as session:
        for count in (1, 4, 12):
            session.run(np.zeros((count, HEIGHT, WIDTH, 3), np.uint8))
        assert [context.strategy for context in contexts] == ["user"] * 3
        ((address, size),) = {context.memory for context in contexts}
        assert size == 4096 == len(cuda.memory[address])


def test_rtx_engines_record_their_graphs_themselves(
    tmp_path: Path, painted: tuple[HostCuda, list[Context]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They swap kernels in while they run (LAZY, the default): a graph recorded meanwhile would keep the slow ones."""

    def refuse(stream: int, record: Any) -> Any:
        raise AssertionError("a graph was recorded")

    monkeypatch.setattr(trt_session, "CapturedGraph", refuse)
    path = write_engine(tmp_path, b"a plan", "tensorrt_rtx")
    images = np.full((2, HEIGHT, WIDTH, 3), 9, np.uint8)
    for graphs, expected in ((True, "whole"), (False, "disabled")):
        with TrtSession(path, graphs=graphs) as session:
            for _ in range(3):
                assert session.run(images)[0].max() == 9
        assert painted[1].pop().strategy.cuda_graph_strategy == expected


def test_says_what_tensorrt_refuses(
    engine: Path, painted: tuple[HostCuda, list[Context]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def null_pointer(logger: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with TrtSession(engine) as session:
        monkeypatch.setattr(Context, "largest", 4)
        with pytest.raises(BackendError, match="refuses batches of 12"):
            session.run(np.zeros((12, HEIGHT, WIDTH, 3), np.uint8))
    monkeypatch.setattr(sys.modules["tensorrt"], "Runtime", null_pointer)
    with pytest.raises(BackendError, match=r"(?s)tensorrt 11\.4\.0 cannot start.*Update the driver"):
        TrtSession(engine)
    assert painted[0].depth == 0


def test_pycuda_errors_are_sentences_and_pinned_memory_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Error(Exception):
        """As ``pycuda._driver.Error``."""

    class Allocation:
        """Holds what :func:`pagelocked_empty` returns, as its ``base``."""

        freed = 0

        def __init__(self, size: int) -> None:
            self.held = np.zeros(size, np.uint8)
            self.__array_interface__ = self.held.__array_interface__

        def free(self) -> None:
            Allocation.freed += 1

    def fail(*arguments: Any) -> Any:
        raise Error("cuMemcpyHtoDAsync failed: operation not permitted when stream is capturing")

    context = SimpleNamespace(push=lambda: None, pop=lambda: None)
    driver = SimpleNamespace(
        Error=Error,
        init=lambda: None,
        Device=lambda ordinal: SimpleNamespace(retain_primary_context=lambda: context),
        Stream=lambda flags: SimpleNamespace(handle=7),
        pagelocked_empty=lambda size, dtype: np.asarray(Allocation(size)),
        memcpy_htod_async=fail,
    )
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=driver))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    cuda = open_cuda("pycuda")
    stream, host = cuda.stream(), cuda.pinned(16)
    with pytest.raises(BackendError, match="not permitted when stream is capturing"):
        cuda.upload(0, host, stream)
    cuda.close()
    assert Allocation.freed == 1  # although ``host`` is still referred to


def test_refuses_without_the_library(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r'needs tensorrt(.|\n)*pip install "autopose\[trt\]"'):
        TrtSession(engine)


class Driver:
    """Records the calls of the CUDA driver's graph functions."""

    def __init__(self, fail: str = "") -> None:
        self.calls: list[str] = []
        self.fail = fail

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cuStreamEndCapture":
                ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_void_p))[0] = 11
            if name == "cuGraphInstantiateWithFlags":
                ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_void_p))[0] = 12
            return 1 if name == self.fail else 0

        return call


def test_graph_is_captured_instantiated_launched_and_freed() -> None:
    driver = Driver()
    graph = CapturedGraph(7, lambda: driver.calls.append("work"), driver)
    graph.launch()
    graph.close()
    graph.close()
    assert driver.calls == [
        *("cuStreamBeginCapture_v2", "work", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"),
        *("cuGraphExecDestroy", "cuGraphDestroy"),
    ]


def test_a_stream_does_not_stay_in_capture_when_the_work_fails() -> None:
    driver = Driver()

    def fail() -> None:
        raise BackendError("no")

    with pytest.raises(BackendError, match="no"):
        CapturedGraph(7, fail, driver)
    assert driver.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]
    with pytest.raises(BackendError, match="could not be captured"):
        CapturedGraph(7, lambda: None, Driver("cuStreamEndCapture"))


def test_refuses_without_any_cuda_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pycuda or cuda-python(.|\n)*pip install cuda-python"):
        open_cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("which", ["pycuda", "cuda-python"])
def test_copies_there_and_back_on_a_device(which: str) -> None:
    try:
        cuda = open_cuda(which)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    try:
        stream = cuda.stream()
        source, target = cuda.pinned(1 << 20), cuda.pinned(1 << 20)
        source[:] = np.random.default_rng(0).integers(0, 256, len(source), dtype=np.uint8)
        address = cuda.allocate(len(source))

        def work() -> None:
            cuda.upload(address, source, stream)
            cuda.download(target, address, stream)

        work()
        cuda.synchronise(stream)
        np.testing.assert_array_equal(source, target)
        graph = CapturedGraph(stream, work)
        source += 1
        graph.launch()
        cuda.synchronise(stream)
        np.testing.assert_array_equal(source, target)
        graph.close()
    finally:
        cuda.close()
        cuda.leave()
