"""A graph with UDP frames and smoothed DARK: ONNX Runtime gives what NumPy gives on torch's maps."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from autopose.checkpoint import Checkpoint
from autopose.export.crops import synthetic_crops
from autopose.export.parity import GraphReference
from autopose.export.recipe import GraphOptions
from autopose.export.to_onnx import export_onnx
from autopose.heatmap import Codec
from autopose.runtime.session import open_session
from autopose.training.predictor import TorchPredictor


def test_against_torch(pose_checkpoint: Checkpoint, tmp_path: Path) -> None:
    codec = Codec.published("udp", pose_checkpoint.codec.input_size_wh)
    checkpoint = replace(pose_checkpoint, codec=codec)
    crops = synthetic_crops(2, codec.input_size_wh, seed=5)
    predictor = TorchPredictor(checkpoint.build(), codec, checkpoint.skeleton, flip=False)
    xy, scores = predictor(crops)
    path = export_onnx(checkpoint, tmp_path / "model.onnx", GraphOptions(flip=False), crops=crops)
    with open_session(path, device="cpu") as session:
        (keypoints,) = session.run(crops)
    near = np.abs(keypoints[..., :2] - xy).max(-1) < 0.02
    assert near.mean() > 0.9  # the rest are ties
    np.testing.assert_allclose(keypoints[..., 2], scores, atol=1e-4)
    (maps,) = GraphReference(path).maps(crops)
    np.testing.assert_allclose(maps, predictor.heatmaps(crops), atol=1e-4)
