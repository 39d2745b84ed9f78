"""Architecture gradients against autograd through the unrolled step and against finite differences, in float64."""

import pytest
import torch
from torch import Tensor

from autopose.search.bilevel import Tensors, first_order, second_order
from autopose.search.space import Draw, open_space

LR = 0.05


def _problem() -> tuple[dict[str, Tensor], dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weights = {"first": draw(5, 4), "second": draw(1, 5), "unused": draw(2)}
    return weights, {"mix": draw(5), "gain": draw(1)}, [(draw(16, 4), draw(16, 1)) for _ in range(2)]


def _loss(data: tuple[Tensor, Tensor], weights: Tensors, arch: Tensors) -> Tensor:
    x, y = data
    hidden = torch.tanh(x @ weights["first"].T) * arch["mix"].softmax(-1)
    return ((hidden @ weights["second"].T * arch["gain"] - y) ** 2).mean()


def test_first_order_is_the_partial_derivative() -> None:
    weights, arch, (_, validation) = _problem()
    leaves = {name: value.clone().requires_grad_() for name, value in arch.items()}
    expected = torch.autograd.grad(_loss(validation, weights, leaves), list(leaves.values()))
    found = first_order(lambda w, a: _loss(validation, w, a), weights, arch)
    for name, value in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-14)


def test_cells_that_take_no_part_are_not_moved() -> None:
    """With all its branches off a network is stem and head: one of 4,096 draws."""
    weights, arch, (train, validation) = _problem()
    fixed = {name: value.clone() for name, value in arch.items()}
    assert first_order(lambda w, _: _loss(validation, w, fixed), weights, arch) == {}
    assert (
        second_order(
            lambda w, _: _loss(train, w, fixed), lambda w, _: _loss(validation, w, fixed), weights, arch, lr=LR
        )
        == {}
    )


def test_second_order_against_finite_differences_of_the_unrolled_loss() -> None:
    weights, arch, (train, validation) = _problem()
    found = second_order(
        lambda w, a: _loss(train, w, a), lambda w, a: _loss(validation, w, a), weights, arch, lr=LR, radius=1e-4
    )

    def unrolled(values: dict[str, Tensor]) -> float:
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        grads: tuple[Tensor | None, ...] = torch.autograd.grad(
            _loss(train, leaves, values), list(leaves.values()), allow_unused=True
        )
        ahead = {
            name: value if grad is None else value - LR * grad
            for (name, value), grad in zip(weights.items(), grads, strict=True)
        }
        return float(_loss(validation, ahead, values))

    for name, value in arch.items():
        for i in range(value.numel()):
            sides = []
            for sign in (1, -1):
                moved = {key: other.clone() for key, other in arch.items()}
                moved[name][i] += sign * 1e-5
                sides.append(unrolled(moved))
            expected = (sides[0] - sides[1]) / 2e-5
            assert abs(float(found[name][i]) - expected) < 1e-7 * max(1.0, abs(expected)) + 1e-8


def test_the_finite_difference_moves_the_weights_by_the_radius() -> None:
    """A loss of heatmaps has gradients so small that a step in proportion to them would drown in rounding."""
    weights, arch, (train, validation) = _problem()
    seen: list[Tensors] = []

    def noted(w: Tensors, a: Tensors) -> Tensor:
        seen.append(w)
        return _loss(train, w, a)

    second_order(noted, lambda w, a: 1e-6 * _loss(validation, w, a), weights, arch, lr=LR, radius=0.01)
    _, plus, minus = seen
    for side in (plus, minus):
        moved = torch.cat([(side[name] - weights[name]).flatten() for name in weights])
        assert float(moved.detach().norm()) == pytest.approx(0.01)
    flat = second_order(noted, lambda w, a: (a["gain"] ** 2).sum() + 0 * w["first"].sum(), weights, arch, lr=LR)
    torch.testing.assert_close(flat["gain"], 2 * arch["gain"])  # nowhere to move to


def test_second_order_differs_from_first_order() -> None:
    weights, arch, (train, validation) = _problem()
    one = first_order(lambda w, a: _loss(validation, w, a), weights, arch)
    two = second_order(lambda w, a: _loss(train, w, a), lambda w, a: _loss(validation, w, a), weights, arch, lr=LR)
    assert (one["mix"] - two["mix"]).abs().max() > 1e-3 * one["mix"].abs().max()


def test_second_order_runs_through_the_supernet() -> None:
    tiny = {"channels": (4, 4, 4, 4), "stem_channels": 4, "stem_expansion": 1, "modules_per_stage": 1}
    torch.manual_seed(0)
    supernet = open_space("autopose", tiny).supernet(2).double()
    draw = Draw((8, 8, 8), supernet.sample_noise(torch.Generator().manual_seed(0)))
    batches = [torch.randn(2, 3, 64, 64, dtype=torch.float64) for _ in range(2)]

    def loss(images: Tensor, weights: Tensors, arch: Tensors) -> Tensor:
        tensors = {**weights, **{f"arch.{name}": value for name, value in arch.items()}}
        maps: Tensor = torch.func.functional_call(supernet, tensors, (images, draw))
        return ((maps - 1) ** 2).mean()

    weights, arch = dict(supernet.named_weights()), dict(supernet.arch.items())
    found = second_order(
        lambda w, a: loss(batches[0], w, a), lambda w, a: loss(batches[1], w, a), weights, arch, lr=0.1
    )
    limit = second_order(
        lambda w, a: loss(batches[0], w, a), lambda w, a: loss(batches[1], w, a), weights, arch, lr=1e-9
    )
    first = first_order(lambda w, a: loss(batches[1], w, a), weights, arch)
    torch.testing.assert_close(limit["individual_0"], first["individual_0"], rtol=1e-5, atol=1e-9)
    assert not torch.equal(found["individual_0"], first["individual_0"])
