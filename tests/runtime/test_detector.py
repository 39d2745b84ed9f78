"""What a detector's raw boxes become, the package's own and one of YOLOX's layout: the persons of an image."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from autopose.affine import letterbox_matrix
from autopose.errors import ModelError
from autopose.runtime.detector import finished_boxes, open_detector
from autopose.runtime.yolox import YoloxDetector


def test_raw_boxes_become_persons_of_the_image() -> None:
    """An image of 200x100 in an input half as large, the upper half of which it fills."""
    raw = [
        ([10, 10, 30, 40], 0.5),
        ([11, 10, 31, 40], 0.9),  # IoU 19/21 with the one before: the same person
        ([18, 10, 38, 40], 0.8),  # 13/27 with the best: another one
        ([60, 10, 80, 40], 0.25),  # as likely as asked for
        ([60, 10, 80, 20], 0.2),
        ([90, 30, 120, 60], 0.7),  # reaches out of the image
        ([40, 49.6, 60, 80], 0.6),  # less than a pixel of which is in the image
    ]
    boxes, scores = np.array([box for box, _ in raw], np.float32), np.array([score for _, score in raw], np.float32)
    matrix = letterbox_matrix((200, 100), (100, 100))
    found, found_scores = finished_boxes(boxes, scores, matrix, (200, 100), 0.25)
    np.testing.assert_allclose(found, [[22, 20, 62, 80], [36, 20, 76, 80], [180, 60, 200, 100], [120, 20, 160, 80]])
    np.testing.assert_allclose(found_scores, [0.9, 0.8, 0.7, 0.25])


def test_of_a_crowd_the_best_hundred_are_kept() -> None:
    corners = 10.0 * np.stack(np.divmod(np.arange(120), 12), -1)
    boxes, scores = np.concatenate([corners, corners + 8], 1), np.linspace(0.3, 0.9, 120)
    found, found_scores = finished_boxes(boxes, scores, np.eye(3)[:2], (120, 120), 0.25)
    np.testing.assert_allclose(found, boxes[:19:-1])
    np.testing.assert_allclose(found_scores, scores[:19:-1], rtol=1e-6)


def _yolox(path: Path, rows: NDArray[np.float32]) -> Path:
    """Write a network of these rows whose objectness is the most blue of its 32x32 input, over 255."""
    node = helper.make_node
    objectness = np.eye(rows.shape[-1], dtype=np.float32)[4]
    constants = {"first": np.int64(0), "most": np.float32(255), "rows": rows[None], "objectness": objectness}
    graph = helper.make_graph(
        [
            node("Gather", ["images", "first"], ["blue"], axis=1),
            node("ReduceMax", ["blue"], ["bluest"], keepdims=0),
            node("Div", ["bluest", "most"], ["share"]),
            node("Mul", ["objectness", "share"], ["added"]),
            node("Add", ["rows", "added"], ["output"]),
        ],
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, *rows.shape])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path


def test_a_network_of_yoloxs_layout(tmp_path: Path) -> None:
    """An image of 64x32 leaves the lower half of the input empty: grey, 114 of 255, which is more than it has blue."""
    rows = np.zeros((16 + 4 + 1, 7), np.float32)  # at strides 8, 16, 32
    rows[1] = [0.5, 0.25, np.log(2), 0, 0, 1.0, 0]  # second cell of the first row, 16x8 around (12, 2)
    rows[16 + 1] = [0.5, 0.5, 0, 0, 0, 0.8, 1.0]  # second cell, 16x16 around (24, 8)
    rows[16 + 4] = [0.5, 0.25, 0, -1, 0, 0.5, 1.0]  # likely no person, but of the second class
    image = np.zeros((32, 64, 3), np.uint8)
    image[..., 0], image[..., 2] = 51, 255
    path = _yolox(tmp_path / "yolox.onnx", rows)
    detector = open_detector(path, device="cpu", threads=1, threshold=0.3)
    assert isinstance(detector, YoloxDetector)
    boxes, scores = detector(image)
    np.testing.assert_allclose(boxes, [[8, 0, 40, 12], [32, 0, 64, 32]], atol=1e-4)
    np.testing.assert_allclose(scores, [114 / 255, 0.8 * 114 / 255], rtol=1e-5)
    assert len(open_detector(path, device="cpu", threads=1, threshold=0.4)(image)[0]) == 1
    detector.close()
    with pytest.raises(ModelError, match=r"gives \(20, 7\); YOLOX's layout is \(21, 5 \+ classes\)"):
        open_detector(_yolox(tmp_path / "short.onnx", rows[1:]), device="cpu", threads=1)(image)
