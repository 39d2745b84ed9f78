"""The optimiser that a recipe names."""

from typing import Any

import torch
from torch import nn

from autopose.training.bfloat16 import in_bfloat16
from autopose.training.config import TrainSection
from autopose.training.muon import Muon


def make_optimizer(network: nn.Module, config: TrainSection) -> torch.optim.Optimizer:
    """Return the optimiser; biases and normalisation are not decayed."""
    if config.optimizer == "muon":
        half = in_bfloat16(config.amp, next(network.parameters()).device)
        return Muon(network.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay, half=half)
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return kind(groups, lr=config.lr, betas=config.betas, foreach=True)
