"""INT8 graphs: what is quantised and how, that results stay near, and that sensitive layers return to FP32."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autopose.checkpoint import Checkpoint
from autopose.errors import ModelError
from autopose.export.crops import synthetic_crops
from autopose.export.quantise import QuantisedGraph, feeding, quantised_graph, sensitivity


@pytest.fixture(scope="module")
def crops(pose_checkpoint: Checkpoint) -> np.ndarray:
    return synthetic_crops(6, pose_checkpoint.codec.input_size_wh)


@pytest.fixture(scope="module")
def quantised(pose_onnx: Path, crops: np.ndarray) -> QuantisedGraph:
    return quantised_graph(onnx.load(pose_onnx), crops)


def _run(model: onnx.ModelProto, crops: np.ndarray, *, integers: bool = True) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", str(int(not integers)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": crops})[0])


def test_finds_what_a_sum_is_made_of() -> None:
    """first -> (left, right); last reads relu(resize(left) + right)."""
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "w"], ["a"], name="first"),
        node("Conv", ["a", "w"], ["b"], name="left"),
        node("Conv", ["a", "w"], ["c"], name="right"),
        node("Resize", ["b"], ["d"], name="resize"),
        node("Add", ["d", "c"], ["e"], name="add"),
        node("Relu", ["e"], ["f"], name="relu"),
        node("Conv", ["f", "w"], ["g"], name="last"),
    ]
    graph = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert feeding(graph, "last") == ["left", "right"]
    assert feeding(graph, "left") == ["first"]
    assert feeding(graph, "first") == []


def test_all_convolutions_but_the_ends_are_quantised(quantised: QuantisedGraph, pose_onnx: Path) -> None:
    source = onnx.load(pose_onnx)
    convolutions = [node.name for node in source.graph.node if node.op_type == "Conv"]
    ends = [convolutions[0], convolutions[-1]]
    ends += [name for name in feeding(source, convolutions[-1]) if name not in ends]
    assert quantised.kept == tuple(ends)
    assert quantised.share == 1 - len(ends) / len(convolutions)
    graph = quantised.model.graph
    producer = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        sources = [producer.get(name) for name in node.input[:2]]
        kinds = [source.op_type if source is not None else None for source in sources]
        if node.name in quantised.kept:
            assert kinds[1] is None  # FP32 weights; the input may be one that a quantised neighbour reads as well
            continue
        assert kinds == ["DequantizeLinear", "DequantizeLinear"]
        assert sources[1] is not None
        values, scales, zero = (numpy_helper.to_array(weights[name]) for name in sources[1].input)
        assert values.dtype == np.int8
        assert scales.shape == (values.shape[0],)  # per output channel
        assert not zero.any()  # symmetric
        assert 60 < np.abs(values.astype(int)).max() <= 64  # 2 * 255 * 64 fits into sixteen bits
    kept = {item.key: item.value for item in source.metadata_props}
    assert {item.key: item.value for item in quantised.model.metadata_props} == kept


def test_scores_stay_near(quantised: QuantisedGraph, pose_onnx: Path, crops: np.ndarray) -> None:
    exact, rough = _run(onnx.load(pose_onnx), crops), _run(quantised.model, crops)
    error = np.abs(exact[..., 2] - rough[..., 2])
    assert 0 < error.mean() < 0.05 * np.abs(exact[..., 2]).mean()


def test_integer_sums_do_not_overflow() -> None:
    """Bright inputs under weights of one sign: with eight-bit weights, CPUs without VNNI stop at 32,767 per pair."""
    size, channels, rng = 16, 32, np.random.default_rng(0)
    initializers, nodes, before = [], [], "images"
    for index, (inside, outside) in enumerate(
        [(3, channels), (channels, channels), (channels, channels), (channels, 4)]
    ):
        weight = rng.uniform(0.9, 1.0, (outside, inside, 3, 3)).astype(np.float32) / (9 * inside)
        initializers.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [before, f"w{index}"], [f"c{index}"], name=f"conv{index}", pads=[1] * 4))
        before = f"c{index}"
    shape: list[str | int | None] = ["n", 3, size, size]
    graph = helper.make_graph(
        nodes, "bright", [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(before, TensorProto.FLOAT, ["n", 4, size, size])], initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    images = rng.uniform(0.8, 1.0, (4, 3, size, size)).astype(np.float32)
    quantised = quantised_graph(model, images)
    assert quantised.share > 0
    assert sensitivity(model, quantised.model, images[:2])[-1] == "conv0"  # it is exact: what follows it suffers more
    exact = _run(model, images)
    np.testing.assert_allclose(_run(quantised.model, images), exact, rtol=0.03)
    np.testing.assert_allclose(_run(quantised.model, images, integers=False), exact, rtol=0.03)


def test_symmetric_activations_have_no_zero_point(pose_onnx: Path, crops: np.ndarray) -> None:
    graph = quantised_graph(onnx.load(pose_onnx), crops[:2], symmetric=True).model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    zeros = [weights[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert {tensor.data_type for tensor in zeros} == {TensorProto.INT8}
    assert not any(numpy_helper.to_array(tensor).any() for tensor in zeros)


def test_convolutions_return_to_full_precision_until_the_result_is_accepted(
    pose_onnx: Path, crops: np.ndarray, quantised: QuantisedGraph
) -> None:
    model = onnx.load(pose_onnx)
    ranking = sensitivity(model, quantised.model, crops[:2])
    seen = []

    def accept(candidate: onnx.ModelProto) -> bool:
        seen.append(Counter(node.op_type for node in candidate.graph.node)["QuantizeLinear"])
        return len(seen) == 3

    result = quantised_graph(model, crops[:2], accept=accept)
    assert len(seen) == 3
    assert len(result.kept) > len(quantised.kept)
    assert set(result.kept) <= set(ranking) | set(quantised.kept)
    assert result.share < quantised.share
    assert seen[0] >= seen[2]


def test_refuses_graphs_with_nothing_to_quantise() -> None:
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    with pytest.raises(ModelError, match="has 0 convolutions"):
        quantised_graph(model, np.zeros((1, 2, 2, 3), np.uint8))
