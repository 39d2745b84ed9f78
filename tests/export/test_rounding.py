"""The emulation of FP16 storage against NumPy's half type; and the reason why it is needed."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from autopose.export.rounding import rounding_graph


def _swallowing() -> onnx.ModelProto:
    """x + 2048 - 2048 in FP16, which swallows 0.5."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["a", "large"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Sub", ["c", "large"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    large = numpy_helper.from_array(np.array(2048, np.float16), "large")
    graph = helper.make_graph(nodes, "swallowing", info[:1], info[1:], [large])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_against_numpy_half() -> None:
    x = np.array([0.5, 0.1, 3.0, 3.7, 1000.3], np.float32)
    half = x.astype(np.float16)
    expected = ((half + np.float16(2048)) - np.float16(2048)).astype(np.float32)
    assert expected[0] == 0
    model = _swallowing()
    before = model.SerializeToString()
    np.testing.assert_array_equal(_run(rounding_graph(model), x), expected)
    assert model.SerializeToString() == before


def test_against_the_reference_evaluator() -> None:
    from onnx.reference import ReferenceEvaluator

    x = np.random.default_rng(0).normal(0, 100, 50).astype(np.float32)
    model = _swallowing()
    np.testing.assert_array_equal(
        _run(rounding_graph(model), x), np.asarray(ReferenceEvaluator(model).run(None, {"x": x}))[0]
    )


@pytest.mark.parametrize(("mode", "is_rounded"), [("linear", True), ("nearest", False), (None, False)])
def test_means_of_neighbours_are_rounded(mode: str | None, is_rounded: bool) -> None:
    """0.1 and 0.7 in FP16 have means that FP16 has not; their copies need no rounding."""
    attributes = {} if mode is None else {"mode": mode}
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], **attributes),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, n]) for name, n in (("x", 2), ("y", 6)))
    scales = numpy_helper.from_array(np.array([1, 1, 1, 3], np.float32), "scales")
    graph = helper.make_graph(nodes, "resizing", [x], [y], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rounded = rounding_graph(model)
    assert any("b.exact" in node.output for node in rounded.graph.node) == is_rounded
    found = _run(rounded, np.array([0.1, 0.7], np.float32).reshape(1, 1, 1, 2))
    np.testing.assert_array_equal(found, found.astype(np.float16))
