"""What is written down each epoch: figures, probabilities, alarms; as JSON lines and for TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from autopose.search.space import Supernet
from autopose.training.log import rewind_log, summary_writer

#: Operations without weights: an architecture made of them has collapsed (the known failure of differentiable search).
PARAMETER_FREE = frozenset({"skip", "avgpool3", "maxpool3", "zero"})


def entropy(probabilities: dict[str, Tensor]) -> float:
    """Return the mean entropy of all rows, in nats (log 6 = 1.79 for six equally likely operations)."""
    rows = [-(p * p.clamp_min(1e-12).log()).sum(-1) for p in probabilities.values()]
    count = sum(row.numel() for row in rows)
    return float(sum(float(row.sum()) for row in rows) / max(count, 1))


def free_shares(supernet: Supernet) -> dict[str, float]:
    """Return which share of the most likely operations is ``skip`` and pooling, and which is decidedly parameter-free.

    Decidedly: with a probability of one half or more. While all operations are about equally likely, the first among
    them says nothing.
    """
    names: list[str] = []
    decided: list[bool] = []
    for table, probabilities in supernet.probabilities().items():
        columns = supernet.choices.get(table, ())
        if set(columns) & PARAMETER_FREE:
            names += [columns[k] for k in probabilities.argmax(-1).tolist()]
            decided += (probabilities.amax(-1) >= 0.5).tolist()
    count = max(len(names), 1)
    return {
        "skip_share": names.count("skip") / count,
        "pool_share": (names.count("avgpool3") + names.count("maxpool3")) / count,
        "free_share": sum(name in PARAMETER_FREE and sure for name, sure in zip(names, decided, strict=True)) / count,
    }


def alarms(entry: dict[str, Any], largest_share: float, largest_controller_entropy: float) -> list[str]:
    """Return what looks like a collapse, as sentences."""
    found = []
    if entry["free_share"] > largest_share:
        found.append(
            f"{entry['free_share']:.0%} of the edges have become skip or pooling: the cells are collapsing. "
            "Lower search.arch_lr, raise search.arch_start_epoch, or search longer per architecture step."
        )
    policy = entry.get("controller_entropy")
    if policy is not None and largest_controller_entropy > 0 and policy < 0.02 * largest_controller_entropy:
        found.append(
            f"The controller's entropy is {policy:.3f} of {largest_controller_entropy:.2f} nats: it samples one vector "
            "only. Raise controller.entropy_weight or lower controller.lr if this is early."
        )
    return found


def largest_entropy(choices: tuple[int, ...]) -> float:
    """Return the entropy of uniform tokens."""
    return sum(math.log(count) for count in choices)


class Journal:
    """The run's ``log.jsonl`` and TensorBoard events.

    Args:
        folder: run folder.
        epoch: entries after this epoch are dropped: they will be written again.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self.path = rewind_log(folder, "epoch", epoch)
        self.writer = summary_writer(folder, epoch)

    def write(self, entry: dict[str, Any]) -> None:
        """Append one epoch."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self.writer is not None:
            for key, value in entry.items():
                if isinstance(value, int | float) and key != "epoch":
                    self.writer.add_scalar(f"search/{key}", value, entry["epoch"])
            self.writer.flush()

    def close(self) -> None:
        """Close the files."""
        if self.writer is not None:
            self.writer.close()
