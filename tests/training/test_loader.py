"""Batches: what is drawn, how often, and the same after a restart or on several processes."""

import signal
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from autopose.errors import BackendError, MediaError
from autopose.training.loader import KeySampler, make_loader, steps_per_epoch


class Source:
    """Returns its index and a random number."""

    def __len__(self) -> int:
        return 6

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """Return (index, chance)."""
        return index, float(rng.random())


WEIGHTS = np.array([1, 1, 1, 1, 4, 0.5])


def test_each_sample_is_drawn_as_often_as_its_weight_says() -> None:
    weights = np.array([1.0, 3.0, 0.5, 7.5])
    assert steps_per_epoch(weights, 4) == 3
    assert steps_per_epoch(weights, 32) == 1
    sampler = KeySampler(weights, 4, seed=1, start=0, stop=300)
    drawn = np.bincount([key[0] for batch in sampler for key in batch], minlength=4)
    np.testing.assert_allclose(drawn / 100, weights, atol=1)
    np.testing.assert_allclose(drawn / 100, weights, rtol=0.15)


def test_a_restart_goes_on_where_it_was() -> None:
    whole = list(KeySampler(WEIGHTS, 3, seed=5, start=0, stop=20))
    assert whole[7:] == list(KeySampler(WEIGHTS, 3, seed=5, start=7, stop=20))
    assert whole != list(KeySampler(WEIGHTS, 3, seed=6, start=0, stop=20))
    keys = [key for batch in whole for key in batch]
    assert len({key[1:] for key in keys}) == len(keys) == 60  # each sample has a random stream of its own
    assert [key[0] for key in whole[0] + whole[1]] != sorted(key[0] for key in whole[0] + whole[1])
    assert [key[2] for batch in whole for key in batch] == sorted(key[2] for batch in whole for key in batch)


def test_two_processes_share_one_order() -> None:
    one = list(KeySampler(WEIGHTS, 4, seed=2, start=0, stop=6))
    ranks = [list(KeySampler(WEIGHTS, 2, seed=2, start=0, stop=6, rank=rank, world=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == one


def test_worker_processes_do_not_change_the_samples_and_outlive_the_loops_signals() -> None:
    def batches(workers: int) -> list[Any]:
        sampler = KeySampler(WEIGHTS, 3, seed=0, start=0, stop=8)
        return list(make_loader(Signalled(), sampler, list, workers))

    assert batches(0) == batches(1)
    assert len({chance for batch in batches(0) for _, chance in batch}) == 24


class Signalled(Source):
    """Is told to end with its process group, as by Ctrl-C and ``timeout``."""

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """Return (index, chance)."""
        if get_worker_info() is not None:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        return super().sample(index, rng)


class Broken(Source):
    """Cannot make its samples."""

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """Raise."""
        raise MediaError("a.jpg: the image is cut off: its end is missing.")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_a_picture_is_said_in_one_sentence(workers: int) -> None:
    with pytest.raises(MediaError, match=r"^a\.jpg: the image is cut off: its end is missing\.$"):
        list(make_loader(Broken(), KeySampler(WEIGHTS, 3, seed=0, start=0, stop=2), list, workers))


def test_without_room_in_shared_memory_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has 64 MiB of it; torch's own error is printed by a thread of the worker, and the loop would hang."""

    def full(tensor: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)\nbacktrace")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    sampler = KeySampler(WEIGHTS, 3, seed=0, start=0, stop=8)
    with pytest.raises(BackendError, match=r"No space left on device \(28\)\nGive the container more .*data.workers"):
        list(make_loader(Source(), sampler, lambda samples: (torch.zeros(3),), 1))
    assert len(list(make_loader(Source(), sampler, lambda samples: (torch.zeros(3),), 0))) == 8
