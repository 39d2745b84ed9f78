"""One training run: its network, optimiser, data and progress; a step, an evaluation and what is saved of it."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autopose.checkpoint import Checkpoint, save_checkpoint
from autopose.config import to_toml
from autopose.console import counted
from autopose.data.skeletons import joints_to_resume, open_skeleton
from autopose.errors import ConfigError, UsageError
from autopose.files import write_atomic
from autopose.genotype import Genotype
from autopose.models.network import build_network
from autopose.training.bfloat16 import autocast
from autopose.training.config import TrainConfig
from autopose.training.distributed import Group
from autopose.training.ema import WeightAverage
from autopose.training.initialisation import initialise
from autopose.training.loader import KeySampler, make_loader, steps_per_epoch
from autopose.training.log import rewind_log
from autopose.training.optimizer import make_optimizer
from autopose.training.schedule import learning_rate
from autopose.training.state import Progress, load_state, save_state
from autopose.training.tasks import make_task


class Run:
    """A training run: what its steps share, and what is done with it.

    Args:
        genotype: the network.
        config: the recipe.
        out: run folder.
        ranks: the processes that train it.
        resume: go on from ``out``.
        init: start from these weights.

    Attributes:
        network: what is trained; ``model`` is the same, wrapped for several processes and compiled where asked for.
        average: of its weights; None if the recipe wants none.
        progress: how far the run is; the only thing besides weights and optimiser that changes from step to step.

    Raises:
        UsageError: it was trained with other data or processes, or there is nothing whole to resume.
    """

    def __init__(
        self, genotype: Genotype, config: TrainConfig, out: Path, ranks: Group, *, resume: bool, init: Checkpoint | None
    ) -> None:
        self.genotype, self.config, self.out, self.ranks = genotype, config, out, ranks
        settings = config.train
        torch.manual_seed(settings.seed)
        self.skeleton = open_skeleton(config.skeleton)
        network = build_network(genotype, len(self.skeleton)).to(ranks.device)
        if settings.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if init is not None:
            initialise(network, init, genotype, self.skeleton)
        self.network = network
        self.average = WeightAverage(network, settings.ema) if settings.ema else None
        self.optimizer = make_optimizer(network, settings)
        self.task = make_task(config, genotype, out, ranks.device)
        self.progress = self._resumed() if resume else self._begun()
        if ranks.rank == 0:
            genotype.save(out / "genotype.json")
            write_atomic(out / "config.toml", to_toml(config))
            rewind_log(out, "step", self.progress.step)
        self.model: nn.Module = network
        if ranks.world > 1:
            # A fabric's backbone may have levels that no part reads.
            self.model = DistributedDataParallel(network, find_unused_parameters=genotype.kind == "fabric")
        if settings.compile:
            self.model = torch.compile(self.model)  # type: ignore[assignment]

    def _begun(self) -> Progress:
        settings, world = self.config.train, self.ranks.world
        identity = (
            f"{self.genotype.fingerprint()} {self.config.model_dump_json()}{joints_to_resume(self.config.skeleton)}"
        )
        total = settings.steps or settings.epochs * steps_per_epoch(self.task.weights, settings.batch * world)
        return Progress(identity=identity, world=world, total=total, data=self.task.data)

    def _resumed(self) -> Progress:
        now = self._begun()
        progress = load_state(self.out, self.network, self.average, self.optimizer, now.identity)
        _check_same(self.out, progress, now)
        progress.data = now.data
        return progress

    def loader(self) -> Generator[Any]:
        """Yield this process's batches of the steps that are left."""
        settings, progress, ranks = self.config.train, self.progress, self.ranks
        sampler = KeySampler(
            self.task.weights, settings.batch, settings.seed, progress.step, progress.total, ranks.rank, ranks.world
        )
        return make_loader(self.task.source, sampler, self.task.collate, self.config.data.workers)

    def learn(self, batch: Any) -> None:
        """Take one step on a batch."""
        settings, progress = self.config.train, self.progress
        rate = learning_rate(progress.step, progress.total, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        try:
            with autocast(settings.amp, self.ranks.device):
                loss = self.task.loss(self.model, batch)
        except RuntimeError as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise _not_compiled(error) from None
            raise
        value = _check_finite(loss, progress.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        progress.step += 1
        progress.loss = value if progress.step == 1 or not progress.loss else 0.98 * progress.loss + 0.02 * value

    @property
    def kept(self) -> nn.Module:
        """Return the network that is evaluated and kept: the average, where there is one."""
        return self.network if self.average is None else self.average.network

    def evaluate(self) -> dict[str, float]:
        """Return the figures on the tune split, and write the checkpoint if none was better."""
        metrics = self.task.evaluate(self.kept)
        if metrics[self.task.metric] >= self.progress.best:
            self.progress.best = metrics[self.task.metric]
            save_checkpoint(self.out / "best.safetensors", self._checkpoint(metrics | {"step": self.progress.step}))
        return metrics

    def save(self) -> None:
        """Write what the run is resumed from, and the latest checkpoint."""
        save_state(self.out, self.network, self.average, self.optimizer, self.progress)
        save_checkpoint(self.out / "last.safetensors", self._checkpoint({"step": self.progress.step}))

    def entry(self, metrics: dict[str, float] | None) -> dict[str, Any]:
        """Return the log's entry of the step that was taken last."""
        progress = self.progress
        return {
            "step": progress.step,
            "loss": progress.loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(progress.seconds, 1),
            "samples": progress.step * self.config.train.batch * self.ranks.world,
            **({"tune": metrics} if metrics else {}),
        }

    def _checkpoint(self, metrics: dict[str, float]) -> Checkpoint:
        return Checkpoint(
            genotype=self.genotype,
            state=self.kept.state_dict(),
            codec=self.config.codec,
            task=self.config.task,
            skeleton=self.skeleton,
            name=self.genotype.name,
            config=self.config.model_dump(mode="json"),
            metrics=metrics,
        )


def _check_same(out: Path, progress: Progress, now: Progress) -> None:
    """Refuse to go on with other data or another number of processes: the same step would mean something else.

    Raises:
        UsageError: it is so.
    """
    if progress.world != now.world:
        raise UsageError(
            f"{out}: was trained by {counted(progress.world, 'process', 'processes')}; now there are {now.world}. "
            "Resume with as many, or start anew in another folder, with --init to go on from these weights."
        )
    if progress.total != now.total:
        raise UsageError(
            f"{out}: was to have {progress.total} steps, and now the data make {now.total}: they have changed. "
            "Resume with the data of the first call, or start anew in another folder, with --init to go on from these "
            "weights."
        )
    if progress.data not in (0, now.data):
        raise UsageError(
            f"{out}: the data have changed since its last step (other pictures, records or weights). Resume with the "
            "data of the first call, or start anew in another folder, with --init to go on from these weights."
        )


def _not_compiled(error: RuntimeError) -> UsageError:
    reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
    return UsageError(
        f"train.compile: torch.compile cannot compile the network here: {reason}\n"
        "It needs a C++ compiler on a CPU and Triton on a GPU. Install it, or set train.compile=false."
    )


def _check_finite(loss: Tensor, step: int) -> float:
    value = loss.item()
    if not torch.isfinite(loss):
        raise ConfigError(
            f"The loss became {value} at step {step}. Lower train.lr, or set train.clip or train.amp=none."
        )
    return value
