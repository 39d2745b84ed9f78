"""What an FP16 graph really computes, on a CPU.

ONNX Runtime's CPU provider has hardly any half-precision kernels: it runs an FP16 graph in FP32 throughout and rounds
the weights alone, so its result says nothing about the FP16 one. Here every value that a half-precision layer writes is
rounded to FP16 explicitly, while sums inside a layer stay FP32, as on tensor cores.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_EXACT = {
    "Concat", "DepthToSpace", "Flatten", "Gather", "Identity", "MaxPool", "Relu", "Reshape", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip


def rounding_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP32 graph that rounds to FP16 wherever ``model`` (left as it is) stores FP16."""
    result: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    graph = result.graph
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    for tensor in graph.initializer:
        if tensor.name in half:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast":
            to_half = any(item.name == "to" and item.i == TensorProto.FLOAT16 for item in node.attribute)
            nodes.extend(_rounded(node.input[0], node.output[0]) if to_half else [node])
            half.update(node.output if to_half else ())
            continue
        if half.isdisjoint(node.input):
            nodes.append(node)
            continue
        half.update(name for name in node.output if name)
        if _passes_on(node):
            nodes.append(node)
            continue
        copy = NodeProto.FromString(node.SerializeToString())
        copy.output[:] = [f"{name}.exact" for name in node.output]
        nodes.append(copy)
        for name in node.output:
            nodes.extend(_rounded(f"{name}.exact", name))
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _passes_on(node: NodeProto) -> bool:
    """Return whether a node only passes values on: rounding them again would change nothing."""
    if node.op_type == "Resize":  # the nearest is ONNX's default
        return all(item.s == b"nearest" for item in node.attribute if item.name == "mode")
    return node.op_type in _EXACT


def _rounded(source: str, target: str) -> list[NodeProto]:
    """Return the two casts that round; ONNX Runtime keeps them, as the pair loses precision."""
    return [
        helper.make_node("Cast", [source], [f"{target}.rounded"], name=f"Round_{target}", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{target}.rounded"], [target], name=f"Widen_{target}", to=TensorProto.FLOAT),
    ]
