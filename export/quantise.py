"""FP32 graph to INT8: static quantisation with QuantizeLinear/DequantizeLinear pairs, calibrated on images.

Weights are symmetric per output channel. For ONNX Runtime they have seven bits: CPUs without VNNI add two products
in sixteen bits, which 255 times 127 twice overflows (``docs/benchmarks.md``). Activations are asymmetric uint8 for ONNX
Runtime, whose VNNI kernels want uint8 x int8 (int8 x int8 ran slower than FP32, ``docs/benchmarks.md``), or
symmetric int8 for TensorRT, which knows no zero point. The first and the last convolution stay FP32, as do the edges of
the graph and the convolutions whose sum the last one reads: that sum is small against its summands, so that their
rounding is not. Then, as long as the result deviates too much, the convolutions that are hurt most.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from autopose.errors import ModelError
from autopose.export.half import CONVOLUTIONS, convolution_body
from autopose.export.onnx_graph import fold_weight_casts, split_normalisations
from autopose.runtime.ort_session import WITHOUT_INTEGERS

#: Convolutions alone: quantising the additions and resizings of the streams as well doubled the deviation and gained
#: 3 % of speed (``docs/benchmarks.md``).
QUANTISED = ("Conv", "ConvTranspose")
#: Share of an activation's values that its range covers: the outermost would cost all others resolution.
PERCENTILE = 99.99
_BATCH = 2
#: Share of the convolutions that return to FP32 per round, and rounds at most.
_STEP = 0.1
ROUNDS = 4


@dataclass(frozen=True)
class QuantisedGraph:
    """A converted model.

    Attributes:
        model: the graph with its quantisation pairs.
        kept: convolutions left in FP32, the most sensitive first after the first and last one.
        share: quantised convolutions over all convolutions.
    """

    model: onnx.ModelProto
    kept: tuple[str, ...]
    share: float


def quantised_graph(
    model: onnx.ModelProto,
    calibration: NDArray[np.uint8] | NDArray[np.float32],
    *,
    symmetric: bool = False,
    accept: Callable[[onnx.ModelProto], bool] | None = None,
) -> QuantisedGraph:
    """Return the INT8 form of an FP32 graph; ``model`` is not modified.

    Args:
        model: FP32 graph with input ``images``; weights may be stored compactly.
        calibration: inputs on which the ranges of activations are taken.
        symmetric: activations without a zero point, as TensorRT wants.
        accept: judges a result; as long as it refuses, more convolutions are kept in FP32.

    Raises:
        ModelError: the graph has fewer than three convolutions.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    fold_weight_casts(model)
    split_normalisations(model)
    convolutions = [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]
    if len(convolutions) < 3:
        raise ModelError(
            f"The graph has {len(convolutions)} convolutions; first and last stay FP32, so none is left to quantise."
        )
    kept = [convolutions[0], convolutions[-1]]
    feeders = [name for name in feeding(model, convolutions[-1]) if name not in kept]
    kept += feeders[: len(convolutions) - 3]  # one at least is quantised
    result = _quantise(model, calibration, kept, symmetric)
    ranking: list[str] = []
    for _ in range(ROUNDS):
        if accept is None or accept(result):
            break
        if not ranking:
            ranking = sensitivity(model, result, calibration[:_BATCH])
        more = max(1, round(_STEP * len(convolutions)))
        kept += [name for name in ranking if name not in kept][:more]
        result = _quantise(model, calibration, kept, symmetric)
    return QuantisedGraph(result, tuple(kept), 1 - len(kept) / len(convolutions))


def feeding(model: onnx.ModelProto, name: str) -> list[str]:
    """Return the convolutions from which a node's input comes without another convolution in between."""
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting = [tensor for node in model.graph.node if node.name == name for tensor in node.input]
    found: set[str] = set()
    seen: set[str] = set()
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor not in producers:
            continue
        seen.add(tensor)
        if producers[tensor].op_type in CONVOLUTIONS:
            found.add(producers[tensor].name)
        else:
            waiting.extend(producers[tensor].input)
    return [node.name for node in model.graph.node if node.name in found]


def _quantise(
    model: onnx.ModelProto, calibration: NDArray[Any], kept: Sequence[str], symmetric: bool
) -> onnx.ModelProto:  # fmt: skip
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[NDArray[Any]] = iter(
                [calibration[start : start + _BATCH] for start in range(0, len(calibration), _BATCH)]
            )

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    body = convolution_body(model)
    outside = [node.name for node in model.graph.node if node.name not in body]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantization.quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=[*kept, *outside],
            per_channel=True,
            reduce_range=not symmetric,
            activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={
                "WeightSymmetric": True,
                "ActivationSymmetric": symmetric,
                "DedicatedQDQPair": True,
                "CalibPercentile": PERCENTILE,
                "QuantizeBias": not symmetric,  # TensorRT takes no INT32 biases; it adds FP32 ones in its kernels
            },
        )
        result: onnx.ModelProto = onnx.load(str(target))
    props = {item.key: item.value for item in model.metadata_props}
    helper.set_model_props(result, props)
    del result.graph.value_info[:]
    return result


def sensitivity(model: onnx.ModelProto, quantised: onnx.ModelProto, images: NDArray[Any]) -> list[str]:
    """Return the convolutions' names, the one whose output has the worst signal-to-noise ratio first."""
    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type in CONVOLUTIONS}
    names = [name for name in outputs.values() if any(name in node.output for node in quantised.graph.node)]
    exact, rough = (_values(graph, names, images) for graph in (model, quantised))
    noise = {
        name: float(((rough[name] - exact[name]) ** 2).mean() / ((exact[name] ** 2).mean() + 1e-12)) for name in names
    }  # fmt: skip
    return sorted((node for node, output in outputs.items() if output in noise), key=lambda node: -noise[outputs[node]])


def _values(model: onnx.ModelProto, names: Sequence[str], images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(WITHOUT_INTEGERS, "1")
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser: its prints, and its advice to pre-process the model, which is folded already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        root.setLevel(level)
