"""The detector's targets, loss and decoding, against each other and by hand."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from autopose.models.center import (
    cell_boxes,
    center_loss,
    center_targets,
    decode_centers,
    generalized_iou,
    unmirrored,
)


def _perfect_maps(boxes: torch.Tensor, grid: tuple[int, int], stride: int) -> torch.Tensor:
    """Write the maps that a perfect network would give, at the centre cells alone."""
    width, height = grid
    maps = torch.zeros(1, 5, height, width)
    maps[:, 0] = -9
    for x0, y0, x1, y1 in (boxes / stride).tolist():
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        column, row = int(cx), int(cy)
        maps[0, :, row, column] = torch.tensor(
            [6.0, torch.tensor(x1 - x0).log(), torch.tensor(y1 - y0).log(), cx - column, cy - row]
        )
    return maps


BOXES = torch.tensor([[10.0, 20.0, 50.0, 120.0], [100.0, 30.0, 131.0, 77.0]])


def test_roundtrip_of_boxes() -> None:
    boxes, scores = decode_centers(_perfect_maps(BOXES, (20, 20), 8), 8, max_persons=5)
    assert boxes.shape == (1, 5, 4)
    torch.testing.assert_close(boxes[0, :2].sort(0).values, BOXES.sort(0).values, atol=1e-3, rtol=0)
    assert (scores[0, :2] > 0.99).all()
    assert (scores[0, 2:] < 0.01).all()


def test_maps_of_the_mirror_image_describe_the_mirrored_boxes() -> None:
    maps = torch.randn(2, 5, 6, 9, generator=torch.Generator().manual_seed(0))
    x0, y0, x1, y1 = cell_boxes(maps).flip(-1).unbind(1)  # 9 cells wide
    torch.testing.assert_close(cell_boxes(unmirrored(maps)), torch.stack([9 - x1, y0, 9 - x0, y1], dim=1))
    torch.testing.assert_close(unmirrored(maps)[:, 0], maps[:, 0].flip(-1))


def _odds(score: float) -> float:
    return score / (1 - score)


def test_of_two_neighbouring_cells_only_the_higher_is_a_person() -> None:
    """Every cell describes a box of one cell around its left top corner, so that no two of them overlap."""
    maps = torch.full((1, 5, 6, 6), -9.0)
    maps[0, 1:] = 0
    maps[0, 0, 2, 2], maps[0, 0, 2, 3], maps[0, 0, 5, 5] = 2.0, 1.5, 1.0
    boxes, scores = decode_centers(maps, 4, max_persons=3)
    torch.testing.assert_close(boxes[0, :2], torch.tensor([[6.0, 6.0, 10.0, 10.0], [18.0, 18.0, 22.0, 22.0]]))
    nobody, middle, beside, corner = (1 / (1 + math.exp(-logit)) for logit in (-9.0, 2.0, 1.5, 1.0))
    agreement = middle / (middle + beside + 7 * nobody)
    assert _odds(float(scores[0, 0])) == pytest.approx(_odds(middle) * agreement / 0.7, rel=1e-4)
    agreement = corner / (corner + 3 * nobody)
    assert _odds(float(scores[0, 1])) == pytest.approx(_odds(corner) * agreement / 0.7, rel=1e-4)
    assert scores[0, 2] < 0.01


def test_neighbouring_cells_have_a_vote_on_the_box_and_a_say_in_the_score() -> None:
    """The cell right of the centre, half as probable, sees the same box one cell wider: IoU 4/5."""
    maps = _perfect_maps(torch.tensor([[16.0, 16.0, 48.0, 48.0]]), (8, 8), 8)  # cells 2 to 6
    maps[0, 0] = -30  # weight 1e-4, but the boxes of these cells, one cell wide, hardly overlap
    maps[0, 0, 4, 4] = math.log(0.8 / 0.2)
    maps[0, :, 4, 5] = torch.tensor([math.log(0.4 / 0.6), math.log(5), math.log(4), 4.5 - 5, 0])
    boxes, scores = decode_centers(maps, 8, max_persons=1)
    vote = 0.4 * 0.8**4
    right = 8 * (0.8 * 6 + vote * 7) / (0.8 + vote)
    torch.testing.assert_close(boxes[0, 0], torch.tensor([16.0, 16.0, right, 48.0]), atol=0.01, rtol=0)
    agreement = (0.8 + 0.4 * 0.8) / (0.8 + 0.4)
    assert _odds(float(scores[0, 0])) == pytest.approx(4 * agreement / 0.7, rel=2e-3)


def test_a_network_that_is_sure_of_nobody_gives_numbers() -> None:
    maps = torch.zeros(1, 5, 4, 4)
    maps[:, 0] = -200  # a probability of 0 in FP32
    boxes, scores = decode_centers(maps, 8, max_persons=3)
    assert boxes.isfinite().all()
    assert (scores == 0).all()


def test_targets_by_hand() -> None:
    targets = center_targets([BOXES], [torch.tensor([1.0, 0.5])], [torch.tensor([[0.0, 0.0, 160.0, 8.0]])], (20, 20), 8)
    assert targets.heat[0, 8, 3] == 1  # centre (30, 70) px = cell (3, 8)
    assert targets.heat[0, 6, 14] == 1  # centre (115.5, 53.5) px
    assert targets.heat.max() == 1
    assert (targets.mask[0, :2] == 0).all()  # the ignored strip, with the cell that it touches
    assert (targets.mask[0, 2:] == 1).all()
    assert targets.box_weight.sum() == pytest.approx(1.5, rel=1e-5)
    assert targets.persons == 1.5
    torch.testing.assert_close(targets.box[0, :, 8, 3] * 8, BOXES[0])


def test_targets_cell_by_cell() -> None:
    """A centre is as wide as its box; a cell is the smallest box's, its peak the surest's."""
    persons = [  # corners, weight, centre cell
        ((16.0, 16.0, 136.0, 152.0), 1.0, (9, 10)),
        ((56.0, 60.0, 76.0, 108.0), 0.9, (8, 10)),
        ((62.0, 80.0, 68.0, 90.0), 0.2, (8, 10)),
        ((150.0, 100.0, 190.0, 140.0), 0.5, None),  # beyond the right edge
    ]
    ignore = torch.tensor([[-20.0, -20.0, 20.0, 20.0], [84.0, 60.0, 120.0, 92.0]])
    boxes, weights = torch.tensor([box for box, _, _ in persons]), torch.tensor([weight for _, weight, _ in persons])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        targets = center_targets([boxes[order]], [weights[order]], [ignore], (20, 20), 8)
        heat, box, peak = torch.zeros(20, 20), torch.zeros(4, 20, 20), torch.zeros(20, 20)
        mask = torch.ones(20, 20)
        mask[0:3, 0:3] = mask[7:12, 10:16] = 0
        for (x0, y0, x1, y1), weight, cell in persons:
            if cell is None:
                continue
            for row, column in itertools.product(range(20), range(20)):
                sx, sy = (0.09 * side / 8 for side in (x1 - x0, y1 - y0))
                away = ((column - cell[0]) / sx) ** 2 + ((row - cell[1]) / sy) ** 2
                if math.exp(-away / 2) >= 0.1:
                    heat[row, column] = max(float(heat[row, column]), math.exp(-away / 2))
                    box[:, row, column], mask[row, column] = torch.tensor([x0, y0, x1, y1]) / 8, 1
                if away == 0:
                    peak[row, column] = max(float(peak[row, column]), weight)
        torch.testing.assert_close(targets.heat[0], heat)
        torch.testing.assert_close(targets.box[0], box)
        torch.testing.assert_close(targets.peak_weight[0], peak)
        assert targets.mask[0].equal(mask)
        assert targets.persons == pytest.approx(2.6)


def test_the_loss_by_its_formula() -> None:
    targets = center_targets([BOXES], [torch.tensor([1.0, 0.5])], [torch.tensor([[0.0, 0.0, 160.0, 8.0]])], (20, 20), 8)
    maps = torch.randn(1, 5, 20, 20, generator=torch.Generator().manual_seed(0))
    maps[0, 1:3, 8, 3] = 100  # a box of e^100 cells, beyond FP32; e^8 is the largest that counts
    probability = maps[:, 0].sigmoid()
    centre = -((1 - probability) ** 2) * probability.log() * targets.peak_weight
    elsewhere = -(probability**2) * (1 - targets.heat) ** 4 * (1 - probability).log()
    focal = torch.where(targets.heat == 1, centre, elsewhere)[targets.mask == 1].sum()
    predicted = cell_boxes(torch.cat([maps[:, :1], maps[:, 1:3].clamp(max=8), maps[:, 3:]], 1))
    unlike = 1 - generalized_iou(predicted[0].flatten(1).T, targets.box[0].flatten(1).T)
    boxes = (unlike * targets.box_weight.flatten()).sum()
    torch.testing.assert_close(center_loss(maps, targets), (focal + 5 * boxes) / 1.5)
    torch.testing.assert_close(center_loss(maps, targets, box_factor=2), (focal + 2 * boxes) / 1.5)
    half = maps.bfloat16()  # of mixed precision; the loss is taken in FP32
    torch.testing.assert_close(center_loss(half, targets), center_loss(half.float(), targets))


def test_a_perfect_answer_costs_less_than_any_other() -> None:
    targets = center_targets([BOXES], [torch.ones(2)], [torch.zeros(0, 4)], (20, 20), 8)
    perfect = torch.zeros(1, 5, 20, 20)
    heat = targets.heat.clamp(1e-4, 1 - 1e-4)
    perfect[:, 0] = (heat / (1 - heat)).log()
    columns, rows = torch.arange(20.0), torch.arange(20.0)[:, None]
    box = targets.box[0]
    width, height = (box[2] - box[0]).clamp(min=1), (box[3] - box[1]).clamp(min=1)
    perfect[0, 1:] = torch.stack(
        [width.log(), height.log(), (box[0] + box[2]) / 2 - columns, (box[1] + box[3]) / 2 - rows]
    )
    best = center_loss(perfect, targets)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        assert center_loss(perfect + 0.3 * torch.randn(perfect.shape, generator=generator), targets) > best
    inside = targets.box_weight > 0
    torch.testing.assert_close(cell_boxes(perfect).permute(0, 2, 3, 1)[inside], targets.box.permute(0, 2, 3, 1)[inside])


def test_ignored_regions_cost_nothing() -> None:
    ignore = torch.tensor([[0.0, 0.0, 160.0, 160.0]])
    targets = center_targets([torch.zeros(0, 4)], [torch.zeros(0)], [ignore], (20, 20), 8)
    assert center_loss(torch.randn(1, 5, 20, 20), targets) == 0


def test_generalized_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(generalized_iou(a, b), torch.tensor([2 / 6, -1 / 3]))


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(0)
    targets = center_targets([BOXES], [torch.ones(2)], [torch.zeros(0, 4)], (20, 20), 8)
    maps = (0.1 * torch.randn(1, 5, 20, 20)).requires_grad_()
    center_loss(maps, targets).backward()
    assert maps.grad is not None
    for index in [(0, 0, 8, 3), (0, 1, 8, 3), (0, 2, 6, 14), (0, 3, 8, 3)]:
        step = torch.zeros_like(maps)
        step[index] = 1e-2
        numeric = (center_loss(maps.detach() + step, targets) - center_loss(maps.detach() - step, targets)) / 2e-2
        assert maps.grad[index].item() == pytest.approx(numeric.item(), rel=0.05, abs=1e-3)


def test_a_doubtful_centre_counts_by_its_weight() -> None:
    """Two boxes, every logit 0: the loss of a centre is log 2 times (1 - 0.5)^2, times the box's weight."""
    maps = torch.zeros(1, 5, 20, 20)

    def centres(weights: list[float]) -> float:
        targets = center_targets([BOXES], [torch.tensor(weights)], [torch.zeros(0, 4)], (20, 20), 8)
        background = center_loss(maps, replace(targets, peak_weight=torch.zeros(1, 20, 20)), box_factor=0)
        return float((center_loss(maps, targets, box_factor=0) - background) * targets.persons)

    assert centres([1.0, 1.0]) == pytest.approx(2 * math.log(2) / 4, rel=1e-4)
    assert centres([1.0, 0.1]) == pytest.approx(1.1 * math.log(2) / 4, rel=1e-4)
