"""The baseline that a search must beat: random architectures, the same number of gradient steps and of evaluations.

Where the bi-level search updates the architecture, this one updates the weights once more, on the batch that the
architecture would have learned from; it ranks as many architectures as the controller would have looked at.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from autopose.search.samples import Batch
from autopose.search.space import Draw, Macro, use_batch_statistics
from autopose.search.state import Progress
from autopose.search.strategy import Found, Setting, Strategy


class RandomSearch(Strategy):
    """Random search with shared or separate weights (``search.random_sharing``)."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.separate = self.loop.random_sharing == "separate"
        if not self.separate:  # averages would be those of the whole supernet, and no candidate's
            use_batch_statistics(setting.supernet)
        self.fresh = {name: tensor.clone() for name, tensor in setting.supernet.state_dict().items()}
        with torch.no_grad():
            for table in setting.supernet.arch_parameters():
                table.zero_()  # uniform samples
        if self.separate:
            self.current = self._random()

    def _random(self) -> Macro:
        self.s.supernet.randomize(self.s.generator)
        return self.s.space.random_macro(self.s.generator)

    def looked_at(self) -> int:
        """Return how many architectures are scored, as many as the controller would have looked at."""
        policy, loop = self.s.config.controller, self.loop
        if self.separate or not self.s.space.macro_choices:
            return loop.candidates
        return loop.candidates + policy.updates * policy.batch * max(loop.epochs - policy.start_epoch, 0)

    def iterate(self, progress: Progress, train: Batch, arch: Batch | None) -> dict[str, float]:
        """Update the weights, twice where the other search would update its cells."""
        # While the other search trains its weights alone, this one has no second step either.
        second = arch if progress.epoch >= self.loop.arch_start_epoch else None
        losses = []
        for step, batch in enumerate((train, second), start=self._steps_before(progress.step)):
            if batch is None:
                continue
            if self.separate and step and self._turn(step) != self._turn(step - 1):
                self._close(progress)
                self._reset()
            losses.append(self.step_weights(batch, self._draw(), step))
        return {"weight_loss": sum(losses) / len(losses)}

    def _steps_before(self, iteration: int) -> int:
        """Return how many updates of the weights come before an iteration: it has one, or two."""
        loop = self.loop
        twice = loop.own_share > 0
        return iteration + (max(0, iteration - loop.arch_start_epoch * loop.iterations) if twice else 0)

    def _turn(self, step: int) -> int:
        """Return which separate candidate has an update of the weights: all have equally many."""
        return step * self.looked_at() // self._steps_before(self.loop.epochs * self.loop.iterations)

    def _draw(self) -> Draw:
        if self.separate:
            return Draw(self.current)
        return Draw(self.s.space.random_macro(self.s.generator), self.s.supernet.sample_noise(self.s.generator))

    def rate(self, step: int) -> float:
        """Return the learning rate of an update; separate candidates each get a whole cosine."""
        total = self._steps_before(self.loop.epochs * self.loop.iterations)
        return self.between(step * self.looked_at() % total if self.separate else step, total)

    def _close(self, progress: Progress) -> None:
        """Score the candidate that has had its part of the budget."""
        score = self.score(self.current)
        memory = progress.memory
        memory.setdefault("candidates", []).append([list(self.current), score])
        if score > memory.get("best", -1.0):
            memory["best"] = score
            memory["best_macro"] = list(self.current)
            memory["best_arch"] = {name: table.tolist() for name, table in self.s.supernet.arch.items()}

    def _reset(self) -> None:
        self.s.supernet.load_state_dict(self.fresh)
        self.optimizer = self.weight_optimizer()
        self.current = self._random()

    def macro(self, progress: Progress) -> Macro:
        """Return the current candidate, or everything switched on."""
        return self.current if self.separate else tuple(count - 1 for count in self.s.space.macro_choices)

    def to_rank(self) -> int:
        """Return the number of candidates that are still to be scored; of separate ones the last."""
        return 1 if self.separate else self.looked_at()

    def rank(self, progress: Progress) -> None:
        """Score a candidate."""
        if not self.separate:
            self.current = self._random()
        self._close(progress)

    def finish(self, progress: Progress) -> Found:
        """Keep the best candidate."""
        memory = progress.memory
        with torch.no_grad():
            for name, table in self.s.supernet.arch.items():
                table.copy_(torch.tensor(memory["best_arch"][name]))
        self.s.supernet.drawn = True  # also where a process drew them that was stopped since
        candidates = [(tuple(macro), score) for macro, score in memory["candidates"]]
        return Found(tuple(memory["best_macro"]), memory["best"], candidates)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state; separate candidates add theirs."""
        extra = {"current": torch.tensor(self.current, dtype=torch.int64)} if self.separate else {}
        return super().tensors() | extra

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put it back."""
        super().restore(tensors)
        if self.separate:
            self.current = tuple(int(token) for token in tensors["current"])
