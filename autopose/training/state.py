"""The resumable state of a run: weights, average, optimiser and step, in one safetensors file."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autopose.errors import ModelError, require
from autopose.files import atomic_path
from autopose.training.ema import WeightAverage

_KEY = "autopose.run"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps done.
        best: best figure on the tune split so far.
        seconds: of training so far.
        ema_updates: updates of the weight average.
        identity: what the run must be to be resumed: genotype and configuration.
    """

    step: int = 0
    best: float = -1.0
    seconds: float = 0.0
    ema_updates: int = 0
    identity: str = ""


def save_state(
    path: Path, network: nn.Module, average: WeightAverage | None, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write everything that the next step depends on, in one step."""
    safetensors = require("safetensors.torch", extra="train", why="Saving a run")
    tensors: dict[str, Tensor] = {f"network/{key}": value for key, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{key}": value for key, value in average.network.state_dict().items()}
        progress.ema_updates = average.updates
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    with atomic_path(path) as temporary:
        safetensors.save_file(tensors, str(temporary), metadata={_KEY: json.dumps(vars(progress))})


def load_state(
    path: Path, network: nn.Module, average: WeightAverage | None, optimizer: torch.optim.Optimizer, identity: str
) -> Progress:
    """Restore what :func:`save_state` wrote and return the progress.

    Raises:
        ModelError: the file is damaged, or of another genotype or configuration.
    """
    safetensors = require("safetensors", extra="train", why="Resuming a run")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            progress = Progress(**json.loads((file.metadata() or {})[_KEY]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # noqa: BLE001  (safetensors raises its own error type)
        raise ModelError(f"{path}: cannot be resumed from ({error}). Start anew without --resume.") from None
    if progress.identity != identity:
        raise ModelError(
            f"{path}: is of another genotype or configuration. Resume with the genotype, --config and --set of the "
            "first call, or start anew in another folder (with --init to go on from these weights)."
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    network.load_state_dict(part("network/"))
    if average is not None:
        average.network.load_state_dict(part("average/"))
        average.updates = progress.ema_updates
    content = optimizer.state_dict()
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer/").items():
        index, name = key.split("/")
        states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": content["param_groups"]})
    return progress
