"""Heatmap targets on the device and the losses of the pose task."""

from functools import lru_cache

import torch
from torch import Tensor

from autopose.heatmap import Codec


@lru_cache(maxsize=8)
def _cells(width: int, height: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.arange(width, device=device).float(), torch.arange(height, device=device).float()


def heatmap_targets(codec: Codec, xy_crop: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return :meth:`Codec.encode` for a batch, on the tensors' device.

    Args:
        codec: frames and sigma.
        xy_crop: ``(N, K, 2)`` joints in crop pixels; NaN: known not to be there.
        weight: ``(N, K)`` label weights.

    Returns:
        Maps ``(N, K, h, w)``, 1 at the joint itself (less at the cells that it lies between), and weights ``(N, K)``,
        0 for joints outside the crop.
    """
    width, height = codec.heatmap_size_wh
    offset = 0.0 if codec.convention == "posenfs" else codec.offset
    xy = (xy_crop.float() - offset) / torch.tensor(codec.cell_wh, device=xy_crop.device)
    reach = 3 * codec.sigma
    limit = torch.tensor([width - 1.0, height - 1.0], device=xy.device) + reach
    inside = ((xy >= -reach) & (xy <= limit)).all(-1)
    weight = weight * (inside | xy.isnan().any(-1))
    xy = torch.where(inside[..., None], xy, 0)
    columns, rows = _cells(width, height, xy.device)
    spread = 2 * codec.sigma**2
    gx = torch.exp(-((columns - xy[..., :1]) ** 2) / spread)
    gy = torch.exp(-((rows - xy[..., 1:]) ** 2) / spread) * (inside & (weight > 0))[..., None]
    return gy[..., :, None] * gx[..., None, :], weight


def heatmap_loss(maps: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return half the mean squared error over cells, weighted per joint and averaged over joints and persons.

    HRNet's ``JointsMSELoss`` (AutoPose section 3.2.2 names the MSE loss).
    """
    squared = (maps.float() - targets).square().mean(dim=(-2, -1))
    return 0.5 * (squared * weight).mean()
