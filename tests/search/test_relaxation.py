"""The estimators of the architecture gradient, against the formulas written out."""

import pytest
import torch

from autopose.search.mixed_op import MixedCell
from autopose.search.relaxation import relax
from autopose.search.space import gumbel

OPS = ("conv1", "conv3", "conv5", "avgpool3", "maxpool3", "skip")


def _cell(inputs: int = 1, nodes: int = 3) -> tuple[MixedCell, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    cell = MixedCell(OPS, 3, inputs, nodes).double()
    rows = sum(inputs + node for node in range(nodes))
    logits = torch.randn(rows, len(OPS), dtype=torch.float64, requires_grad=True)
    return cell, logits, gumbel(logits.detach(), torch.Generator().manual_seed(1))


def _all_operations(cell: MixedCell, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the cell's output with every operation of every edge run and weighted, nothing shared."""
    sources, row = [x], 0
    for _ in range(cell.nodes):
        total = torch.zeros_like(x)
        for source in list(sources):
            for k, op in enumerate(OPS):
                module = cell.edges[row][k]  # type: ignore[index]
                total = total + weights[row, k] * module(source.relu() if op.startswith("conv") else source)
            row += 1
        sources.append(total)
    result: torch.Tensor = cell.project(sources[1:])
    return result


def test_single_path_equals_all_operations_with_the_unsampled_terms_detached() -> None:
    cell, logits, noise = _cell()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    y = cell([x], relax(logits, noise, 0.7, "single"))
    wanted = (logits, x, *cell.parameters())
    found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(y, wanted, upstream, allow_unused=True)

    p = ((logits.log_softmax(-1) + noise) / 0.7).softmax(-1)
    sampled = torch.nn.functional.one_hot((logits + noise).argmax(-1), len(OPS)).double()
    weights = sampled * (1 - p.detach() + p)  # the unsampled terms: weight 0, no gradient
    reference = _all_operations(cell, x, weights)
    expected = torch.autograd.grad(reference, wanted, upstream)
    torch.testing.assert_close(y, reference, rtol=0, atol=1e-12)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.zeros_like(b) if a is None else a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("mode", ["full", "soft"])
def test_full_and_soft_gradients_are_those_of_the_formula(mode: str) -> None:
    cell, logits, noise = _cell()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    upstream = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    y = cell([x], relax(logits, noise, 0.7, mode))  # type: ignore[arg-type]
    (found,) = torch.autograd.grad(y, logits, upstream)
    p = ((logits.log_softmax(-1) + noise) / 0.7).softmax(-1)
    sampled = torch.nn.functional.one_hot((logits + noise).argmax(-1), len(OPS)).double()
    reference = _all_operations(cell, x, p if mode == "soft" else sampled - p.detach() + p)
    (expected,) = torch.autograd.grad(reference, logits, upstream)
    torch.testing.assert_close(y, reference, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_full_runs_one_operation_where_alpha_needs_no_gradient() -> None:
    _, logits, noise = _cell()
    assert relax(logits, noise, 1.0, "full").weights is not None
    choice = relax(logits.detach(), noise, 1.0, "full")
    assert choice.weights is None
    assert choice.gate is None


def test_without_noise_the_most_likely_operation_runs_ungated() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], requires_grad=True)
    choice = relax(logits, None, 1.0, "single")
    assert choice.index == [1, 0]
    assert choice.gate is None


def test_gumbel_samples_follow_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0]]).expand(20000, 3)
    drawn = torch.tensor(relax(logits, gumbel(logits, torch.Generator().manual_seed(0)), 1.0, "single").index)
    shares = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, logits[0].softmax(-1), rtol=0, atol=0.015)


def test_only_sampled_operations_run_and_save() -> None:
    cell, logits, noise = _cell(nodes=4)
    x = torch.randn(2, 3, 16, 12, dtype=torch.float64)
    saved = {}
    for mode in ("single", "soft"):
        kept: dict[int, int] = {}
        ran: list[object] = []
        own = {parameter.data_ptr() for parameter in cell.parameters()}
        handles = [
            part.register_forward_hook(lambda module, *_, ran=ran: ran.append(module))
            for part in cell.edges.modules()
            if isinstance(part, torch.nn.Conv2d)
        ]

        def pack(t: torch.Tensor, kept: dict[int, int] = kept, own: set[int] = own) -> torch.Tensor:
            if t.data_ptr() not in own:
                kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            cell([x], relax(logits, noise, 1.0, mode))
        for handle in handles:
            handle.remove()
        saved[mode] = sum(kept.values())
        convolutions = sum(OPS[k].startswith("conv") for k in relax(logits, noise, 1.0, "single").index)
        assert len(ran) == (convolutions if mode == "single" else 30)
    assert saved["single"] <= saved["soft"] / 3
