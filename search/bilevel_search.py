"""Algorithm 1: weights and cells by gradient, network-level decisions by a controller, alternating."""

from collections.abc import Mapping

import torch
from torch import Tensor

from autopose.search.bilevel import gradients, second_order
from autopose.search.controller import Controller, reinforce
from autopose.search.samples import Batch
from autopose.search.space import Draw, Macro
from autopose.search.state import Progress
from autopose.search.strategy import Found, Setting, Strategy, finite
from autopose.training.resumable import optimizer_tensors, part, restore_optimizer


class BilevelSearch(Strategy):
    """The paper's search; spaces without network-level decisions have no controller."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        loop, policy = self.loop, setting.config.controller
        self.arch_optimizer = torch.optim.Adam(
            [{"params": setting.supernet.arch_parameters()}],  # a group may be empty: a supernet without tables
            lr=loop.arch_lr,
            betas=loop.arch_betas,
            weight_decay=loop.arch_weight_decay,
        )
        self.controller: Controller | None = None
        if setting.space.macro_choices:
            self.controller = Controller(setting.space.macro_choices, policy.hidden).to(setting.device)
            self.controller_optimizer = torch.optim.Adam(self.controller.parameters(), lr=policy.lr, betas=policy.betas)

    def _started(self, epoch: int) -> bool:
        return self.controller is not None and epoch >= self.s.config.controller.start_epoch

    def _sample_macro(self, epoch: int) -> Macro:
        if self.controller is None or not self._started(epoch):
            return self.s.space.random_macro(self.s.generator)
        with torch.no_grad():
            return self.controller.sample(1, self.s.generator).macros[0]

    def _draw(self, macro: Macro) -> Draw:
        return Draw(macro, self.s.supernet.sample_noise(self.s.generator))

    def iterate(self, progress: Progress, train: Batch, arch: Batch | None) -> dict[str, float]:
        """Sample the branches, update the weights, then the cells (the other way round with ``arch_first``)."""
        macro = self._sample_macro(progress.epoch)
        if not self.s.supernet.arch:
            return {"weight_loss": self.step_weights(train, self._draw(macro), progress.step)}
        if self.loop.gradient == "sync":
            step = self._step_both if progress.epoch >= self.loop.arch_start_epoch else self.step_weights
            return {"weight_loss": step(train, self._draw(macro), progress.step)}
        assert arch is not None
        losses: dict[str, float] = {}
        for level in ("arch", "weights") if self.loop.arch_first else ("weights", "arch"):
            if level == "weights":
                losses["weight_loss"] = self.step_weights(train, self._draw(macro), progress.step)
            elif progress.epoch >= self.loop.arch_start_epoch:
                losses["arch_loss"] = self._step_arch(train, arch, self._draw(macro), progress.step)
        return losses

    def _step_arch(self, train: Batch, arch: Batch, draw: Draw, step: int) -> float:
        tables: dict[str, Tensor] = dict(self.s.supernet.arch.items())
        if self.loop.gradient == "second":
            seen: list[Tensor] = []

            def loss_of(batch: Batch, weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
                return self.loss(batch, draw, {**weights, **{f"arch.{k}": v for k, v in values.items()}})

            def validation(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
                seen.append(self._with_latency(loss_of(arch, weights, values), values, draw.macro))
                return seen[-1]

            found = second_order(
                lambda weights, values: loss_of(train, weights, values),
                validation,
                self.weights,
                tables,
                lr=self.rate(step),
            )
            loss = seen[0]
        else:
            self.trainable(weights=False, arch=True)
            loss = self._with_latency(self.loss(arch, draw), tables, draw.macro)
            found = gradients(loss, tables)
        value = finite(loss, step)  # before it is in the tables
        for name, table in tables.items():
            table.grad = found.get(name)
        self.s.group.average(found.values())
        self.arch_optimizer.step()
        return value

    def _with_latency(self, loss: Tensor, tables: Mapping[str, Tensor], macro: Macro) -> Tensor:
        goal = self.s.reward.goal
        return loss if goal is None else loss + goal.penalty(tables, macro, loss)

    def _step_both(self, batch: Batch, draw: Draw, step: int) -> float:
        self.trainable(weights=True, arch=True)
        tables: dict[str, Tensor] = dict(self.s.supernet.arch.items())
        loss = self._with_latency(self.loss(batch, draw), tables, draw.macro)
        finite(loss, step)  # before it is in the tables
        self.optimizer.zero_grad(set_to_none=True)
        self.arch_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.s.group.average([t.grad for t in self.s.supernet.arch_parameters() if t.grad is not None])
        for group in self.arch_optimizer.param_groups:  # one schedule for both: PNFS has one Adam for all
            group["lr"] = self.loop.arch_lr * self.rate(step) / self.loop.lr
        self.arch_optimizer.step()
        return self._apply_weights(self.optimizer, loss, self.rate(step), step)

    def updates(self, epoch: int) -> int:
        """Return N_ctr once the controller learns."""
        return self.s.config.controller.updates if self._started(epoch) else 0

    def update(self, progress: Progress) -> list[float]:
        """Do one REINFORCE update; weights and cells are frozen."""
        assert self.controller is not None
        config = self.s.config.controller
        update = reinforce(self.controller, self.controller_optimizer, self.score, config, self.s.generator)
        return update.rewards

    def macro(self, progress: Progress) -> Macro:
        """Return the controller's most likely decisions; before it learns, the last choice of every step."""
        if self.controller is None or not self._started(progress.epoch):
            return tuple(count - 1 for count in self.s.space.macro_choices)
        return self.controller.most_likely()

    def to_rank(self) -> int:
        """Return N of the derivation (section 3.3); where there is nothing to decide, there is one candidate."""
        return self.loop.candidates if self.s.space.macro_choices else 1

    def rank(self, progress: Progress) -> None:
        """Sample decisions and score them with the shared weights and argmax cells, if they have not been before."""
        macro = list(self._sample_macro(progress.epoch))
        candidates = progress.memory.setdefault("candidates", [])
        if all(macro != known for known, _ in candidates):
            candidates.append([macro, self.score(tuple(macro))])

    def finish(self, progress: Progress) -> Found:
        """Keep the best candidate."""
        candidates: list[tuple[Macro, float]] = [
            (tuple(macro), score) for macro, score in progress.memory["candidates"]
        ]
        best, score = max(candidates, key=lambda candidate: candidate[1])
        return Found(best, score, candidates)

    def figures(self) -> dict[str, float]:
        """Return the controller's entropy, by a generator of its own so that looking changes nothing."""
        if self.controller is None:
            return {}
        return {"controller_entropy": self.controller.entropy(torch.Generator().manual_seed(0))}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, architecture, controller, all optimisers and the generator."""
        result = super().tensors() | optimizer_tensors("arch", self.arch_optimizer)
        if self.controller is not None:
            result |= {f"controller/{key}": value for key, value in self.controller.state_dict().items()}
            result |= optimizer_tensors("policy", self.controller_optimizer)
        return result

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put all of it back."""
        super().restore(tensors)
        restore_optimizer("arch", self.arch_optimizer, tensors)
        if self.controller is not None:
            self.controller.load_state_dict(part(tensors, "controller/"))
            restore_optimizer("policy", self.controller_optimizer, tensors)
