"""A graph that crops by itself: one frame up, all its persons' keypoints in frame pixels down.

The crops of all persons are sampled by one GridSample: their grids are stacked on top of each other into one tall grid
over the single frame, so the frame is never copied per person.
"""

from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint
from autopose.errors import ModelError
from autopose.export.deployed import PoseGraph
from autopose.export.slim import number_names, strip_notes
from autopose.export.to_onnx import OPSET, deployed_module, manifest_for, quiet_exporter, set_manifest
from autopose.files import atomic_path


def sample_crops(frame: Tensor, matrices: Tensor, size_wh: tuple[int, int]) -> Tensor:
    """Sample affine crops, as :func:`autopose.affine.warp` does on the CPU.

    Args:
        frame: ``(1, H, W, 3)`` uint8.
        matrices: ``(N, 2, 3)`` float32 from crop to frame pixels.
        size_wh: of the crops.

    Returns:
        ``(N, h, w, 3)`` float32 of whole values 0-255; outside of the frame is 0.
    """
    width, height = size_wh
    x = torch.arange(width, dtype=torch.float32).expand(height, width)
    y = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(1, -1, 3)  # (1, h w, 3)
    at = points @ matrices.transpose(1, 2)  # (N, h w, 2) in frame pixels
    picture = frame.to(torch.float32).permute(0, 3, 1, 2)
    # GridSample's corners are the centres of the outer pixels: -1 is pixel 0, 1 is pixel W - 1.
    sides = torch.tensor([frame.shape[2] - 1, frame.shape[1] - 1], dtype=torch.float32)
    grid = (at * (2 / sides) - 1).reshape(1, -1, width, 2)  # (1, N h, w, 2)
    tall = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return tall.reshape(3, -1, height, width).permute(1, 2, 3, 0).round()


class FramePoseGraph(nn.Module):
    """A pose graph with the cropping before it and the way back behind it.

    Args:
        pose: takes uint8 crops, decodes.
    """

    def __init__(self, pose: PoseGraph) -> None:
        super().__init__()
        self.pose = pose

    def forward(self, frame: Tensor, matrices: Tensor) -> Tensor:
        """Return keypoints ``(N, K, 3)`` in frame pixels and score; see :func:`sample_crops` for the inputs."""
        keypoints = self.pose(sample_crops(frame, matrices, self.pose.codec.input_size_wh))
        xy = keypoints[..., :2] @ matrices[..., :2].transpose(1, 2) + matrices[:, None, :, 2]
        return torch.cat([xy, keypoints[..., 2:]], dim=-1)


def export_frame_graph(checkpoint: Checkpoint, out: Path, *, flip: bool = True) -> Path:
    """Write the graph with inputs ``frame`` and ``matrices``; frame size and number of persons are free.

    No session of the runtime opens it yet: it is for pipelines of one's own on a GPU.

    Raises:
        ModelError: the checkpoint is a detector.
    """
    manifest = manifest_for(checkpoint, flip=flip)
    pose = deployed_module(checkpoint, manifest)
    if not isinstance(pose, PoseGraph):
        raise ModelError(f"{checkpoint.name!r} is a detector; a graph that crops persons needs a pose model.")
    module = FramePoseGraph(pose).eval()
    example = (torch.zeros(1, 120, 160, 3, dtype=torch.uint8), torch.eye(2, 3).repeat(2, 1, 1))
    sides = {1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["frame", "matrices"],
            output_names=["keypoints"],
            dynamic_shapes=(sides, {0: torch.export.Dim("persons")}),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_notes(model)
    number_names(model)
    set_manifest(model, manifest)
    with atomic_path(out) as temporary:
        onnx.save(model, str(temporary))
    return out
