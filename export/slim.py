"""Make an exported ONNX graph small: no tracing notes, short names, weights stored in half precision."""

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
