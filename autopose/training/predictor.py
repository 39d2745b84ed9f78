"""Run a torch network the way the runtime runs an exported one."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autopose.heatmap import Codec
from autopose.models.center import decode_centers
from autopose.skeleton import Skeleton
from autopose.training.bfloat16 import autocast
from autopose.training.config import Amp
from autopose.training.normalize import normalize


class TorchPredictor:
    """Crops to joints with a pose network.

    Args:
        network: in evaluation mode.
        codec: frames and decoding.
        skeleton: for the mirrored pass.
        flip: average the maps of the crop and of its mirror image.
        amp: mixed precision (evaluation during training).
    """

    def __init__(self, network: nn.Module, codec: Codec, skeleton: Skeleton, *, flip: bool, amp: Amp = "none") -> None:
        self.network, self.codec, self.skeleton, self.flip, self.amp = network.eval(), codec, skeleton, flip, amp
        self.device = next(network.parameters()).device

    def heatmaps(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return maps ``(N, K, h, w)`` of uint8 BGR crops ``(N, H, W, 3)``, flip-averaged if asked."""
        with torch.inference_mode(), autocast(self.amp, self.device):
            x = normalize(torch.from_numpy(np.ascontiguousarray(crops)).to(self.device))
            maps = self.network(x).float().cpu().numpy()
            if self.flip:
                mirrored = self.network(x.flip(-1)).float().cpu().numpy()
                maps = self.codec.merge_flipped(maps, mirrored, self.skeleton.flip_order)
        return np.asarray(maps, np.float32)

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return joints in crop pixels ``(N, K, 2)`` and scores ``(N, K)``."""
        return self.codec.decode(self.heatmaps(crops))


class TorchDetector:
    """Letterboxed images to persons with a detector network.

    Args:
        network: in evaluation mode, with a centre head.
        stride: of the head's maps.
        amp: mixed precision.
    """

    def __init__(self, network: nn.Module, stride: int, *, amp: Amp = "none") -> None:
        self.network, self.stride, self.amp = network.eval(), stride, amp
        self.device = next(network.parameters()).device

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return boxes ``(N, 100, 4)`` xyxy in input pixels and scores ``(N, 100)`` of uint8 BGR ``(N, H, W, 3)``."""
        with torch.inference_mode(), autocast(self.amp, self.device):
            x = normalize(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))
            boxes, scores = decode_centers(self.network(x).float(), self.stride)
        return boxes.cpu().numpy(), scores.cpu().numpy()
