"""How far a search is: what it must remember to be resumed, besides its tensors."""

from dataclasses import dataclass, field
from typing import Any

from autopose.training import resumable


@dataclass
class Progress(resumable.Progress):
    """How far a search is.

    Attributes:
        epoch: epochs done.
        updates: controller updates done in the current epoch.
        sums: of the current epoch's losses, by name.
        rewards: of the current epoch.
        ranked: candidates drawn and scored after the last epoch.
        memory: what the strategy remembers.
    """

    epoch: int = 0
    updates: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)
    ranked: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
