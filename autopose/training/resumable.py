"""What a run is resumed from: two generations of one safetensors file, each with a checksum.

Whatever moment a process is killed at, one of the two is whole: the new state is written beside, flushed to the disk,
and only then takes the place of the newest, which before becomes the previous one.
"""

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from autopose.checkpoint import write_tensors
from autopose.config import changes, in_brackets
from autopose.errors import ModelError, UsageError, require
from autopose.files import atomic_path, replace
from autopose.training.distributed import rank

_KEY = "autopose.state"
#: Settings that a resumed run may have otherwise than the first.
WITHOUT_EFFECT = frozenset({"data.workers", "train.save_every", "search.save_minutes"})
NEWEST, PREVIOUS = "state.safetensors", "state-previous.safetensors"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps done.
        seconds: of computing so far.
        identity: what the run must be to be resumed: its configuration.
    """

    step: int = 0
    seconds: float = 0.0
    identity: str = ""


P = TypeVar("P", bound=Progress)


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """Return the CRC-32 of names and contents."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data, crc)
    return crc


def save_resumable(folder: Path, tensors: Mapping[str, Tensor], progress: Progress) -> None:
    """Write a state; the one before it is kept."""
    plain = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    metadata = {_KEY: json.dumps({"crc": checksum(plain), "progress": asdict(progress)})}
    newest = folder / NEWEST
    with atomic_path(newest) as temporary:
        write_tensors(temporary, plain, metadata, name=str(newest))
        with temporary.open("r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        if newest.exists():
            _keep(newest, folder / PREVIOUS)


def _keep(newest: Path, previous: Path) -> None:
    """Make the newest state the previous one without a moment in which there is no newest."""
    beside = previous.with_suffix(".beside")
    beside.unlink(missing_ok=True)
    try:
        beside.hardlink_to(newest)
    except OSError:  # a file system without hard links
        replace(newest, previous)
        return
    replace(beside, previous)


def is_resumable(folder: Path) -> bool:
    """Return whether there is anything to resume from."""
    return (folder / NEWEST).exists() or (folder / PREVIOUS).exists()


def load_resumable(folder: Path, kind: type[P], identity: str) -> tuple[dict[str, Tensor], P]:
    """Read the newest state that is whole.

    Args:
        folder: where :func:`save_resumable` wrote.
        kind: of progress that was saved.
        identity: that the state must have.

    Raises:
        UsageError: there is none.
        ModelError: none of them is whole, or it belongs to another configuration.
    """
    damage = []
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            tensors, progress = _read(path, kind)
        except Exception as error:  # noqa: BLE001  (any damage at all: try the previous one)
            damage.append(f"{name}: {error}")
            continue
        if (other := _differing(progress.identity, identity)) is not None:
            raise ModelError(
                f"{path}: belongs to another configuration{other}. Resume without GENOTYPE, --config and --set: the "
                "run has its own. Or start anew in another folder with -o."
            )
        if damage and rank() == 0:  # or the next save would keep the damaged one in place of this
            with suppress(OSError):
                (folder / NEWEST).unlink()
        return tensors, progress
    if damage:
        raise ModelError(f"{folder}: no state can be resumed from ({'; '.join(damage)}). Start anew with -o.")
    raise UsageError(f"{folder}: holds no state to resume. Leave --resume out to start.")


def _differing(before: str, now: str) -> str | None:
    """Return how two identities differ, as an insertion into a sentence; None if in nothing that changes a result."""
    if before == now:
        return None
    (genotype, config, joints), (own_genotype, own_config, own_joints) = _parts(before), _parts(now)
    if not config or not own_config:
        return ""
    found = other_settings(config, own_config)
    if genotype != own_genotype:
        found.insert(0, f"the genotype was {genotype}, is {own_genotype}")
    if joints != own_joints and config.get("skeleton") == own_config.get("skeleton"):
        found.append(f"the joints in {own_config.get('skeleton')} have changed")
    return in_brackets(found) or None


def other_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs in two dumped configurations, but for what changes no result."""
    found = changes(before, now)
    if all((dumped.get("data") or {}).get("crops") for dumped in (before, now)):
        found.pop("data.crops", None)  # they may lie elsewhere now; that they are the same is known by their checksum
    return [said for key, said in found.items() if key not in WITHOUT_EFFECT]


def _parts(identity: str) -> tuple[str, dict[str, Any], str]:
    """Return what stands before a configuration (a genotype's fingerprint), that, and what follows it (joints)."""
    before, brace, rest = identity.partition("{")
    try:
        config, end = json.JSONDecoder().raw_decode(brace + rest)
    except ValueError:
        return identity, {}, ""
    return before.strip(), config, (brace + rest)[end:]


def _read(path: Path, kind: type[P]) -> tuple[dict[str, Tensor], P]:
    safetensors = require("safetensors", extra="train", why="Resuming a run")
    # Copies: Windows replaces no file that is still mapped into memory, which the next save does.
    with safetensors.safe_open(str(path), framework="pt") as file:
        content = json.loads((file.metadata() or {})[_KEY])
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  (not a dict)
    if checksum(tensors) != content["crc"]:
        raise ValueError("the checksum does not match")
    return tensors, kind(**content["progress"])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments of all parameters that have any, as ``prefix/INDEX/NAME``."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{prefix}/{index}/{key}": value
        for index, parameter in enumerate(parameters)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` returned, in the parameters' own memory formats."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()
    for name, value in tensors.items():
        if name.startswith(prefix + "/"):
            _, index, key = name.rsplit("/", 2)
            parameter = parameters[int(index)]
            copy = value.clone() if value.shape != parameter.shape else torch.empty_like(parameter).copy_(value)
            optimizer.state[parameter][key] = copy.detach()
