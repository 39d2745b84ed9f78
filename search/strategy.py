"""What a search does in one iteration, between epochs and at the end; the loop does everything else."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from autopose.errors import ConfigError
from autopose.search.config import SearchConfig
from autopose.search.reward import Reward
from autopose.search.samples import Batch, to_device
from autopose.search.space import Draw, Macro, SearchSpace, Supernet
from autopose.search.state import Progress
from autopose.training.bfloat16 import autocast
from autopose.training.distributed import Group
from autopose.training.loss import heatmap_loss, heatmap_targets
from autopose.training.normalize import normalize
from autopose.training.resumable import optimizer_tensors, part, restore_optimizer


@dataclass
class Setting:
    """What every strategy works with.

    Attributes:
        config: the search.
        space: what is searched.
        supernet: on its device.
        reward: scores network-level decisions.
        generator: of all architecture sampling, on the CPU, the same on all ranks.
        group: the processes.
        device: of the supernet.
    """

    config: SearchConfig
    space: SearchSpace
    supernet: Supernet
    reward: Reward
    generator: torch.Generator
    group: Group
    device: torch.device


@dataclass(frozen=True)
class Found:
    """The result: network-level decisions, their score with shared weights, and all candidates' (macro, score)."""

    macro: Macro
    score: float
    candidates: list[tuple[Macro, float]]


class Strategy(ABC):
    """One way to search."""

    def __init__(self, setting: Setting) -> None:
        self.s = setting
        self.loop = setting.config.search
        self.weights = dict(setting.supernet.named_weights())
        self.optimizer = self.weight_optimizer()
        self._reward_batches: list[Batch] = []

    def weight_optimizer(self) -> torch.optim.Optimizer:
        """Return a fresh optimiser of the shared weights."""
        loop, parameters = self.loop, list(self.weights.values())
        if loop.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=loop.lr, momentum=0.9, weight_decay=loop.weight_decay)
        return torch.optim.Adam(parameters, lr=loop.lr, weight_decay=loop.weight_decay)

    @abstractmethod
    def iterate(self, progress: Progress, train: Batch, arch: Batch | None) -> dict[str, float]:
        """Do iteration ``progress.step`` and return its losses."""

    def updates(self, epoch: int) -> int:
        """Return the number of :meth:`update` calls after an epoch (0-based)."""
        return 0

    def update(self, progress: Progress) -> list[float]:
        """Do one update between epochs and return its rewards."""
        raise NotImplementedError

    @abstractmethod
    def macro(self, progress: Progress) -> Macro:
        """Return the network-level decisions by which an epoch is judged."""

    @abstractmethod
    def to_rank(self) -> int:
        """Return the number of :meth:`rank` calls after the last epoch."""

    @abstractmethod
    def rank(self, progress: Progress) -> None:
        """Draw a candidate, score it, and remember both."""

    @abstractmethod
    def finish(self, progress: Progress) -> Found:
        """Choose the result; the supernet's tables are left at the chosen architecture."""

    def figures(self) -> dict[str, float]:
        """Return further figures for the log."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Return what must be saved."""
        supernet = {f"supernet/{key}": value for key, value in self.s.supernet.state_dict().items()}
        generator = {"generator": self.s.generator.get_state()}
        return supernet | generator | optimizer_tensors("weights", self.optimizer)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`tensors` returned."""
        self.s.supernet.load_state_dict(part(tensors, "supernet/"))
        self.s.generator.set_state(tensors["generator"])
        restore_optimizer("weights", self.optimizer, tensors)

    def rate(self, step: int) -> float:
        """Return the weights' learning rate: cosine over the whole search."""
        return self.between(step, self.loop.epochs * self.loop.iterations)

    def between(self, step: int, total: int) -> float:
        """Return the learning rate of a step: a cosine from ``search.lr`` to ``search.lr_end``."""
        return self.loop.lr_end + (self.loop.lr - self.loop.lr_end) * (1 + math.cos(math.pi * step / total)) / 2

    def loss(self, batch: Batch, draw: Draw, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the heatmap loss of one architecture (with other parameters than the supernet's own, if given)."""
        crops, xy, weight = batch
        codec = self.s.config.codec
        if not self.s.supernet.training:  # a reward came before
            self.s.supernet.train()
        with autocast(self.loop.amp, self.s.device):
            x = normalize(crops)
            if parameters is None:
                maps = self.s.supernet(x, draw)
            else:
                maps = functional_call(self.s.supernet, dict(parameters), (x, draw))
        targets, weight = heatmap_targets(codec, xy, weight)
        return heatmap_loss(maps, targets, weight)

    def trainable(self, *, weights: bool, arch: bool) -> None:
        """Say what the next loss is differentiated by; nothing else is saved for it."""
        for parameter in self.weights.values():
            parameter.requires_grad_(weights)
        for table in self.s.supernet.arch_parameters():
            table.requires_grad_(arch)

    def step_weights(self, batch: Batch, draw: Draw, step: int) -> float:
        """Do one optimiser step on the weights that the draw uses; the others keep their moments."""
        return self._learn(self.optimizer, batch, draw, self.rate(step), step)

    def score(self, macro: Macro) -> float:
        """Return the reward of network-level decisions, the same on all ranks."""
        with self.adapted(macro):
            return self.s.group.from_first(self.s.reward(macro) if self.s.group.rank == 0 else 0.0)

    @contextmanager
    def adapted(self, macro: Macro) -> Iterator[None]:
        """Train the weights for one candidate alone (``search.reward_steps``); put all back at the end."""
        steps = self.loop.reward_steps
        if not steps:
            yield
            return
        if not self._reward_batches:
            batches = self.s.reward.data.batches("weights", 0, steps)
            self._reward_batches = [to_device(batch, self.s.device) for batch in batches]
        shared = {name: weight.detach().clone() for name, weight in self.weights.items()}
        averages = {name: buffer.clone() for name, buffer in self.s.supernet.named_buffers()}
        optimizer = self.weight_optimizer()
        for step, batch in enumerate(self._reward_batches):
            self._learn(optimizer, batch, Draw(macro), self.between(step, steps), step)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(shared[name])
                    weight.grad = None
                for name, buffer in self.s.supernet.named_buffers():
                    buffer.copy_(averages[name])

    def _learn(self, optimizer: torch.optim.Optimizer, batch: Batch, draw: Draw, rate: float, step: int) -> float:
        self.trainable(weights=True, arch=False)
        loss = self.loss(batch, draw)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return self._apply_weights(optimizer, loss, rate, step)

    def _apply_weights(self, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, step: int) -> float:
        gradients = [p.grad for p in self.weights.values() if p.grad is not None]
        self.s.group.average(gradients)
        if self.loop.clip:
            torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.loop.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return finite(loss, step)


def finite(loss: Tensor, step: int) -> float:
    """Return the loss's value, refusing what is not a number."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ConfigError(f"The loss became {value} at iteration {step}. Lower search.lr, or set search.clip.")
    return value
