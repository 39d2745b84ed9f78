"""From architecture logits to what runs: the Gumbel-softmax relaxation of a table (AutoPose section 3.1.2, eq. 4).

With p = softmax((log_softmax(alpha) + Gumbel noise) / temperature) and s the most likely operation of an edge, the
edge's output is one of

* ``single`` (default): o_s (1 - stopgrad(p_s) + p_s). Only o_s runs. Its value is o_s; its gradient for alpha has the
  sampled operation's term alone, which is biased: the other operations pull alpha only through the softmax's
  normalisation. The bias is measured in ``benchmarks/search_step.py`` and discussed in ``docs/search.md``.
* ``full``: sum_k o_k (onehot_k - stopgrad(p_k) + p_k), the straight-through gradient; needs the output of every
  operation whenever alpha's gradient is wanted, and only o_s otherwise.
* ``soft``: sum_k p_k o_k, every operation always (DARTS with noise).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

AlphaGradient = Literal["single", "full", "soft"]


@dataclass(frozen=True)
class Choice:
    """What the edges of one table do in one forward pass.

    Attributes:
        index: the sampled operation of each row.
        gate: ``(rows,)`` of value 1 carrying the single-path gradient; None if alpha needs none.
        weights: ``(rows, choices)``: every operation runs and is weighted; None if only the sampled ones run.
    """

    index: list[int]
    gate: Tensor | None = None
    weights: Tensor | None = None


def relax(logits: Tensor, noise: Tensor | None, temperature: float, mode: AlphaGradient) -> Choice:
    """Choose the operations of a table.

    Args:
        logits: ``(rows, choices)``.
        noise: Gumbel noise of the same shape, or None for the most likely operation of each row, without gradient.
        temperature: of the softmax; does not change which operation is sampled.
        mode: see the module.
    """
    if noise is None:
        return Choice(logits.argmax(-1).tolist())
    noisy = logits.log_softmax(-1) + noise
    index = noisy.argmax(-1)
    chosen: list[int] = index.tolist()
    if mode == "soft":
        return Choice(chosen, weights=(noisy / temperature).softmax(-1))
    if not logits.requires_grad:
        return Choice(chosen)
    p = (noisy / temperature).softmax(-1)
    if mode == "full":
        hard = p.new_zeros(p.shape).scatter_(-1, index[:, None], 1.0)
        return Choice(chosen, weights=hard - p.detach() + p)
    p = p.gather(-1, index[:, None])[:, 0]
    return Choice(chosen, gate=1 + (p - p.detach()))  # the value is exactly 1
