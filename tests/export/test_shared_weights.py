"""Two graphs with one file of weights compute what they computed with their own."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from autopose.export.shared_weights import share_weights
from autopose.export.slim import compact_weights


def outputs(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"images": images})[0]
    return result


def test_same_results_in_less_space(pose_onnx: Path, tmp_path: Path) -> None:
    """A graph that ends in keypoints and, of the same network, one that ends in the heatmaps."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    model = onnx.load(pose_onnx)
    compact_weights(model)
    mirrored, plain = folder / "m-flip.onnx", folder / "m.onnx"
    onnx.save(model, mirrored)
    (maps,) = {node.input[0] for node in model.graph.node if node.op_type == "ReduceMax"}
    onnx.utils.extract_model(str(mirrored), str(plain), ["images"], [maps])
    images = np.random.default_rng(0).integers(0, 255, (2, 96, 64, 3), np.uint8)
    expected = [outputs(path, images) for path in (plain, mirrored)]
    before = plain.stat().st_size + mirrored.stat().st_size
    notes = [onnx.load(path, load_external_data=False).metadata_props for path in (plain, mirrored)]

    share_weights([plain, mirrored], folder / "m.data")
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    found = [outputs(moved / path.name, images) for path in (plain, mirrored)]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sum(path.stat().st_size for path in moved.iterdir()) < before
    weights = [t for t in onnx.load(moved / "m.onnx").graph.initializer if len(t.raw_data) >= 1024]
    assert (moved / "m.data").stat().st_size < 1.1 * sum(len(t.raw_data) for t in weights)  # not twice
    graph = onnx.load(moved / "m-flip.onnx", load_external_data=False).graph
    notes_of = [{note.key: note.value for note in tensor.external_data} for tensor in graph.initializer]
    offsets = [int(note["offset"]) for note in notes_of if note]
    assert offsets
    assert not any(offset % 64 for offset in offsets)  # a runtime may map them as they are
    kept = [onnx.load(moved / path.name, load_external_data=False).metadata_props for path in (plain, mirrored)]
    assert kept == notes
    onnx.checker.check_model(str(moved / "m-flip.onnx"))


def test_weights_must_be_beside(pose_onnx: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(pose_onnx, tmp_path))
    with pytest.raises(ValueError, match="beside"):
        share_weights([copy], tmp_path / "other" / "m.data")
    assert copy.read_bytes() == pose_onnx.read_bytes()
