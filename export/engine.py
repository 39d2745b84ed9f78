"""ONNX graph to TensorRT engine, one code path for TensorRT 10.12+, 11 and TensorRT-RTX.

Every network is strongly typed: the graph's own types are the precision. What came of them is read back from the parsed
network and, where a GPU can open the engine, from its inspector.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopose.errors import BackendError
from autopose.export.builders import load_builder, parse_targets
from autopose.export.deviation import Precision
from autopose.manifest import Manifest
from autopose.runtime.engine_sidecar import Builder

log = logging.getLogger(__name__)

#: Least share of half-precision convolutions of an FP16 engine.
LEAST_HALF_SHARE = 0.8


@dataclass(frozen=True)
class EngineOptions:
    """Everything that changes an engine besides its graph.

    Attributes:
        batches: smallest, typical and largest batch of the optimisation profile.
        targets: TensorRT-RTX: compute capabilities (``sm89``); empty: the GPU at hand.
        workspace_gib: GPU memory that building may use.
        portable: TensorRT: run on every GPU from Ampere on.
    """

    batches: tuple[int, int, int] = (1, 8, 64)
    targets: tuple[str, ...] = ()
    workspace_gib: float = 4.0
    portable: bool = False


@dataclass(frozen=True)
class BuiltEngine:
    """A fresh engine.

    Attributes:
        plan: its bytes.
        half_share: half-precision convolutions over all, in the parsed network.
        timing_cache: what the builder learned, to be kept for the next build; None if it keeps none.
    """

    plan: bytes
    half_share: float
    timing_cache: bytes | None


class _Log:
    """Collects what TensorRT says, for error messages."""

    def __init__(self, trt: Any) -> None:
        outer = self
        self.errors: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                    outer.errors.append(message)
                log.debug("%s", message)

        self.logger = Logger()

    def last(self) -> str:
        return self.errors[-1].strip() if self.errors else "no reason given"


def build_engine(
    graph: Path, manifest: Manifest, kind: Builder, options: EngineOptions, timing_cache: bytes | None = None
) -> BuiltEngine:
    """Build an engine.

    Args:
        graph: ONNX file in the precision that the engine shall have.
        manifest: of the graph.
        kind: library to build with.
        options: profile, targets, memory.
        timing_cache: of an earlier build; one that does not fit is named and left aside.

    Raises:
        MissingDependencyError: the library is not installed.
        BackendError: the graph cannot be parsed or built, or the result is not in half precision.
    """
    trt = load_builder(kind)
    messages = _Log(trt)
    builder = _make_builder(trt, messages, kind, options)
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse_from_file(str(graph)):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise BackendError(f"{kind} {trt.__version__} cannot parse the graph: {reasons or messages.last()}")
    share = half_share(trt, network)
    require_half(manifest.precision, share, f"The network that {kind} parsed")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options.workspace_gib * 2**30))
    if manifest.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and ten bits: the parity gate would refuse the engine
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.add_optimization_profile(_profile(builder, network, options.batches))
    if options.portable:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if kind == "tensorrt_rtx":
        capabilities = parse_targets(trt, options.targets) or [trt.ComputeCapability.CURRENT]
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            config.set_compute_capability(capability, index)
    cache = _timing_cache(config, timing_cache) if kind == "tensorrt" else None  # TensorRT-RTX has none
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(f"{kind} {trt.__version__} could not build the engine: {messages.last()}")
    learned = bytes(cache.serialize()) if cache is not None else None
    return BuiltEngine(bytes(plan), share, learned)


def _make_builder(trt: Any, messages: _Log, kind: Builder, options: EngineOptions) -> Any:
    try:
        builder = trt.Builder(messages.logger)
    except TypeError:  # pybind's way of saying that the constructor returned a null pointer
        builder = None
    if builder is None:
        raise BackendError(
            f"{kind} {trt.__version__} cannot start: {messages.last()}.\n"
            "It needs an NVIDIA GPU and driver; 'autopose doctor' tells what is here. Without a GPU: "
            "autopose export MODEL --trt-rtx --target sm89"
        )
    return builder


def _profile(builder: Any, network: Any, batches: tuple[int, int, int]) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, *((batch, *rest) for batch in batches))
    return profile


def _timing_cache(config: Any, content: bytes | None) -> Any:
    """Set a timing cache; an earlier one that this library refuses is named and left aside.

    TensorRT answers a cache of another version or GPU with a warning and an empty one.
    """
    if content:
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        log.warning("The timing cache does not fit this TensorRT or GPU, or is damaged: it is made anew.")
    cache = config.create_timing_cache(b"")
    return cache if cache is not None and config.set_timing_cache(cache, False) else None


def half_share(trt: Any, network: Any) -> float:
    """Return the share of convolutions whose output is half precision, in a parsed network."""
    kinds = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    types = [layer.get_output(0).dtype for layer in layers if layer.type in kinds]
    return float(sum(kind == trt.DataType.HALF for kind in types) / max(len(types), 1))


def require_half(precision: Precision, share: float, what: str) -> None:
    """Refuse an FP16 engine that is not one.

    Raises:
        BackendError: fewer than 80 % of its convolutions are half precision.
    """
    if precision == "fp16" and share < LEAST_HALF_SHARE:
        raise BackendError(
            f"{what} has {share:.0%} of its convolutions in half precision; FP16 was asked for and at least "
            f"{LEAST_HALF_SHARE:.0%} are expected.\nThe engine was not kept: it would be as slow as FP32. Layers that "
            "overflow stay FP32; --precision fp32 builds an engine that says what it is."
        )


def inspected_half_share(layers: Iterable[dict[str, Any]]) -> float | None:
    """Return the share of half-precision convolutions among an inspector's layers; None if it says of none what it is.

    TensorRT 10 gives a layer's outputs a ``Format/Datatype`` such as ``Channel major FP16 format`` or ``Half``; 11 and
    TensorRT-RTX a ``Datatype``, and beside it a ``Format`` that is not known of dynamic shapes.
    """
    found = []
    for layer in layers:
        kind = str(layer.get("LayerType", "")) + " " + str(layer.get("Name", ""))
        if "conv" not in kind.lower():
            continue
        texts = [str(output.get(key, "")) for output in layer.get("Outputs", ()) for key in _TYPE_FIELDS]
        if any(name in text for text in texts for name in _TYPE_NAMES):
            found.append(any("FP16" in text or "Half" in text for text in texts))
    return sum(found) / len(found) if found else None


#: Where an inspector says of what type a layer's output is, and what it calls the types of floating point.
_TYPE_FIELDS = ("Format/Datatype", "Datatype", "Format")
_TYPE_NAMES = ("FP16", "Half", "FP32", "Float", "BF16", "BFloat16", "Int8", "INT8", "FP8")


def inspect_engine(trt: Any, engine: Any) -> float | None:
    """Return :func:`inspected_half_share` of a deserialised engine."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text).get("Layers", [])
    except json.JSONDecodeError:
        return None
    return inspected_half_share(layer for layer in layers if isinstance(layer, dict))
