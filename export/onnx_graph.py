"""Small rewrites and measurements of ONNX graphs that several exports share."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

#: Images per run while measuring: every intermediate tensor is reduced at once, so a few are no burden.
_BATCH = 2


def load_graph(path: object) -> onnx.ModelProto:
    """Read an ONNX file, with the weights that it keeps in other files.

    Raises:
        ModelError: it is not one, or its weights are not there.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx.checker import ValidationError

    from autopose.errors import ModelError

    try:
        return onnx.load(str(path))
    except (DecodeError, OSError, ValidationError) as error:
        raise ModelError(
            f"{path}: cannot be read as ONNX ({str(error)[:100]}). It is damaged: export it again."
        ) from None


def fold_weight_casts(model: onnx.ModelProto) -> None:
    """Undo compact storage in place: weights behind a cast to FP32 become FP32 weights."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    remaining = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:
            to = next(item.i for item in node.attribute if item.name == "to")
            array = numpy_helper.to_array(weights[node.input[0]]).astype(helper.tensor_dtype_to_np_dtype(to))
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        else:
            remaining.append(node)
    used = {name for node in remaining for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:]
    graph.node.extend(remaining)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def split_normalisations(model: onnx.ModelProto) -> None:
    """Turn each batch normalisation with constant statistics into a multiplication and an addition, in place.

    Its five inputs would otherwise each need a type of their own in mixed precision.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "BatchNormalization" or not all(name in weights for name in node.input[1:]):
            nodes.append(node)
            continue
        epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
        statistics = [numpy_helper.to_array(weights[name]).astype(np.float64) for name in node.input[1:]]
        gamma, beta, mean, variance = statistics
        scale = gamma / np.sqrt(variance + epsilon)
        shift = beta - mean * scale
        for suffix, values in (("scale", scale), ("shift", shift)):
            array = values.astype(np.float32).reshape(-1, 1, 1)
            graph.initializer.append(numpy_helper.from_array(array, f"{node.name}.{suffix}"))
        product = f"{node.name}.scaled"
        nodes.append(helper.make_node("Mul", [node.input[0], f"{node.name}.scale"], [product], name=f"{node.name}.mul"))
        nodes.append(
            helper.make_node("Add", [product, f"{node.name}.shift"], [node.output[0]], name=f"{node.name}.add")
        )
    del graph.node[:]
    graph.node.extend(nodes)


def sorted_by_use(nodes: list[NodeProto]) -> list[NodeProto]:
    """Return the nodes in an order in which every tensor is made before it is read."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waiting = [len({producer[name] for name in node.input if name in producer}) for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        for source in {producer[name] for name in node.input if name in producer}:
            readers.setdefault(source, []).append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order = []
    for index in ready:  # grows while it is walked through
        order.append(nodes[index])
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    assert len(order) == len(nodes), "the graph has a cycle"
    return order


def largest_values(
    model: onnx.ModelProto, tensors: Sequence[str], images: NDArray[np.uint8] | NDArray[np.float32]
) -> dict[str, float]:
    """Return the largest magnitude that each FP32 tensor takes on a batch of inputs.

    Args:
        model: the graph, with input ``images``; not modified.
        tensors: names of intermediate tensors.
        images: inputs.
    """
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    graph = probe.graph
    del graph.output[:]
    for name in tensors:
        graph.node.append(helper.make_node("Abs", [name], [f"{name}.abs"]))
        graph.node.append(helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.max"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(f"{name}.max", TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = np.zeros(len(tensors))
    for start in range(0, len(images), _BATCH):
        values = session.run(None, {"images": images[start : start + _BATCH]})
        largest = np.maximum(largest, np.array([float(value) for value in values]))
    return dict(zip(tensors, largest.tolist(), strict=True))
