"""Several processes training or searching together, each rank its own share of the batch.

In a search the architecture is the same everywhere, and gradients are averaged explicitly instead of by
``DistributedDataParallel``: all ranks run the same sampled path (their generators are seeded alike), so the parameters
that have a gradient are the same ones everywhere, and the others need no traffic, no bookkeeping and cannot deadlock.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from autopose.console import counted
from autopose.errors import UsageError

#: Ranks wait so long for rank 0, which packs the pictures or evaluates.
LONGEST_WAIT = timedelta(hours=3)


def rank() -> int:
    """Return which of the processes that ``torchrun`` started this is, from 0."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Return how many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def own_device() -> torch.device:
    """Return this process's GPU (that of its rank on this machine), or the CPU where there is none.

    A launcher may show each process a GPU of its own alone (``torchrun --virtual-local-rank``, a cluster's): then that.

    Raises:
        UsageError: ``torchrun`` started more processes on this machine than it has GPUs, which NCCL refuses to share.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number < gpus:
        return torch.device("cuda", number)
    if gpus == 1 and os.environ.get("CUDA_VISIBLE_DEVICES"):
        return torch.device("cuda", 0)
    processes = max(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), number + 1)
    raise UsageError(
        f"torchrun started {processes} processes on this machine, where torch sees {counted(gpus, 'GPU')}; "
        f"each needs its own.\nStart as many: --nproc-per-node {gpus}; or hide them: CUDA_VISIBLE_DEVICES=''."
    )


def wait() -> None:
    """Return once all ranks are here: rank 0 writes files that the others read or must not outlive."""
    if dist.is_initialized():
        dist.barrier()


class Group:
    """The processes that ``torchrun`` started, or this one alone.

    Args:
        device: of this process; decides between NCCL and Gloo.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world = rank(), world()
        self.owned = self.world > 1 and not dist.is_initialized()
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # NCCL's barrier, and whatever says "cuda", mean the current device
        if self.owned:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
        self.device = device

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors, the same ones in the same order on all ranks, by their mean over ranks."""
        found = list(tensors)
        if self.world == 1 or not found:
            return
        flat = torch.cat([tensor.flatten() for tensor in found])
        dist.all_reduce(flat)
        flat /= self.world
        offset = 0
        for tensor in found:
            tensor.copy_(flat[offset : offset + tensor.numel()].view(tensor.shape))
            offset += tensor.numel()

    def from_first(self, value: float) -> float:
        """Return rank 0's value on all ranks."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        if self.world == 1:
            return flag
        shared = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(shared)
        return bool(shared > 0)

    def close(self) -> None:
        """Leave the group if this object opened it."""
        if self.owned:
            dist.destroy_process_group()
