"""Make an exported ONNX graph small: no tracing notes or normalisations, weights stored in half precision."""

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Smaller tensors stay as they are: casting them would cost more nodes than it saves bytes.
COMPACT_FROM = 256


def strip_notes(model: onnx.ModelProto) -> None:
    """Remove doc strings, node metadata (stack traces, module paths) and intermediate shapes, in place."""
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    del graph.value_info[:]
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


def fold_normalisations(model: onnx.ModelProto) -> None:
    """Make one convolution of each convolution and the batch normalisation that alone reads it, in place.

    The optimiser does so too, but not where several convolutions have the same weights, as in a network that runs
    twice. In FP32 and in its order of operations, so that a network has the same weights in either graph.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    convolutions = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    outputs = {item.name for item in graph.output}
    folded: dict[tuple[str, str], tuple[str, str]] = {}
    nodes = []
    for node in graph.node:
        made_by = convolutions.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if (
            made_by is None
            or readers[node.input[0]] != 1
            or node.input[0] in outputs
            or not all(name in tensors for name in (*made_by.input[1:], *node.input[1:]))
        ):
            nodes.append(node)
            continue
        key = (made_by.input[1], node.input[1])
        if key not in folded:
            epsilon = next((np.float32(item.f) for item in node.attribute if item.name == "epsilon"), np.float32(1e-5))
            weight, *bias = (numpy_helper.to_array(tensors[name]) for name in made_by.input[1:])
            gamma, beta, mean, variance = (numpy_helper.to_array(tensors[name]) for name in node.input[1:])
            scale = gamma / np.sqrt(variance + epsilon)
            shift = ((bias[0] if bias else np.zeros_like(mean)) - mean) * scale + beta
            name = f"{key[0]}.folded_{len(folded)}"
            folded[key] = name, f"{name}_bias"
            values = weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift
            graph.initializer.extend(numpy_helper.from_array(*pair) for pair in zip(values, folded[key], strict=True))
        made_by.input[1:] = folded[key]
        made_by.output[0] = node.output[0]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | outputs
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def number_names(model: onnx.ModelProto) -> None:
    """Give tensors inside the graph short names, weights and nodes telling ones, in place."""
    graph = model.graph
    kept = {item.name for item in (*graph.input, *graph.output, *graph.initializer)}
    names: dict[str, str] = {"": ""}
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
        for position, output in enumerate(node.output):
            if output and output not in kept:
                names[output] = f"t{index}" if position == 0 else f"t{index}_{position}"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def compact_weights(model: onnx.ModelProto) -> None:
    """Store large FP32 weights as FP16 behind a cast to FP32, in place: half the bytes, the same FP32 graph.

    Runtimes fold the casts when they load the model, so the arithmetic stays FP32; the weights are rounded once.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < COMPACT_FROM:
            continue
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
