"""Write a trained model the way the package bundles it: genotype, FP16 weights, ONNX graphs, figures, card."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from autopose.export.recipe import GraphOptions
from autopose.export.shared_weights import share_weights
from autopose.export.to_onnx import export_onnx
from autopose.files import write_atomic


def bundle(
    checkpoint: Checkpoint,
    name: str,
    folder: Path,
    *,
    figures: Mapping[str, Any],
    card: str,
    graphs: dict[str, GraphOptions] | None = None,
    crops: NDArray[np.uint8] | None = None,
) -> list[Path]:
    """Write the files of one bundled model; see :mod:`autopose.zoo` for their names.

    The graphs are exported from the FP16-rounded weights that are bundled, so that both give the same figures.

    Args:
        checkpoint: trained weights.
        name: of the model, without suffix.
        folder: the zoo.
        figures: measured figures; each key names the set it was measured on.
        card: the model card, Markdown.
        graphs: file names without suffix, and with which options each is made; None: NAME, and of a pose network
            NAME-flip.
        crops: real crops for the comparison with torch; synthetic ones if None.

    Raises:
        ParityError: a graph does not agree with torch.
    """
    weights = folder / f"{name}.safetensors"
    named = dataclasses.replace(checkpoint, name=name, config=_portable(checkpoint.config))
    save_checkpoint(weights, named, half=True)
    rounded = load_checkpoint(weights)
    rounded.genotype.save(folder / f"{name}.json")
    written = [weights, folder / f"{name}.json"]
    if graphs is None:
        graphs = {name: GraphOptions(flip=False)}
        if checkpoint.task == "pose":
            graphs |= {f"{name}-flip": GraphOptions(flip=True)}
    files = [
        export_onnx(rounded, folder / f"{stem}.onnx", options, compact=True, crops=crops)
        for stem, options in graphs.items()
    ]
    written += files
    if len(files) > 1:
        share_weights(files, folder / f"{name}.data")
        written.append(folder / f"{name}.data")
    written.append(write_figures(folder, name, checkpoint.task, figures))
    write_atomic(folder / f"{name}.md", card)
    return [*written, folder / f"{name}.md"]


def write_figures(
    folder: Path, name: str, task: str, figures: Mapping[str, Any], *, weights: str | None = None
) -> Path:
    """Write ``NAME.figures.json``; ``weights`` names the model whose network this one is another graph of."""
    content = {"task": task, **({} if weights is None else {"weights": weights}), "figures": dict(figures)}
    path = folder / f"{name}.figures.json"
    write_atomic(path, json.dumps(content, indent=2) + "\n")
    return path


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training configuration without the paths of the machine that it ran on: file names are left."""
    if not config:
        return {}
    data = {key: value for key, value in dict(config.get("data", {})).items() if key != "pack"}
    sources = [{key: _file_name(value) for key, value in source.items()} for source in data.get("sources", ())]
    return {**config, "data": {key: _file_name(value) for key, value in data.items()} | {"sources": sources}}


def _file_name(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
