"""Trained weights with everything that rebuilds the network: safetensors plus JSON metadata, never pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from autopose.errors import ModelError, require
from autopose.files import atomic_path
from autopose.genotype import Genotype
from autopose.heatmap import Codec
from autopose.manifest import Task
from autopose.skeleton import Skeleton, skeleton_by_name
from autopose.skeleton_record import skeleton_record, stored_skeleton

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Metadata key under which safetensors files carry the description.
DESCRIPTION = "autopose.checkpoint"
#: Version of the description.
_SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network on disk.

    Attributes:
        genotype: what to build.
        state: tensors by name, as ``network.state_dict()`` gives them (floating point ones may be stored as FP16).
        codec: frames of the pose network; for a detector its ``input_size_wh`` counts.
        task: ``pose`` or ``detector``.
        skeleton: joints of the pose network.
        name: of the model.
        config: the resolved training configuration.
        metrics: figures measured with these weights.
        sha256: of the file it was read from.
    """

    genotype: Genotype
    state: "Mapping[str, Tensor]"
    codec: Codec = field(default_factory=Codec)
    task: Task = "pose"
    skeleton: Skeleton = field(default_factory=lambda: skeleton_by_name("coco17"))
    name: str = "unnamed"
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def build(self) -> "nn.Module":
        """Return the network with these weights, in evaluation mode, as FP32.

        Raises:
            ModelError: the tensors are not those of the genotype's network.
        """
        import torch

        from autopose.models.network import build_network

        with torch.device("meta"):  # no memory for a network that the file only claims to hold
            wanted = build_network(self.genotype, len(self.skeleton)).state_dict()
        missing, surplus = wanted.keys() - self.state.keys(), self.state.keys() - wanted.keys()
        wrong = [key for key in wanted.keys() & self.state.keys() if wanted[key].shape != self.state[key].shape]
        if missing or surplus or wrong:
            example = next(iter(sorted(missing) + sorted(surplus) + wrong))
            raise ModelError(
                f"The weights of {self.name!r} do not fit genotype {self.genotype.fingerprint()}: {len(missing)} "
                f"tensors missing, {len(surplus)} unknown, {len(wrong)} of another shape (for instance {example!r}).\n"
                "They belong to another genotype or version: train again, or give the genotype that they came from."
            )
        network = build_network(self.genotype, len(self.skeleton))
        network.load_state_dict({key: value.to(wanted[key].dtype) for key, value in self.state.items()})
        return network.eval()


def save_checkpoint(path: Path | str, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a checkpoint in one step; ``half`` stores floating point tensors as FP16 (what is bundled)."""
    state = {}
    for key, value in checkpoint.state.items():
        value = value.detach().cpu().contiguous()
        state[key] = value.half() if half and value.is_floating_point() else value
    description = {
        "schema_version": _SCHEMA,
        "genotype": checkpoint.genotype.model_dump(mode="json"),
        "codec": checkpoint.codec.model_dump(mode="json"),
        "task": checkpoint.task,
        "skeleton": skeleton_record(checkpoint.skeleton),
        "name": checkpoint.name,
        "config": dict(checkpoint.config),
        "metrics": dict(checkpoint.metrics),
    }
    with atomic_path(path) as temporary:
        write_tensors(temporary, state, {DESCRIPTION: json.dumps(description)}, name=str(path))


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str], *, name: str) -> None:
    """Write a safetensors file; ``name`` is what an error calls it.

    Raises:
        ModelError: the disk is full, or the name is no UTF-8: safetensors has an error of its own for them.
    """
    safetensors = require("safetensors", extra="train", why="Saving weights")
    module = require("safetensors.torch", extra="train", why="Saving weights")
    try:
        module.save_file(tensors, str(path), metadata=metadata)
    except (safetensors.SafetensorError, UnicodeEncodeError) as error:
        raise ModelError(f"{name}: cannot be written ({error}). Make room there, or choose another folder.") from None


def weights_in(run: Path) -> Path | None:
    """Return a run folder's weights: its best, else its last; None if it has none."""
    return next((run / name for name in ("best.safetensors", "last.safetensors") if (run / name).is_file()), None)


def checkpoint_path(source: Path | str) -> Path:
    """Return the weights file of a run folder (its best, else its last weights), or the file itself.

    Raises:
        ModelError: neither exists.
    """
    path = Path(source)
    if path.is_dir():
        if (weights := weights_in(path)) is not None:
            return weights
        raise ModelError(
            f"{path}: holds no best.safetensors or last.safetensors. Expected a folder made by 'autopose train -o'."
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint or run folder. Make one with 'autopose train'.")
    return path


def load_checkpoint(source: Path | str) -> Checkpoint:
    """Read a checkpoint file or the best one of a run folder.

    Raises:
        ModelError: it is missing, damaged or not made by autopose.
    """
    safetensors = require("safetensors", extra="train", why="Reading a checkpoint")
    path = checkpoint_path(source)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # noqa: BLE001  (safetensors raises its own error type and OSError alike)
        raise ModelError(
            f"{path}: cannot be read as safetensors ({error}). It is damaged or of another format."
        ) from None
    if DESCRIPTION not in metadata:
        raise ModelError(
            f"{path}: holds weights but no autopose description. Expected a file made by 'autopose train'."
        )
    try:
        content = json.loads(metadata[DESCRIPTION])
        _refuse_other_version(content)
        return Checkpoint(
            genotype=Genotype.from_dict(content["genotype"], str(path)),
            state=state,
            codec=Codec.model_validate(content["codec"]),
            task=content["task"],
            skeleton=stored_skeleton(content["skeleton"], str(path)),
            name=content["name"],
            config=content["config"],
            metrics=content["metrics"],
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # ValidationError is a ValueError
        raise ModelError(f"{path}: its description cannot be used ({error}). It was made by another version.") from None


def _refuse_other_version(description: dict[str, Any]) -> None:
    """Refuse what is of another version, or says something that no version does."""
    for field_name, is_right in (
        ("schema_version", description["schema_version"] == _SCHEMA),
        ("task", description["task"] in get_args(Task)),
        ("name", isinstance(description["name"], str)),
    ):
        if not is_right:
            raise ValueError(f"{field_name} is {description[field_name]!r}")
