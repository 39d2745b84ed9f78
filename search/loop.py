"""The search loop: data, epochs, checkpoints, logs; what happens in an iteration is the strategy's."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autopose.checkpoint import Checkpoint, save_checkpoint
from autopose.config import to_toml
from autopose.data.skeletons import joints_to_resume
from autopose.errors import UsageError
from autopose.files import write_atomic
from autopose.genotype import Genotype
from autopose.search.bilevel_search import BilevelSearch
from autopose.search.config import SearchConfig
from autopose.search.monitor import Journal, alarms, entropy, free_shares, largest_entropy
from autopose.search.random_search import RandomSearch
from autopose.search.reward import Reward
from autopose.search.samples import Batch, SearchData, to_device
from autopose.search.space import SearchSpace, Supernet, open_space
from autopose.search.state import Progress
from autopose.search.strategy import Found, Setting, Strategy
from autopose.training.distributed import Group, own_device
from autopose.training.interrupt import interruptible
from autopose.training.log import refuse_other_run
from autopose.training.normalize import normalize
from autopose.training.resumable import is_resumable, load_resumable, save_resumable

#: Batches from which the averages of inherited normalisations are taken.
SETTLING = 40
#: Called with (iterations done, iterations in all, the last epoch's entry or None); candidates that are ranked at the
#: end count as iterations.
Watch = Callable[[int, int, dict[str, Any] | None], None]


@dataclass(frozen=True)
class SearchResult:
    """Where a search stands when it returns.

    Attributes:
        genotype: the result; None if the search was interrupted (it can be resumed).
        folder: run folder.
    """

    genotype: Genotype | None
    folder: Path


class Run:
    """One search in one folder.

    Args:
        config: the search.
        folder: ``genotype.json``, ``log.jsonl``, ``config.toml``, ``checkpoints/``, ``tensorboard/`` are written here.
        resume: go on from the folder's last state.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not set, or nothing to resume.
    """

    def __init__(self, config: SearchConfig, folder: Path, *, resume: bool = False) -> None:
        self.config, self.loop, self.folder = config, config.search, folder
        self.states = folder / "checkpoints"
        if is_resumable(self.states) and not resume:
            raise UsageError(
                f"{folder}: holds a search already. Add --resume to go on, or choose another folder with -o."
            )
        refuse_other_run(folder, "epoch")
        self.device = own_device()
        self.group = Group(self.device)
        self.space: SearchSpace = open_space(config.space, config.space_settings())
        torch.manual_seed(self.loop.seed)
        self.data = SearchData(config, folder, self.group.rank, self.group.world)
        self.supernet: Supernet = self.space.supernet(len(self.data.skeleton)).to(self.device)
        self.supernet = self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cuda" and self.group.world > 1:
            self.supernet = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.supernet)
        self.supernet.train()
        setting = Setting(
            config,
            self.space,
            self.supernet,
            Reward(config, self.space, self.supernet, self.data),
            torch.Generator().manual_seed(self.loop.seed),
            self.group,
            self.device,
        )
        self.strategy: Strategy = (BilevelSearch if self.loop.strategy == "bilevel" else RandomSearch)(setting)
        self.progress = Progress(identity=config.model_dump_json() + joints_to_resume(config.skeleton))
        if resume:
            tensors, self.progress = load_resumable(self.states, Progress, self.progress.identity)
            self.strategy.restore(tensors)
        self.journal: Journal | None = None
        if self.group.rank == 0:
            write_atomic(folder / "config.toml", to_toml(config))
            self.journal = Journal(folder, self.progress.epoch)
        self.saved = time.monotonic()
        self.begun, self.before = time.monotonic(), self.progress.seconds

    @property
    def total(self) -> int:
        """Return the number of iterations of the whole search."""
        return self.loop.epochs * self.loop.iterations

    def save(self) -> None:
        """Write the state (rank 0)."""
        self.progress.seconds = self.before + time.monotonic() - self.begun
        if self.group.rank == 0:
            save_resumable(self.states, self.strategy.tensors(), self.progress)
        self.saved = time.monotonic()

    def save_if_due(self) -> None:
        """Write the state if the last one is old."""
        if time.monotonic() - self.saved >= 60 * self.loop.save_minutes:
            self.save()

    def batches(self) -> Generator[tuple[Batch, Batch | None]]:
        """Yield what each remaining iteration learns from."""
        start, stop = self.progress.step, self.total
        train = self.data.batches("weights", start, stop)
        if self.loop.own_share == 0:
            for batch in train:
                yield to_device(batch, self.device), None
            return
        for batch, arch in zip(train, self.data.batches("arch", start, stop), strict=True):
            yield to_device(batch, self.device), to_device(arch, self.device)

    def search(self, watch: Watch | None = None) -> SearchResult:
        """Run to the end, or to SIGTERM or Ctrl-C: then the state is saved and the genotype of the result is None."""
        progress, loop = self.progress, self.loop
        # Closed at once, also after an error: whose traceback would keep the loaders alive, and they the program.
        with closing(self.batches()) as batches, interruptible() as asked:
            while progress.epoch < loop.epochs:
                self._set_temperature(progress.epoch)
                while progress.step < (progress.epoch + 1) * loop.iterations:
                    losses = self.strategy.iterate(progress, *next(batches))
                    for name, value in losses.items():
                        progress.sums[name] = progress.sums.get(name, 0.0) + value
                    progress.step += 1
                    self._tell(watch)
                    if self._leave(asked()):
                        return SearchResult(None, self.folder)
                while progress.updates < self.strategy.updates(progress.epoch):
                    progress.rewards += self.strategy.update(progress)
                    progress.updates += 1
                    if self._leave(asked()):
                        return SearchResult(None, self.folder)
                self._end_epoch(watch)
            while progress.ranked < self.strategy.to_rank():
                self.strategy.rank(progress)
                progress.ranked += 1
                self._tell(watch)
                if self._leave(asked()):
                    return SearchResult(None, self.folder)
        return self._finish()

    def _tell(self, watch: Watch | None, entry: dict[str, Any] | None = None) -> None:
        if watch is not None:
            done, total = self.progress.step + self.progress.ranked, self.total + self.strategy.to_rank()
            watch(done, total, entry)

    def _leave(self, asked: bool) -> bool:
        """Save if it is time or somebody asked to stop; return whether to stop."""
        if self.group.any(asked):
            self.save()
            self._close()
            return True
        self.save_if_due()
        return False

    def _set_temperature(self, epoch: int) -> None:
        done = epoch / max(self.loop.epochs - 1, 1)
        self.supernet.temperature = self.loop.temperature + done * (self.loop.temperature_end - self.loop.temperature)

    def _end_epoch(self, watch: Watch | None) -> None:
        progress = self.progress
        macro = self.strategy.macro(progress)
        with self.strategy.adapted(macro):
            figures = self.strategy.s.reward.figures(macro) if self.journal is not None else {}
        if self.journal is not None:
            probabilities = self.supernet.probabilities()
            entry: dict[str, Any] = {
                "epoch": progress.epoch + 1,
                **{name: value / self.loop.iterations for name, value in progress.sums.items()},
                **figures,
                "arch_entropy": entropy(probabilities),
                **free_shares(self.supernet),
                **self.strategy.figures(),
                "macro": self.space.describe_macro(macro),
                "seconds": round(self.before + time.monotonic() - self.begun, 1),
            }
            if progress.rewards:
                entry["reward"] = sum(progress.rewards) / len(progress.rewards)
            entry["alarms"] = alarms(entry, self.loop.alarm_share, largest_entropy(self.space.macro_choices))
            entry["probabilities"] = {
                name: [[round(value, 4) for value in row] for row in table.tolist()]
                for name, table in probabilities.items()
            }
            self.journal.write(entry)
            self._tell(watch, entry)
        progress.epoch, progress.updates, progress.sums, progress.rewards = progress.epoch + 1, 0, {}, []
        self.save()

    def _finish(self) -> SearchResult:
        found: Found = self.strategy.finish(self.progress)
        genotype = self.space.derive(
            self.supernet, found.macro, name=self.folder.name, provenance=self._provenance(found)
        )
        if self.group.rank == 0:
            weights = self.space.derived_weights(self.supernet, genotype, self._inputs())
            if weights is not None:
                save_checkpoint(self.folder / "best.safetensors", self._checkpoint(genotype, weights))
            genotype.save(self.folder / "genotype.json")
        self._close()
        return SearchResult(genotype, self.folder)

    def _inputs(self) -> Iterator[Tensor]:
        """Yield batches of the weights' images, for a space that asks for them."""
        for crops, _, _ in self.data.batches("weights", 0, SETTLING):
            yield normalize(crops)

    def _checkpoint(self, genotype: Genotype, weights: dict[str, Tensor]) -> Checkpoint:
        """Return the result with the supernet's weights: a model that can be evaluated, exported or trained further."""
        return Checkpoint(
            genotype=genotype,
            state=weights,
            codec=self.config.codec,
            skeleton=self.data.skeleton,
            name=genotype.name,
            config=self.config.model_dump(mode="json"),
        )

    def _provenance(self, found: Found) -> dict[str, Any]:
        goal = self.strategy.s.reward.goal
        latency = {} if goal is None else {"latency_ms": round(goal.latency_ms(self.supernet, found.macro), 3)}
        return latency | {
            "search": {"space": self.config.space, "strategy": self.loop.strategy, "seed": self.loop.seed},
            "epochs": self.loop.epochs,
            "iterations": self.loop.iterations,
            "shared_weight_score": _four_digits(found.score),
            "candidates": [
                {"macro": self.space.describe_macro(macro), "score": _four_digits(score)}
                for macro, score in sorted(found.candidates, key=lambda pair: -pair[1])[:10]
            ],
            "ranked": len(found.candidates),
        }

    def _close(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self.group.close()


def _four_digits(score: float) -> float:
    """Return a score as it is written: of seeds whose scores are all far below one the best must still be known."""
    return float(f"{score:.4g}")
