"""The policy finds a known best vector; its probabilities, entropy and baseline are what they should be."""

import math

import pytest
import torch

from autopose.search.controller import Controller, ControllerConfig, reinforce

BEST = (5, 12, 3)


def test_finds_the_best_vector_within_a_stated_budget() -> None:
    """1,500 updates of two vectors: 3,000 looks at a space of 4,096, paper's learning rate."""
    torch.manual_seed(0)
    controller = Controller((16, 16, 16), hidden=32)
    config = ControllerConfig(hidden=32)
    optimizer = torch.optim.Adam(controller.parameters(), lr=config.lr)
    generator = torch.Generator().manual_seed(0)
    entropies = []
    for _ in range(1500):
        update = reinforce(
            controller, optimizer, lambda m: sum(a == b for a, b in zip(m, BEST, strict=True)) / 3, config, generator
        )
        entropies.append(update.entropy)
    sampled = controller.sample(1000, generator)
    assert sum(macro == BEST for macro in sampled.macros) / 1000 > 0.9
    assert controller.most_likely() == BEST
    assert entropies[0] > 8.0
    assert sum(entropies[-100:]) / 100 < 0.25 * entropies[0]


def test_starts_nearly_uniform_with_the_largest_entropy() -> None:
    torch.manual_seed(0)
    controller = Controller((16, 16, 16))
    assert controller.entropy(torch.Generator().manual_seed(0)) == pytest.approx(3 * math.log(16), abs=0.05)


def test_log_probabilities_sum_to_one_over_all_sequences() -> None:
    torch.manual_seed(1)
    controller = Controller((2, 3), hidden=8)
    with torch.no_grad():
        for parameter in controller.parameters():
            parameter.mul_(10)
    seen = {}
    generator = torch.Generator().manual_seed(0)
    sampled = controller.sample(2000, generator)
    for macro, log_p in zip(sampled.macros, sampled.log_probability.tolist(), strict=True):
        seen[macro] = math.exp(log_p)
    assert len(seen) == 6
    assert sum(seen.values()) == pytest.approx(1.0, abs=1e-5)
    for macro, probability in seen.items():  # four standard deviations
        assert sampled.macros.count(macro) / 2000 == pytest.approx(probability, abs=0.045)
    shares = [seen[first, 0] / sum(seen[first, k] for k in range(3)) for first in range(2)]
    assert abs(shares[0] - shares[1]) > 0.02  # a token depends on the one before


def test_the_loss_is_that_of_reinforce_with_a_baseline() -> None:
    torch.manual_seed(0)
    controller = Controller((3, 4), hidden=4)
    controller.baseline.fill_(1.5)
    config = ControllerConfig(hidden=4, batch=6, entropy_weight=0.2)
    sampled = controller.sample(6, torch.Generator().manual_seed(3))
    rewards = torch.tensor([float(sum(macro)) for macro in sampled.macros])
    expected = -((rewards - 1.5) * sampled.log_probability).mean() - 0.2 * sampled.entropy.mean()
    optimizer = torch.optim.SGD(controller.parameters(), lr=0.1)
    head = controller.get_parameter("heads.1.weight")
    (gradient,) = torch.autograd.grad(expected, [head], retain_graph=True)
    before = head.detach().clone()
    update = reinforce(controller, optimizer, sum, config, torch.Generator().manual_seed(3))
    assert update.macros == sampled.macros
    assert update.loss == pytest.approx(float(expected.detach()))
    torch.testing.assert_close(head.detach(), before - 0.1 * gradient)


def test_baseline_starts_at_the_first_mean_and_moves_slowly() -> None:
    torch.manual_seed(0)
    controller = Controller((2,), hidden=4)
    optimizer = torch.optim.Adam(controller.parameters())
    config = ControllerConfig(hidden=4, batch=4, baseline_decay=0.9)
    generator = torch.Generator().manual_seed(0)
    reinforce(controller, optimizer, lambda _: 2.0, config, generator)
    assert float(controller.baseline) == pytest.approx(2.0)
    reinforce(controller, optimizer, lambda _: 3.0, config, generator)
    assert float(controller.baseline) == pytest.approx(0.9 * 2.0 + 0.1 * 3.0)


def test_the_entropy_bonus_alone_keeps_the_policy_uniform() -> None:
    torch.manual_seed(0)
    controller = Controller((4,), hidden=4)
    with torch.no_grad():
        controller.heads[0].bias.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))  # type: ignore[operator]
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.05)
    config = ControllerConfig(hidden=4, entropy_weight=1.0)
    generator = torch.Generator().manual_seed(0)
    before = controller.entropy(generator)
    for _ in range(100):
        reinforce(controller, optimizer, lambda _: 0.5, config, generator)
    assert controller.entropy(generator) > before + 0.3
