"""What a training run is resumed from: weights, average, optimiser and step."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autopose.training import resumable
from autopose.training.ema import WeightAverage


@dataclass
class Progress(resumable.Progress):
    """How far a run is.

    Attributes:
        best: best figure on the tune split so far.
        ema_updates: updates of the weight average.
        world: number of processes.
        total: steps that the whole run has.
        data: :func:`~autopose.training.data_checksum.data_checksum`; 0: not known, as in older states.
        loss: its running mean, for the log.
    """

    best: float = -1.0
    ema_updates: int = 0
    world: int = 1
    total: int = 0
    data: int = 0
    loss: float = 0.0


def save_state(
    folder: Path,
    network: nn.Module,
    average: WeightAverage | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write everything that the next step depends on."""
    tensors: dict[str, Tensor] = {f"network/{key}": value for key, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{key}": value for key, value in average.network.state_dict().items()}
        progress.ema_updates = average.updates
    tensors |= resumable.optimizer_tensors("optimizer", optimizer)
    resumable.save_resumable(folder, tensors, progress)


def load_state(
    folder: Path, network: nn.Module, average: WeightAverage | None, optimizer: torch.optim.Optimizer, identity: str
) -> Progress:
    """Restore the newest whole state that :func:`save_state` wrote and return the progress.

    Raises:
        UsageError: there is none.
        ModelError: none is whole, or it is of another genotype or configuration.
    """
    tensors, progress = resumable.load_resumable(folder, Progress, identity)
    network.load_state_dict(resumable.part(tensors, "network/"))
    if average is not None:
        average.network.load_state_dict(resumable.part(tensors, "average/"))
        average.updates = progress.ema_updates
    resumable.restore_optimizer("optimizer", optimizer, tensors)
    return progress
