"""The recurrent policy over network-level decisions and its REINFORCE update (AutoPose section 3.2.1).

One token per step: the LSTM's input is the embedding of the token before (zeros first), its output goes through a
linear layer of that step to the logits of the step's choices. The paper gives the learning rate (3.5e-3), the updates
per epoch (10) and the batch (2); width, baseline and entropy bonus follow AutoGAN (same first author) and are
configurable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from autopose.config import Config
from autopose.search.space import Macro
from autopose.training.config import Betas


class ControllerConfig(Config):
    """The controller and its training.

    Attributes:
        hidden: width of the LSTM and of the embeddings.
        lr: of Adam (paper: 3.5e-3; AutoGAN and ENAS: 3.5e-4).
        betas: of Adam.
        start_epoch: before it, vectors are uniform random ("we start training the controller at the 5-th epochs").
        updates: per epoch (N_ctr).
        batch: sampled vectors per update.
        baseline_decay: of the moving average of rewards that is subtracted; kept from epoch to epoch.
        entropy_weight: bonus on the policy's entropy, per sampled sequence.
    """

    hidden: int = Field(100, ge=1)
    lr: float = Field(3.5e-3, gt=0)
    betas: Betas = (0.9, 0.999)
    start_epoch: int = Field(5, ge=0)
    updates: int = Field(10, ge=0)
    batch: int = Field(2, ge=1)
    baseline_decay: float = Field(0.9, ge=0, lt=1)
    entropy_weight: float = Field(1e-3, ge=0)


@dataclass(frozen=True)
class Sampled:
    """Sequences drawn from the policy.

    Attributes:
        macros: one tuple of tokens per sequence.
        log_probability: ``(n,)`` of each sequence.
        entropy: ``(n,)`` sum over steps of the entropy of each step's distribution.
    """

    macros: list[Macro]
    log_probability: Tensor
    entropy: Tensor


class Controller(nn.Module):
    """An LSTM that emits one categorical token per step.

    Args:
        choices: number of choices of each step.
        hidden: width.
    """

    #: Moving average of rewards; a NaN buffer until the first update.
    baseline: Tensor

    def __init__(self, choices: Sequence[int], hidden: int = 100) -> None:
        super().__init__()
        self.choices = tuple(choices)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, count) for count in self.choices)
        self.embeddings = nn.ModuleList(nn.Embedding(count, hidden) for count in self.choices[:-1])
        self.register_buffer("baseline", torch.tensor(float("nan"), dtype=torch.float64))
        with torch.no_grad():  # start from a nearly uniform policy
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1)

    def _unroll(self, count: int, choose: Callable[[int, Tensor], Tensor]) -> Sampled:
        device = self.cell.weight_ih.device
        x = torch.zeros(count, self.cell.input_size, device=device)
        state: tuple[Tensor, Tensor] | None = None
        tokens, log_probability, entropy = [], torch.zeros(count, device=device), torch.zeros(count, device=device)
        for step, head in enumerate(self.heads):
            state = self.cell(x, state)
            log_p = head(state[0]).log_softmax(-1)
            token = choose(step, log_p.detach().cpu()).to(device)
            tokens.append(token)
            log_probability = log_probability + log_p.gather(-1, token[:, None])[:, 0]
            entropy = entropy - (log_p.exp() * log_p).sum(-1)
            if step + 1 < len(self.choices):
                x = self.embeddings[step](token)
        macros = [tuple(row) for row in torch.stack(tokens, -1).tolist()]
        return Sampled(macros, log_probability, entropy)

    def sample(self, count: int, generator: torch.Generator) -> Sampled:
        """Draw sequences; the random numbers come from a CPU generator on every device."""
        return self._unroll(count, lambda _, log_p: log_p.exp().multinomial(1, generator=generator)[:, 0])

    def most_likely(self) -> Macro:
        """Return the greedy sequence."""
        with torch.no_grad():
            return self._unroll(1, lambda _, log_p: log_p.argmax(-1)).macros[0]

    def entropy(self, generator: torch.Generator) -> float:
        """Return an estimate of the sequence entropy in nats (its maximum is the sum of log choices)."""
        with torch.no_grad():
            return float(self.sample(64, generator).entropy.mean())


@dataclass(frozen=True)
class Update:
    """What one REINFORCE update saw."""

    macros: list[Macro]
    rewards: list[float]
    loss: float
    entropy: float


def reinforce(
    controller: Controller,
    optimizer: torch.optim.Optimizer,
    reward: Callable[[Macro], float],
    config: ControllerConfig,
    generator: torch.Generator,
) -> Update:
    """Sample a batch of vectors, score them, and step towards the better ones.

    Args:
        controller: policy; its ``baseline`` buffer is updated, starting from the first batch's mean.
        optimizer: of the controller.
        reward: score of one vector.
        config: batch, decay, entropy bonus.
        generator: of the samples.
    """
    sampled = controller.sample(config.batch, generator)
    rewards = [float(reward(macro)) for macro in sampled.macros]
    mean = sum(rewards) / len(rewards)
    if bool(controller.baseline.isnan()):
        controller.baseline.fill_(mean)
    advantage = torch.tensor(
        [value - float(controller.baseline) for value in rewards], device=sampled.log_probability.device
    )
    loss = -(advantage * sampled.log_probability).mean() - config.entropy_weight * sampled.entropy.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    controller.baseline.mul_(config.baseline_decay).add_((1 - config.baseline_decay) * mean)
    return Update(sampled.macros, rewards, float(loss.detach()), float(sampled.entropy.detach().mean()))
