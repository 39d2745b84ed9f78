"""Typed FP16 graphs: what becomes half, what stays, and that overflow is found before it happens."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from autopose.checkpoint import Checkpoint
from autopose.errors import ModelError
from autopose.export.crops import synthetic_crops
from autopose.export.half import HALF_LIMIT, convolution_body, half_graph
from autopose.export.onnx_graph import fold_weight_casts, largest_values, split_normalisations
from autopose.export.rounding import rounding_graph
from autopose.export.slim import compact_weights


def run(model: onnx.ModelProto, images: NDArray[np.generic]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def chain(gain: float = 1.0) -> onnx.ModelProto:
    """Scale, two convolutions with a normalisation, an addition and a resize between, scale."""
    rng = np.random.default_rng(0)
    weights = {
        "two": np.float32(2),
        "w1": rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32) * np.float32(gain),
        "gamma": np.ones(4, np.float32),
        "beta": np.zeros(4, np.float32),
        "mean": rng.normal(size=4).astype(np.float32),
        "var": np.full(4, 2.0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w2": rng.normal(0, 0.3, (2, 4, 1, 1)).astype(np.float32) / np.float32(gain),
    }
    nodes = [
        helper.make_node("Mul", ["images", "two"], ["a"], name="before"),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["b", "gamma", "beta", "mean", "var"], ["c"], name="norm"),
        helper.make_node("Add", ["b", "c"], ["d"], name="sum"),
        helper.make_node("Resize", ["d", "", "scales"], ["e"], name="resize", mode="nearest"),
        helper.make_node("Conv", ["e", "w2"], ["f"], name="last"),
        helper.make_node("Mul", ["f", "two"], ["out"], name="after"),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2, 16, 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor, by ONNX's own type inference."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return {item.name: item.type.tensor_type.elem_type for item in (*inferred.graph.value_info, *inferred.graph.output)}


def test_only_what_lies_between_convolutions_is_half() -> None:
    model = chain()
    assert convolution_body(model) == {"first", "norm", "sum", "resize", "last"}
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    before = model.SerializeToString()
    half = half_graph(model, images)
    assert model.SerializeToString() == before
    onnx.checker.check_model(half.model, full_check=True)
    assert half.share == 1
    assert half.kept == {}
    types = types_of(half.model)
    assert {types[name] for name in ("b", "c", "d", "e", "f")} == {TensorProto.FLOAT16}
    assert types["a"] == types["out"] == TensorProto.FLOAT
    assert Counter(node.op_type for node in half.model.graph.node)["Cast"] == 2
    np.testing.assert_allclose(run(half.model, images), run(model, images), rtol=0.02, atol=0.02)


def test_layers_that_overflow_stay_in_full_precision_and_are_named() -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    loud = chain(gain=1e4)
    half = half_graph(loud, images)
    assert "first" in half.kept
    assert "last" in half.kept  # it reads what does not fit
    assert half.share == 0
    assert min(half.kept.values()) > HALF_LIMIT
    np.testing.assert_allclose(run(rounding_graph(half.model), images), run(loud, images), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("gain", [2.5e4, 1e-4])
def test_weights_and_inputs_that_are_too_large_are_found_too(gain: float) -> None:
    """Large weights on small inputs, small weights on large ones: what the layer writes is no matter."""
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    images /= np.float32(gain) * np.abs(images).max()
    model = chain(gain)
    assert max(largest_values(model, ["b", "e"], images).values()) < 100
    assert 16376 < half_graph(model, images).kept["first"] < 65504  # not all of FP16's range is used


def test_a_graph_that_ends_in_a_convolution_still_gives_full_precision() -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    model = chain()
    del model.graph.node[-1]
    model.graph.output[0].name = "f"
    half = half_graph(model, images).model
    assert half.graph.output[0].name == "f"
    onnx.checker.check_model(half, full_check=True)
    assert types_of(half)["f"] == TensorProto.FLOAT
    np.testing.assert_allclose(run(half, images), run(model, images), rtol=0.02, atol=0.02)


def test_against_numpy_largest_values() -> None:
    model = chain()
    images = np.random.default_rng(2).normal(size=(5, 3, 8, 8)).astype(np.float32)
    found = largest_values(model, ["a", "e"], images)
    assert found["a"] == pytest.approx(float(np.abs(images).max() * 2))
    assert largest_values(model, ["a"], -np.abs(images)) == {"a": found["a"]}
    probe = chain()
    probe.graph.output[0].CopyFrom(helper.make_tensor_value_info("e", TensorProto.FLOAT, ["n", 4, 16, 16]))
    assert found["e"] == pytest.approx(float(np.abs(run(probe, images)).max()))


def test_normalisations_split_without_changing_the_result() -> None:
    images = np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)
    model = chain()
    expected = run(model, images)
    split_normalisations(model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, images), expected, rtol=1e-5, atol=1e-5)


def test_roundtrip_compact_storage() -> None:
    model = chain()
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    from autopose.export import slim

    assert slim.COMPACT_FROM > 108
    big = helper.make_tensor("w1", TensorProto.FLOAT, [64, 3, 3, 3], np.linspace(-1, 1, 64 * 27).tolist())
    model.graph.initializer[1].CopyFrom(big)
    compact_weights(model)
    assert sum(node.op_type == "Cast" for node in model.graph.node) == 1
    fold_weight_casts(model)
    assert not any(node.op_type == "Cast" for node in model.graph.node)
    restored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(
        restored["w1"], numpy_helper.to_array(big).astype(np.float16).astype(np.float32)
    )  # fmt: skip
    np.testing.assert_array_equal(restored["w2"], weights["w2"])
    large = helper.make_tensor("w1", TensorProto.FLOAT, [64, 3, 3, 3], [7e4] * 64 * 27)  # more than FP16 holds
    model.graph.initializer[[tensor.name for tensor in model.graph.initializer].index("w1")].CopyFrom(large)
    before = model.SerializeToString()
    compact_weights(model)
    assert model.SerializeToString() == before


def test_refuses_a_graph_without_convolutions() -> None:
    model = chain()
    del model.graph.node[1:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 3, 8, 8]))
    with pytest.raises(ModelError, match="no convolution"):
        half_graph(model, np.zeros((1, 3, 8, 8), np.float32))


def test_exported_network_becomes_half_with_full_precision_edges(pose_onnx: Path, pose_checkpoint: Checkpoint) -> None:
    crops = synthetic_crops(4, pose_checkpoint.codec.input_size_wh)
    model = onnx.load(pose_onnx)
    half = half_graph(model, crops)
    onnx.checker.check_model(half.model, full_check=True)
    assert half.share == 1
    types = types_of(half.model)
    inner = [node for node in half.model.graph.node if node.name in convolution_body(half.model)]
    assert {"Conv", "Relu", "Add"} <= {node.op_type for node in inner}
    assert [node.name for node in inner if types[node.output[0]] != TensorProto.FLOAT16] == []
    assert types["keypoints"] == TensorProto.FLOAT
    argmax = next(node for node in half.model.graph.node if node.op_type == "ArgMax")
    assert types[argmax.input[0]] == TensorProto.FLOAT
    np.testing.assert_allclose(run(half.model, crops)[..., 2], run(model, crops)[..., 2], rtol=0.02, atol=0.02)
