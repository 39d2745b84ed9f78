"""Centre maps of the person detector: targets, loss and decoding (Objects as Points, Zhou et al. 2019).

Boxes are edges in input pixels (x0, y0, x1, y1), where a pixel covers [x, x + 1). The network's five output channels
per cell are: centre logit; log width and log height in cells; x and y of the box's centre relative to the cell's left
top corner, in cells. Sizes and offsets are learned at every cell near a centre, weighted by the centre's Gaussian
(TTFNet, Liu et al. 2020), which trains in fewer steps than the centre cell alone. So the cells around a centre are
asked too when a person is read off the maps: their mean is the better box, and where they disagree, fewer are persons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autopose.genotype import AutoPoseGenotype, Genotype

#: Persons reported per image at most.
MAX_PERSONS = 100
#: Gaussian's standard deviation as a share of the box's side (TTFNet: alpha / 6 = 0.54 / 6).
SIGMA_SHARE = 0.09
#: Agreement (mean IoU) of the cells around a centre at which its score stays what the centre map says.
TYPICAL_AGREEMENT = 0.7
#: Power of a cell's IoU with the middle one in its vote on the box.
_VOTE_POWER = 4


def head_stride(genotype: Genotype) -> int:
    """Return the input pixels per cell of a detector's maps."""
    assert isinstance(genotype, AutoPoseGenotype)  # no other kind has the centre head
    return genotype.head_stride


@dataclass(frozen=True)
class CenterTargets:
    """Targets of a batch on the head's grid.

    Attributes:
        heat: ``(N, h, w)`` 1 at centres, Gaussian around them.
        mask: ``(N, h, w)`` 0 where the image is not annotated reliably.
        box: ``(N, 4, h, w)`` xyxy in cells of the box that owns the cell.
        box_weight: ``(N, h, w)`` weight of the size loss, sums to the box's own weight.
        peak_weight: ``(N, h, w)`` weight of the box whose centre the cell is, 0 elsewhere.
        persons: summed weight of the boxes, for normalisation.
    """

    heat: Tensor
    mask: Tensor
    box: Tensor
    box_weight: Tensor
    peak_weight: Tensor
    persons: float

    def to(self, device: torch.device) -> "CenterTargets":
        """Return the targets on a device."""
        heat, mask, box, box_weight, peak_weight = (
            each.to(device) for each in (self.heat, self.mask, self.box, self.box_weight, self.peak_weight)
        )
        return CenterTargets(heat, mask, box, box_weight, peak_weight, self.persons)


def center_targets(
    boxes: Sequence[Tensor], weights: Sequence[Tensor], ignore: Sequence[Tensor], grid_wh: tuple[int, int], stride: int
) -> CenterTargets:
    """Draw the targets of a batch.

    Args:
        boxes: per image ``(n, 4)`` xyxy in input pixels.
        weights: per image ``(n,)`` confidence in each box, 0 to 1.
        ignore: per image ``(m, 4)`` regions whose content is unknown.
        grid_wh: width and height of the head's map.
        stride: input pixels per cell.
    """
    count, (width, height) = len(boxes), grid_wh
    heat = torch.zeros(count, height, width)
    mask = torch.ones(count, height, width)
    target = torch.zeros(count, 4, height, width)
    box_weight, peak_weight = torch.zeros(count, height, width), torch.zeros(count, height, width)
    ys, xs = torch.arange(height).float() + 0.5, torch.arange(width).float() + 0.5
    for i in range(count):
        for x0, y0, x1, y1 in (ignore[i] / stride).tolist():
            mask[i, max(int(y0), 0) : max(int(y1) + 1, 0), max(int(x0), 0) : max(int(x1) + 1, 0)] = 0
        cells = boxes[i] / stride
        order = torch.argsort((cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1]), descending=True)
        for j in order.tolist():  # small boxes last: they keep the cells that they share with large ones
            x0, y0, x1, y1 = cells[j].tolist()
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            column, row = int(cx), int(cy)
            if not (0 <= column < width and 0 <= row < height):
                continue
            sx, sy = max((x1 - x0) * SIGMA_SHARE, 0.4), max((y1 - y0) * SIGMA_SHARE, 0.4)
            # Centred on the cell, so that the peak is exactly 1 there.
            gx = torch.exp(-((xs - column - 0.5) ** 2) / (2 * sx * sx))
            gy = torch.exp(-((ys - row - 0.5) ** 2) / (2 * sy * sy))
            gaussian = gy[:, None] * gx[None, :]
            gaussian[gaussian < 0.1] = 0
            heat[i] = torch.maximum(heat[i], gaussian)
            mask[i][gaussian > 0] = 1  # an annotated person inside an unknown region still counts
            peak_weight[i, row, column] = max(float(peak_weight[i, row, column]), float(weights[i][j]))
            owned = gaussian > 0
            target[i][:, owned] = torch.tensor([x0, y0, x1, y1])[:, None]
            box_weight[i][owned] = gaussian[owned] / gaussian.sum() * float(weights[i][j])
    persons = float(sum(float(w.sum()) for w in weights))
    return CenterTargets(heat, mask, target, box_weight, peak_weight, max(persons, 1.0))


def cell_boxes(maps: Tensor) -> Tensor:
    """Return the boxes ``(N, 4, h, w)`` xyxy in cells that the maps ``(N, 5, h, w)`` describe at every cell."""
    height, width = maps.shape[-2:]
    xs = torch.arange(width, device=maps.device, dtype=maps.dtype)
    ys = torch.arange(height, device=maps.device, dtype=maps.dtype)[:, None]
    half_w, half_h = maps[:, 1].exp() / 2, maps[:, 2].exp() / 2
    cx, cy = maps[:, 3] + xs, maps[:, 4] + ys
    return torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], dim=1)


def center_loss(maps: Tensor, targets: CenterTargets, *, box_factor: float = 5.0) -> Tensor:
    """Return the focal loss of the centres plus ``box_factor`` times the generalised IoU loss of the boxes."""
    maps = maps.float()
    logit, heat = maps[:, 0], targets.heat
    probability = logit.sigmoid()
    positive = heat == 1
    positive_loss = F.softplus(-logit) * (1 - probability) ** 2 * targets.peak_weight * positive
    negative_loss = F.softplus(logit) * probability**2 * (1 - heat) ** 4 * ~positive
    focal = ((positive_loss + negative_loss) * targets.mask).sum() / targets.persons
    where = targets.box_weight > 0
    clamped = torch.cat([maps[:, :1], maps[:, 1:3].clamp(max=8), maps[:, 3:]], dim=1)
    predicted = cell_boxes(clamped).permute(0, 2, 3, 1)[where]
    wanted = targets.box.permute(0, 2, 3, 1)[where]
    boxes = ((1 - generalized_iou(predicted, wanted)) * targets.box_weight[where]).sum() / targets.persons
    return focal + box_factor * boxes


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU (Rezatofighi et al. 2019) of paired boxes ``(n, 4)`` xyxy."""
    overlap, union = _overlap_and_union(a, b)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    return overlap / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def _overlap_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas that paired boxes ``(..., 4)`` xyxy share and cover."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - overlap
    return overlap, union


def decode_centers(maps: Tensor, stride: int, max_persons: int = MAX_PERSONS) -> tuple[Tensor, Tensor]:
    """Read persons off the head's maps; traceable, so the exported graph ends in boxes.

    A cell is a person if its centre probability is the largest of its 3x3 neighbourhood. The nine cells there have
    learnt to describe the same box: the box is their mean, weighted by their probability and by how well they agree
    with the middle one, and the odds of the score are multiplied by their agreement over :data:`TYPICAL_AGREEMENT`.

    Args:
        maps: ``(N, 5, h, w)``.
        stride: input pixels per cell.
        max_persons: persons returned per image.

    Returns:
        Boxes ``(N, max_persons, 4)`` xyxy in input pixels and scores ``(N, max_persons)`` in falling order.
    """
    heat = maps[:, :1].sigmoid()
    peaks = heat * (F.max_pool2d(heat, 3, 1, 1) == heat)
    centers, index = peaks.flatten(1).topk(max_persons, dim=1)
    # A probability can underflow to 0, and nine of them would have no mean.
    cells = _neighbourhoods(torch.cat([heat.clamp(min=1e-4), cell_boxes(maps)], dim=1))
    cells = cells.gather(1, index[..., None].expand(-1, -1, cells.shape[-1])).unflatten(-1, (9, 5))
    weight, boxes = cells[..., 0], cells[..., 1:]
    overlap, union = _overlap_and_union(boxes, boxes[..., 4:5, :])
    alike = overlap / union.clamp(min=1e-6)
    agreement = (weight * alike).sum(-1) / weight.sum(-1)
    share = (weight * alike**_VOTE_POWER)[..., None]
    box = (boxes * share).sum(-2) / share.sum(-2)
    odds = agreement / TYPICAL_AGREEMENT
    return best_first(box * stride, centers * odds / (1 + centers * (odds - 1)))


def unmirrored(maps: Tensor) -> Tensor:
    """Return the maps ``(N, 5, h, w)`` of mirror images as those of the images themselves."""
    back = maps.flip(-1)
    return torch.cat([back[:, :3], 1 - back[:, 3:4], back[:, 4:]], dim=1)


def best_first(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes ``(N, D, 4)`` and scores ``(N, D)`` in falling order of the scores."""
    scores, order = scores.topk(scores.shape[1], dim=1)
    return boxes.gather(1, order[..., None].expand(-1, -1, 4)), scores


def _neighbourhoods(maps: Tensor) -> Tensor:
    """Return the 3x3 neighbourhood of every cell ``(N, h*w, 9*C)``, row by row; 0 beyond the edge."""
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (1, 1, 1, 1))
    shifted = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return torch.cat(shifted, dim=1).flatten(2).transpose(1, 2)
