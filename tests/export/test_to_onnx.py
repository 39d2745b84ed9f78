"""Exported files against the torch networks they came from, through ONNX Runtime."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from autopose.checkpoint import Checkpoint
from autopose.errors import ModelError, ParityError
from autopose.export import deployed, parity, to_onnx
from autopose.export.crops import synthetic_crops
from autopose.export.deviation import LIMITS, Limits
from autopose.export.folding import without_normalisations
from autopose.export.recipe import GraphOptions
from autopose.export.shared_weights import LEAST_BYTES
from autopose.export.to_onnx import deployed_module, export_onnx, manifest_for
from autopose.heatmap import Codec
from autopose.manifest import METADATA_KEY, Manifest
from autopose.models.resnet import SimpleBaseline
from autopose.runtime.session import open_session
from autopose.training.predictor import TorchDetector, TorchPredictor
from autopose.zoo import zoo_folder


@pytest.fixture(scope="module")
def heatmap_file(pose_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "model.onnx"
    return export_onnx(pose_checkpoint, out, GraphOptions(flip=False, decode=False, io="plain"))


@pytest.mark.parametrize("count", [1, 3])
def test_against_torch_keypoints_with_any_batch(pose_onnx: Path, pose_checkpoint: Checkpoint, count: int) -> None:
    crops = synthetic_crops(count, pose_checkpoint.codec.input_size_wh, seed=5)
    predictor = TorchPredictor(pose_checkpoint.build(), pose_checkpoint.codec, pose_checkpoint.skeleton, flip=True)
    xy, scores = predictor(crops)
    with open_session(pose_onnx, device="cpu") as session:
        (keypoints,) = session.run(crops)
    assert keypoints.shape == (count, 17, 3)
    near = np.abs(keypoints[..., :2] - xy).max(-1) < 1e-6
    assert near.mean() > 0.97  # the rest are ties
    np.testing.assert_allclose(keypoints[..., 2], scores, atol=1e-4)


def test_against_torch_heatmaps_of_plain_io(heatmap_file: Path, pose_checkpoint: Checkpoint) -> None:
    crops = synthetic_crops(2, pose_checkpoint.codec.input_size_wh, seed=6)
    predictor = TorchPredictor(pose_checkpoint.build(), pose_checkpoint.codec, pose_checkpoint.skeleton, flip=False)
    with open_session(heatmap_file, device="cpu") as session:
        (maps,) = session.run(crops)
    np.testing.assert_allclose(maps, predictor.heatmaps(crops), atol=1e-4)
    graph = onnx.load(heatmap_file).graph
    shape = [dim.dim_value or dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 96, 64]


@pytest.fixture(scope="module")
def detector_file(detector_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(detector_checkpoint, tmp_path_factory.mktemp("detector") / "detector.onnx")


def test_against_torch_boxes(detector_checkpoint: Checkpoint, detector_file: Path) -> None:
    images = synthetic_crops(3, detector_checkpoint.codec.input_size_wh, seed=7)
    boxes, scores = TorchDetector(detector_checkpoint.build(), 4)(images)
    with open_session(detector_file, device="cpu") as session:
        own_boxes, own_scores = session.run(images)
        assert session.manifest.task == "detector"
        assert not session.manifest.flip
    assert own_boxes.shape == (3, 100, 4)
    np.testing.assert_allclose(own_scores, scores, atol=1e-4)
    assert (np.diff(own_scores, axis=1) <= 0).all()
    # Cells of nearly equal score may change places: compare as sets.
    strong = scores[0] > 0.2
    assert strong.sum() >= 3
    for box in boxes[0][strong]:
        assert np.abs(own_boxes[0] - box).max(-1).min() < 1e-2


def test_two_looks_are_the_boxes_of_each(
    detector_checkpoint: Checkpoint, detector_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On pictures of blocks of 2x2 pixels, whose half is exact: small persons of one look, all of the other."""
    half_wh = (192, 128)
    half = np.random.default_rng(5).integers(0, 256, (2, half_wh[1], half_wh[0], 3), np.uint8)
    whole = half.repeat(2, axis=1).repeat(2, axis=2)
    size = (2 * half_wh[0], 2 * half_wh[1])

    once = TorchDetector(detector_checkpoint.build(), 4)
    half_boxes, half_scores = once(half)
    close_boxes, close_scores = once(whole)
    side = np.sqrt(np.prod(close_boxes[..., 2:] - close_boxes[..., :2], axis=-1))
    sides = tuple(np.quantile(side, [0.3, 0.7]))
    monkeypatch.setattr(deployed, "SMALL_SIDES", sides)  # so that it has persons of all kinds
    path = export_onnx(detector_checkpoint, tmp_path / "both.onnx", GraphOptions(input_wh=size, looks=2))
    with open_session(path, device="cpu") as session:
        assert session.manifest.looks == 2
        boxes, scores = session.run(whole)
    assert boxes.shape == (2, 200, 4)
    assert (np.diff(scores, axis=1) <= 0).all()
    expected = np.concatenate([close_scores * np.interp(side, sides, [1, 0]), half_scores], axis=1)
    # A box that torch has a hundredth of a pixel larger counts a little less.
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1), atol=1e-3)
    corners = np.concatenate([close_boxes, 2 * half_boxes], axis=1)
    for image in range(2):
        for box in corners[image][expected[image] > np.median(expected)]:
            assert np.abs(boxes[image] - box).max(-1).min() < 0.05
    # Bundled graphs of one network share their weights, so these must not depend on what else a graph does.
    graphs = [onnx.load(file).graph for file in (detector_file, path)]
    weights = [{t.raw_data for t in graph.initializer if len(t.raw_data) >= LEAST_BYTES} for graph in graphs]
    assert weights[0] == weights[1]
    assert [_normalisations_after_convolutions(graph) for graph in graphs] == [0, 0]


def _normalisations_after_convolutions(graph: onnx.GraphProto) -> int:
    convolved = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    return sum(node.op_type == "BatchNormalization" and node.input[0] in convolved for node in graph.node)


def test_two_looks_want_a_size_whose_half_the_network_can_take(detector_checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="416x320 pixels; both sides must be multiples of 64 up to 4096 for two looks"):
        export_onnx(detector_checkpoint, tmp_path / "odd.onnx", GraphOptions(looks=2, input_wh=(416, 320)))
    with pytest.raises(
        ModelError, match="fewer cells than the 100 boxes that it returns in 64x64 pixels for two looks"
    ):
        export_onnx(detector_checkpoint, tmp_path / "small.onnx", GraphOptions(looks=2, input_wh=(64, 64)))


def _settled(network: nn.Module) -> nn.Module:
    """Give convolutions weights that make an output to compare, and normalisations statistics of their own."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            for tensor in (part.weight, part.running_var):
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (part.bias, part.running_mean):
                if tensor is not None:
                    nn.init.normal_(tensor, std=0.2)
    return network.eval()


_RELU = nn.ReLU()


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: SimpleBaseline(17, width=4), 0),  # named pairs, shortcuts and deconvolutions
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.BatchNorm2d(4)), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), _RELU, nn.Conv2d(4, 4, 3), _RELU, nn.BatchNorm2d(4)), 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), 0),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 4, 2, 1, groups=3), nn.BatchNorm2d(6)), 1),
    ],
    ids=["simplebaseline", "a ReLU between", "the same ReLU twice", "a bias, no gamma and beta", "groups"],
)
def test_normalisations_are_folded_into_the_convolutions_before_them(make: Callable[[], nn.Module], left: int) -> None:
    network = _settled(make())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = without_normalisations(network)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        assert expected.std() > 0.1
        torch.testing.assert_close(folded(image), expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert sum(isinstance(part, nn.BatchNorm2d) for part in folded.modules()) == left
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_that_runs_twice_keeps_its_weights_once() -> None:
    """The bundled detectors are one network, which two of them run twice."""
    kinds, weights = [], []
    for name in ("detector-default", "detector-fast", "detector-best"):
        graph = onnx.load(zoo_folder() / f"{name}.onnx", load_external_data=False).graph
        kinds.append(Counter(node.op_type for node in graph.node))
        places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in graph.initializer]
        weights.append({(place["location"], place["offset"]) for place in places if place})
    assert kinds[0]["Conv"] == kinds[2]["Conv"] == 2 * kinds[1]["Conv"]
    assert not any(kind["BatchNormalization"] for kind in kinds)
    assert len(weights[0]) > 50
    assert weights[0] == weights[1] == weights[2]


def test_graph_is_lean_and_self_describing(pose_onnx: Path, pose_checkpoint: Checkpoint) -> None:
    model = onnx.load(pose_onnx)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert _normalisations_after_convolutions(model.graph) == 0
    assert len(convolutions) > 10
    assert kinds["Cast"] <= 3
    assert not kinds.keys() & {
        "Shape",
        "GatherND",
        "If",
        "Loop",
        "Dropout",
        "Identity",
        "ConstantOfShape",
        "Split",
        "Einsum",
    }
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    manifest = Manifest.from_json({p.key: p.value for p in model.metadata_props}[METADATA_KEY], "file")
    assert manifest == manifest_for(pose_checkpoint)
    assert manifest.fingerprint == pose_checkpoint.genotype.fingerprint()


def test_compact_file_halves_the_weights_and_keeps_the_arithmetic(
    pose_onnx: Path, pose_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trace_once(pose_onnx, monkeypatch)
    compact = export_onnx(pose_checkpoint, tmp_path / "compact.onnx", compact=True)

    def bytes_of_weights(path: Path) -> int:
        return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)

    assert bytes_of_weights(compact) < 0.55 * bytes_of_weights(pose_onnx)
    crops = synthetic_crops(4, pose_checkpoint.codec.input_size_wh)
    with open_session(compact, device="cpu") as session, open_session(pose_onnx, device="cpu") as full:
        np.testing.assert_allclose(session.run(crops)[0][..., 2], full.run(crops)[0][..., 2], rtol=0.01, atol=0.01)


def test_a_compact_file_has_limits_of_its_own(
    pose_onnx: Path, pose_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded weights move some joint further than FP32's limit allows (0.215 px of the bundled ``default``)."""
    _trace_once(pose_onnx, monkeypatch)
    monkeypatch.setitem(LIMITS, "fp32", Limits(0, 0, 0))
    export_onnx(pose_checkpoint, tmp_path / "compact.onnx", compact=True)
    monkeypatch.setattr(parity, "COMPACT_LIMITS", Limits(0, 0, 0))
    with pytest.raises(ParityError, match="Leave out --compact"):
        export_onnx(pose_checkpoint, tmp_path / "compact.onnx", compact=True)


def test_refuses_sizes_that_the_network_cannot_take(pose_checkpoint: Checkpoint, tmp_path: Path) -> None:
    odd = replace(pose_checkpoint, codec=Codec(input_size_wh=(50, 96)))
    with pytest.raises(ModelError, match="multiples of 32"):
        export_onnx(odd, tmp_path / "odd.onnx")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_when_the_graph_deviates(
    pose_onnx: Path, pose_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trace_once(pose_onnx, monkeypatch, weight_factor=1.5)
    with pytest.raises(ParityError, match=r"model\.onnx: deviates from the FP32 network"):
        export_onnx(pose_checkpoint, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def _trace_once(pose_onnx: Path, monkeypatch: pytest.MonkeyPatch, *, weight_factor: float = 1.0) -> None:
    """Let the exporter take the graph of an earlier export, its largest weight multiplied: tracing takes seconds."""

    def earlier(module: torch.nn.Module, manifest: Manifest) -> onnx.ModelProto:
        model = onnx.load(pose_onnx)
        tensor = max(model.graph.initializer, key=lambda item: len(item.raw_data))
        weights = onnx.numpy_helper.to_array(tensor) * np.float32(weight_factor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
        return model

    monkeypatch.setattr(to_onnx, "trace", earlier)


def test_module_is_the_reference_of_the_graph(pose_onnx: Path, pose_checkpoint: Checkpoint) -> None:
    crops = synthetic_crops(2, pose_checkpoint.codec.input_size_wh, seed=8)
    module = deployed_module(pose_checkpoint, manifest_for(pose_checkpoint))
    with torch.inference_mode(), open_session(pose_onnx, device="cpu") as session:
        np.testing.assert_allclose(session.run(crops)[0][..., 2], module(torch.from_numpy(crops))[..., 2], atol=1e-4)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 lacks operators")
def test_another_runtime_gives_the_same(pose_onnx: Path) -> None:
    """OpenCV's, which shares no code with ONNX Runtime."""
    with open_session(pose_onnx, device="cpu") as session:
        crops = synthetic_crops(1, session.manifest.codec.input_size_wh)
        (expected,) = session.run(crops)
    network = cv2.dnn.readNetFromONNX(str(pose_onnx))
    network.setInput(crops)
    found = network.forward()
    np.testing.assert_allclose(found[..., 2], expected[..., 2], atol=1e-4)
    assert (np.abs(found - expected) < 1e-3).mean() > 0.9  # the rest are ties
