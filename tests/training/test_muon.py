"""Muon against torch's own (which takes matrices only), AdamW, and the singular value decomposition."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from autopose.training.config import TrainSection
from autopose.training.muon import Muon, is_matrix, orthogonalize
from autopose.training.optimizer import make_optimizer
from autopose.training.state import Progress, load_state, save_state


@pytest.mark.parametrize("shape", [(3, 24, 40), (2, 40, 24), (1, 32, 32)])
def test_orthogonal_direction_keeps_the_singular_vectors(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-3
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    projected = u.mT @ orthogonalize(matrices) @ vt.mT
    values = projected.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert (projected - torch.diag_embed(values)).abs().max() < 1e-9
    assert not orthogonalize(torch.zeros(shape)).any()  # of a layer that has no say yet


def test_half_precision_gives_the_same_directions() -> None:
    matrices = torch.randn((2, 48, 160), generator=torch.Generator().manual_seed(4))
    exact, half = orthogonalize(matrices), orthogonalize(matrices.bfloat16()).float()
    values = torch.linalg.svdvals(half)
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert torch.nn.functional.cosine_similarity(exact.flatten(1), half.flatten(1)).min() > 0.999


def test_recipes_in_bf16_make_directions_in_bf16() -> None:
    for amp, precision in (("bf16", torch.bfloat16), ("none", torch.float32)):
        optimizer = make_optimizer(nn.Linear(32, 32), TrainSection(optimizer="muon", amp=amp))
        assert isinstance(optimizer, Muon)
        assert optimizer.precision == precision


def test_recipes_set_what_muon_has_settings_for() -> None:
    network = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 1))
    settings = TrainSection(optimizer="muon", lr=0.01, betas=(0.5, 0.6), weight_decay=0.1)
    gradients = _gradients([tuple(p.shape) for p in network.parameters()], 3)
    other = copy.deepcopy(network)
    _run(make_optimizer(network, settings), list(network.parameters()), gradients)
    _run(Muon(other.parameters(), 0.01, betas=(0.5, 0.6), weight_decay=0.1), list(other.parameters()), gradients)
    torch.testing.assert_close(network.state_dict(), other.state_dict())


def _gradients(shapes: Sequence[tuple[int, ...]], steps: int) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(steps)]


def _run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], gradients: list[list[torch.Tensor]]) -> None:
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g.reshape(p.shape).clone()
        optimizer.step()


def test_matrices_move_as_torchs_muon_moves_them() -> None:
    shapes = [(32, 48), (64, 16), (32, 48)]
    gradients = _gradients(shapes, 6)
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in shapes]
    ours = [nn.Parameter(start[0].reshape(32, 48, 1, 1).clone()), nn.Parameter(start[1].clone())]
    ours.append(nn.Parameter(start[2].reshape(32, 12, 2, 2).clone()))
    theirs = [nn.Parameter(value.clone()) for value in start]
    unused = nn.Parameter(torch.ones(32, 32))  # without a gradient it stays, undecayed
    _run(Muon([*ours, unused], 0.02, weight_decay=0.1), ours, gradients)
    assert torch.equal(unused, torch.ones(32, 32))
    reference = torch.optim.Muon(theirs, 0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    _run(reference, theirs, gradients)
    for a, b, before in zip(ours, theirs, start, strict=True):
        moved = (b - before).norm()
        assert (a.reshape(b.shape) - b).norm() < 0.02 * moved  # torch iterates in bfloat16


def test_all_else_moves_as_adamw_moves_it() -> None:
    shapes: list[tuple[int, ...]] = [(40,), (40, 1, 5, 5), (8, 40, 1, 1), (40, 3)]
    gradients = _gradients(shapes, 6)
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(3)) for shape in shapes]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    assert not any(is_matrix(p) for p in ours)
    _run(Muon(ours, 0.01, weight_decay=0.1), ours, gradients)
    decayed = [{"params": theirs[1:], "weight_decay": 0.1}, {"params": theirs[:1], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(decayed, 0.01)
    _run(adamw, theirs, gradients)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_state_is_saved_and_restored(tmp_path: Path) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 4, 1))

    settings = TrainSection(optimizer="muon", lr=0.01, weight_decay=0.01)
    whole = network()
    gradients = _gradients([tuple(p.shape) for p in whole.parameters()], 6)
    _run(make_optimizer(whole, settings), list(whole.parameters()), gradients)
    first = network()
    optimizer = make_optimizer(first, settings)
    _run(optimizer, list(first.parameters()), gradients[:3])
    save_state(tmp_path, first, None, optimizer, Progress(identity="x"))
    second = network()
    optimizer = make_optimizer(second, settings)
    load_state(tmp_path, second, None, optimizer, "x")
    _run(optimizer, list(second.parameters()), gradients[3:])
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
