"""FP32 graph to a typed FP16 graph: half precision between the first and the last convolution, FP32 at the edges.

TensorRT 11 builds every network as strongly typed, so the precision has to stand in the graph. Input conversion, flip
averaging and decoding stay FP32, as does every layer that could overflow: that is measured on calibration images.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from autopose.errors import ModelError
from autopose.export.onnx_graph import fold_weight_casts, largest_values, sorted_by_use, split_normalisations

CONVOLUTIONS = ("Conv", "ConvTranspose")
#: Largest magnitude that may be kept in half precision: a quarter of FP16's, as calibration does not see everything.
HALF_LIMIT = float(np.finfo(np.float16).max) / 4
#: Inputs (by position) that stay FP32 in a half-precision node.
_FLOAT_INPUTS = {"Resize": (1, 2)}


@dataclass(frozen=True)
class HalfGraph:
    """A converted model.

    Attributes:
        model: the typed FP16 graph.
        kept: nodes left in FP32 because of overflow: name -> largest magnitude seen.
        share: half-precision convolutions over all convolutions.
    """

    model: onnx.ModelProto
    kept: Mapping[str, float]
    share: float


def half_graph(model: onnx.ModelProto, calibration: NDArray[np.uint8] | NDArray[np.float32]) -> HalfGraph:
    """Return the FP16 form of an FP32 graph; ``model`` is not modified.

    Args:
        model: FP32 graph with input ``images``; weights may be stored compactly.
        calibration: a batch for that input, on which overflow is looked for.

    Raises:
        ModelError: it holds no convolution.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    fold_weight_casts(model)
    split_normalisations(model)
    body = convolution_body(model)
    if not body:
        raise ModelError("The graph holds no convolution: there is nothing to convert to half precision.")
    magnitudes = largest_values(model, _tensors(model, body), calibration)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kept: dict[str, float] = {}
    for node in model.graph.node:
        if node.name in body:
            parameters = [_largest(weights[name]) for name in node.input if name in weights]
            largest = max([magnitudes.get(name, 0.0) for name in (*node.input, *node.output)] + parameters)
            if not largest < HALF_LIMIT:
                kept[node.name] = largest
    half = body - kept.keys()
    _convert(model, half)
    convolutions = [node.name for node in model.graph.node if node.op_type in CONVOLUTIONS]
    return HalfGraph(model, kept, sum(name in half for name in convolutions) / len(convolutions))


def convolution_body(model: onnx.ModelProto) -> set[str]:
    """Return the names of all nodes that lie on a path from a convolution to a convolution, both included."""
    nodes = list(model.graph.node)
    after: set[str] = set()  # tensors that depend on a convolution
    behind: set[str] = set()
    for node in nodes:  # ONNX nodes are in topological order
        if node.op_type in CONVOLUTIONS or after.intersection(node.input):
            after.update(node.output)
            behind.add(node.name)
    before: set[str] = set()  # tensors that a convolution depends on
    ahead: set[str] = set()
    for node in reversed(nodes):
        if node.op_type in CONVOLUTIONS or before.intersection(node.output):
            before.update(node.input)
            ahead.add(node.name)
    return behind & ahead


def _tensors(model: onnx.ModelProto, body: set[str]) -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [name for node in model.graph.node if node.name in body for name in (*node.input[:1], *node.output)]
    return [name for name in dict.fromkeys(names) if name and name not in weights]


def _largest(tensor: TensorProto) -> float:
    if tensor.data_type != TensorProto.FLOAT:
        return 0.0
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))


def _convert(model: onnx.ModelProto, half: set[str]) -> None:
    """Make the nodes named in ``half`` compute in FP16, with casts wherever a tensor crosses into or out of them."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made_half = {name for node in graph.node if node.name in half for name in node.output}
    halved: dict[str, TensorProto] = {}
    casts: dict[str, NodeProto] = {}
    outputs = {item.name for item in graph.output}

    def cast(name: str, to: int) -> str:
        suffix = "half" if to == TensorProto.FLOAT16 else "float"
        result = f"{name}.{suffix}"
        if result not in casts:
            casts[result] = helper.make_node("Cast", [name], [result], name=f"Cast_{result}", to=to)
        return result

    for node in graph.node:
        inputs = list(node.input)
        for position, name in enumerate(inputs):
            if node.name in half:
                if not name or position in _FLOAT_INPUTS.get(node.op_type, ()) or name in made_half:
                    continue
                if name not in weights:
                    inputs[position] = cast(name, TensorProto.FLOAT16)
                elif weights[name].data_type == TensorProto.FLOAT:
                    if name not in halved:
                        array = numpy_helper.to_array(weights[name]).astype(np.float16)
                        halved[name] = numpy_helper.from_array(array, f"{name}.half")
                    inputs[position] = f"{name}.half"
            elif name in made_half:
                inputs[position] = cast(name, TensorProto.FLOAT)
        node.input[:] = inputs
    for name in outputs & made_half:  # a graph that ends in a half-precision node still gives FP32
        producer = next(node for node in graph.node if name in node.output)
        producer.output[:] = [f"{name}.half" if item == name else item for item in producer.output]
        for node in graph.node:
            node.input[:] = [f"{name}.half" if item == name else item for item in node.input]
        casts[name] = helper.make_node("Cast", [f"{name}.half"], [name], name=f"Cast_{name}", to=TensorProto.FLOAT)
    _replace(graph, [*graph.node, *casts.values()], [*graph.initializer, *halved.values()])


def _replace(graph: onnx.GraphProto, nodes: Iterable[NodeProto], weights: Iterable[TensorProto]) -> None:
    nodes = sorted_by_use(list(nodes))
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in weights if tensor.name in used]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(kept)
