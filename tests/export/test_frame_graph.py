"""Cropping inside the graph against OpenCV's warp, and the whole chain against the crop-wise one."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from autopose.affine import center_scale_from_box, crop_matrix, invert, transform, warp
from autopose.checkpoint import Checkpoint
from autopose.export.crops import synthetic_scenes
from autopose.export.frame_graph import export_frame_graph, sample_crops
from autopose.training.predictor import TorchPredictor

BOXES = np.array([[10, 20, 60, 110], [-20, 5, 40, 90], [80, 60, 150, 140]], float)  # the second leaves the frame


def _matrices(size_wh: tuple[int, int]) -> list[np.ndarray]:
    regions = (center_scale_from_box(box, size_wh[0] / size_wh[1]) for box in BOXES)
    return [crop_matrix(center, region, size_wh) for center, region in regions]


def test_against_opencv() -> None:
    frame = synthetic_scenes(1, (160, 128), seed=3)[0]
    matrices = _matrices((64, 96))
    expected = np.stack([warp(frame, matrix, (64, 96)) for matrix in matrices]).astype(float)
    back = torch.from_numpy(np.stack([invert(matrix) for matrix in matrices]).astype(np.float32))
    crops = sample_crops(torch.from_numpy(frame[None]), back, (64, 96)).numpy()
    assert crops.shape == (3, 96, 64, 3)
    difference = np.abs(crops - expected)
    assert difference.mean() < 0.5  # OpenCV rounds positions to 1/32 pixel
    assert np.quantile(difference, 0.999) <= 6
    np.testing.assert_array_equal(crops, np.round(crops))


def test_against_the_cropwise_network(pose_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = export_frame_graph(pose_checkpoint, tmp_path / "frame.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    size_wh = pose_checkpoint.codec.input_size_wh
    matrices = _matrices(size_wh)
    back = np.stack([invert(matrix) for matrix in matrices]).astype(np.float32)
    predictor = TorchPredictor(pose_checkpoint.build(), pose_checkpoint.codec, pose_checkpoint.skeleton, flip=True)
    for seed, frame_wh in ((0, (160, 128)), (1, (200, 150))):
        frame = synthetic_scenes(1, frame_wh, seed=seed)[0]
        (keypoints,) = session.run(None, {"frame": frame[None], "matrices": back})
        xy, scores = predictor(np.stack([warp(frame, matrix, size_wh) for matrix in matrices]))
        expected = np.stack([transform(points, inverse) for points, inverse in zip(xy, back, strict=True)])
        near = np.linalg.norm(keypoints[..., :2] - expected, axis=-1) < 3
        assert near.mean() > 0.85  # peaks of a random network move with single grey levels
        np.testing.assert_allclose(keypoints[..., 2], scores, atol=0.1)
