"""The compiler's version of batch normalisation against torch's layer."""

import copy
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from torch import nn

from autopose.models.batch_norm import BatchNorm


@pytest.fixture
def compiling() -> Iterator[None]:
    """Take the branch that the compiler takes, without minutes of compiling."""
    with patch("torch.compiler.is_compiling", return_value=True):
        yield


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("affine", [True, False])
def test_against_torchs_layer(affine: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5, affine=affine, momentum=0.1), nn.BatchNorm2d(5, affine=affine, momentum=0.1)
    if affine:
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    direction = torch.randn(4, 5, 6, 7)
    with patch.object(nn.BatchNorm2d, "forward", side_effect=AssertionError("torch's layer ran")):
        x = torch.randn(4, 5, 6, 7) * 3 + 1.5
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = ours(a)
    z = theirs(b)
    assert torch.allclose(y, z, atol=1e-5)
    (y * direction).sum().backward()
    (z * direction).sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert torch.allclose(a.grad, b.grad, atol=1e-5)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None, name
        assert torch.allclose(p.grad, q.grad, atol=1e-4), name  # type: ignore[arg-type]
    for (name, kept), wanted in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(kept, wanted, atol=1e-6), name
    assert ours.num_batches_tracked == 1


@pytest.mark.usefixtures("compiling")
def test_half_precision_keeps_its_type_and_full_precision_statistics() -> None:
    layer = BatchNorm(3)
    x = torch.randn(8, 3, 16, 16).bfloat16() + 100  # BF16 steps are 0.5 here; squares must not be
    y = layer(x)
    assert y.dtype == torch.bfloat16
    wanted = x.float().var((0, 2, 3))
    assert layer.running_var is not None
    assert torch.allclose(layer.running_var, 0.9 + 0.1 * wanted, rtol=1e-3)


@pytest.mark.usefixtures("compiling")
def test_evaluation_is_torchs() -> None:
    layer = BatchNorm(3).eval()
    reference = copy.deepcopy(layer)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(layer(x), nn.BatchNorm2d.forward(reference, x))
