"""Batches whose content depends only on (seed, epoch, position): what makes an exact resume possible."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from autopose.errors import AutoposeError, BackendError

#: (index of the sample, seed, epoch, position in the epoch)
Key = tuple[int, int, int, int]


class SampleSource(Protocol):
    """A dataset that makes sample ``index`` with a given random generator."""

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """Return one sample, augmented with ``rng``."""
        ...


class _Keyed(Dataset[Any]):
    def __init__(self, source: SampleSource) -> None:
        self.source = source

    def __getitem__(self, key: Key) -> Any:
        index, *stream = key
        return self.source.sample(index, np.random.default_rng(stream))


class KeySampler(Sampler[list[Key]]):
    """Draws batches of keys, from step ``start`` on.

    Args:
        weights: ``(n,)`` how often each sample is drawn relative to the others.
        batch: samples per step and process.
        seed: of the order.
        start: first step (steps before it are skipped, not drawn).
        stop: step after the last.
        rank: this process.
        world: number of processes; each draws its own share of one common order.
    """

    def __init__(
        self, weights: NDArray[np.floating], batch: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
    ) -> None:
        self.probability = weights / weights.sum()
        self.batch, self.seed, self.start, self.stop, self.rank, self.world = batch, seed, start, stop, rank, world
        self.per_epoch = steps_per_epoch(weights, batch * world)

    def __len__(self) -> int:
        return self.stop - self.start

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's order: systematic sampling, so that each sample's count is within 1 of its expectation."""
        rng = np.random.default_rng([self.seed, epoch])
        count = self.per_epoch * self.batch * self.world
        edges = np.cumsum(self.probability)
        points = (rng.random() + np.arange(count)) / count * edges[-1]
        drawn: NDArray[np.int64] = np.minimum(np.searchsorted(edges, points), len(edges) - 1)
        rng.shuffle(drawn)
        return drawn

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.zeros(0, np.int64)
        for step in range(self.start, self.stop):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                order = self._order(epoch)
            first = (step % self.per_epoch * self.world + self.rank) * self.batch
            yield [(int(order[i]), self.seed, epoch, i) for i in range(first, first + self.batch)]


def steps_per_epoch(weights: NDArray[np.floating], batch: int) -> int:
    """Return the steps of a pass in which each sample is drawn ``weight`` times on average."""
    return max(round(float(weights.sum()) / batch), 1)


def make_loader(
    source: SampleSource, sampler: KeySampler, collate: Callable[[Sequence[Any]], Any], workers: int
) -> Generator[Any]:
    """Yield the collated batches.

    Raises:
        AutoposeError: a sample cannot be made; in its own words, where torch would hand on the worker's traceback.
        BackendError: there is no room in shared memory.
    """
    loader: DataLoader[Any] = DataLoader(
        _Keyed(source),
        batch_sampler=sampler,
        collate_fn=_Shared(collate) if workers else collate,
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        worker_init_fn=_one_thread if workers else None,
    )
    batches = iter(loader)
    try:
        yield from batches
    except AutoposeError as error:
        words = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
        raise type(error)(words.rstrip()) from None
    finally:
        # At once: an error keeps the iterator alive until the interpreter ends, which then waits for processes that
        # ignore its signal to end. An error of the loop's own does so as well, unless it closes this generator.
        if isinstance(batches, _MultiProcessingDataLoaderIter):
            batches._shutdown_workers()


class _Shared:
    """Collates into memory that is shared with the loop.

    torch would do it, too, when it sends the batch; what goes wrong then is printed, and the loop waits for ever.
    """

    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        batch = self.collate(samples)
        try:
            for item in batch:
                if isinstance(item, Tensor):
                    item.share_memory_()
        except RuntimeError as error:
            raise BackendError(
                f"The loader processes cannot hand over what they loaded: {str(error).splitlines()[0]}\n"
                "Give the container more shared memory (docker run --shm-size 8g), or load with fewer processes: "
                "--set data.workers=1; 0 needs none."
            ) from None
        return batch


def _one_thread(worker: int) -> None:
    """Keep a loader process on one core (OpenCV would otherwise take all of them from the network), and alive.

    Ctrl-C and ``timeout`` signal the whole process group; the loop wants to finish its step and save, for which it
    needs its loaders. They end when the loop closes them.
    """
    import signal

    import cv2
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
