"""From uint8 BGR crops to the network's input."""

import torch
from torch import Tensor

#: Mean and standard deviation of RGB in 0-1 (ImageNet's, as HRNet).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalize(crops: Tensor, *, channels_last: bool = True) -> Tensor:
    """Map uint8 BGR ``(N, H, W, 3)`` to normalised float32 RGB ``(N, 3, H, W)``."""
    rgb = crops.flip(-1).permute(0, 3, 1, 2).float()
    mean = torch.tensor(MEAN, device=crops.device).view(3, 1, 1) * 255
    std = torch.tensor(STD, device=crops.device).view(3, 1, 1) * 255
    x = (rgb - mean) / std
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
