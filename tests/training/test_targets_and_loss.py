"""Targets and loss in torch against the codec and against numbers by hand; averages and schedules by formula."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from autopose.heatmap import Codec, Convention
from autopose.training.config import TrainSection
from autopose.training.ema import WeightAverage
from autopose.training.loss import heatmap_loss, heatmap_targets
from autopose.training.normalize import MEAN, STD, normalize
from autopose.training.schedule import learning_rate


@pytest.mark.parametrize("convention", ["aligned", "hrnet", "posenfs", "udp"])
def test_against_the_codec(convention: Convention) -> None:
    codec = Codec(convention=convention, sigma=1.7)
    rng = np.random.default_rng(0)
    xy = rng.uniform([-60, -60], [250, 320], (4, 17, 2)).astype(np.float32)
    weight = (rng.random((4, 17)) < 0.7).astype(np.float32)
    maps, used = heatmap_targets(codec, torch.from_numpy(xy), torch.from_numpy(weight))
    for i in range(4):
        wanted, wanted_weight = codec.encode(xy[i], weight[i])
        np.testing.assert_array_equal(used[i].numpy(), wanted_weight)
        visible = wanted_weight > 0
        np.testing.assert_allclose(maps[i].numpy()[visible], wanted[visible], atol=1e-5)


def test_a_joint_that_is_known_not_to_be_there_has_an_empty_map_that_counts() -> None:
    codec = Codec()
    xy = torch.full((1, 2, 2), float("nan"))
    xy[0, 1] = 50
    maps, used = heatmap_targets(codec, xy, torch.tensor([[1.0, 1.0]]))
    assert used.tolist() == [[1, 1]]
    assert not maps[0, 0].any()
    assert maps[0, 1].max() > 0.9
    wanted, wanted_weight = codec.encode(xy[0].numpy(), np.ones(2))
    np.testing.assert_array_equal(wanted_weight, [1, 1])
    np.testing.assert_allclose(maps[0].numpy(), wanted, atol=1e-6)
    assert not codec.encode(xy[0].numpy(), np.zeros(2))[1].any()


def test_loss_by_hand() -> None:
    maps, targets = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    maps[0, 0, 0, 0] = 2.0
    maps[0, 1] = 5.0  # weight 0: does not count
    loss = heatmap_loss(maps, targets, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(0.5 * (4 / 4) * 1.0 / 2)  # mean over cells, then over joints


def test_normalisation_by_hand() -> None:
    crop = torch.zeros(1, 1, 1, 3, dtype=torch.uint8)
    crop[0, 0, 0] = torch.tensor([10, 20, 30])  # B, G, R
    wanted = [(v / 255 - m) / s for v, m, s in zip((30, 20, 10), MEAN, STD, strict=True)]
    torch.testing.assert_close(normalize(crop)[0, :, 0, 0], torch.tensor(wanted))


def test_weight_average_by_formula() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = WeightAverage(network, 0.5)
    expected = 0.0
    for step in range(1, 8):
        nn.init.constant_(network.weight, float(step))
        average.update(network)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert next(average.network.parameters()).item() == pytest.approx(expected, rel=1e-6)


def test_the_average_counts_batches_as_the_network_does() -> None:
    """Integers are not averaged: the number of batches that a normalisation has seen is taken over."""
    network = nn.BatchNorm2d(2)
    average = WeightAverage(network, 0.5)
    for _ in range(3):
        network(torch.zeros(1, 2, 4, 4))
        average.update(network)
    assert average.network.state_dict()["num_batches_tracked"] == 3


def test_schedules_by_formula() -> None:
    cosine = TrainSection(lr=1.0, warmup_steps=10)
    assert learning_rate(0, 110, cosine) == pytest.approx(0.1)
    assert learning_rate(10, 110, cosine) == pytest.approx(1.0)
    assert learning_rate(60, 110, cosine) == pytest.approx(0.5)
    assert learning_rate(109, 110, cosine) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    paper = TrainSection(lr=1e-3, schedule="multistep", warmup_steps=0)
    rates = [learning_rate(epoch, 210, paper) for epoch in (0, 169, 170, 199, 200, 209)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    half = TrainSection(lr=1.0, schedule="multistep", milestones=(0.5,), warmup_steps=2)
    assert [learning_rate(step, 5, half) for step in range(5)] == pytest.approx([0.5, 1, 1, 0.1, 0.1])
    constant = TrainSection(lr=1.0, schedule="constant", warmup_steps=4)
    assert [learning_rate(step, 6, constant) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
