"""An optimiser goes on as if it had never stopped."""

import torch

from autopose.training.resumable import optimizer_tensors, restore_optimizer


def test_optimiser_moments_return_in_the_parameters_formats() -> None:
    def make() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
        idle = torch.nn.Parameter(torch.randn(2))
        return parameter, torch.optim.Adam([idle, parameter], lr=0.1)

    def step(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        optimizer.step()

    a, first = make()
    step(a, first)
    saved = {name: value.contiguous().clone() for name, value in optimizer_tensors("x", first).items()}
    assert all(name.startswith("x/1/") for name in saved)
    b, second = make()
    with torch.no_grad():
        b.copy_(a)
    restore_optimizer("x", second, saved)
    assert second.state[b]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    step(a, first)
    step(b, second)
    assert torch.equal(a, b)
