"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math

from autopose.training.config import TrainSection


def learning_rate(step: int, total: int, config: TrainSection) -> float:
    """Return the rate of step ``step`` (0-based) of ``total``."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = step / max(total, 1)
    if config.schedule == "multistep":
        return config.lr * config.gamma ** sum(done >= milestone for milestone in config.milestones)
    progress = (step - config.warmup_steps) / max(total - config.warmup_steps, 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
