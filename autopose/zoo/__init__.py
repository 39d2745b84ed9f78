"""The bundled models: genotype, weights, graphs, figures and card of each, one flat folder.

For a model NAME: ``NAME.json`` (genotype), ``NAME.safetensors`` (FP16 weights to train on from), ``NAME.onnx`` (and
``NAME-flip.onnx``, which averages over the mirrored crop, for pose models), ``NAME.figures.json`` (measured figures and
how each was obtained) and ``NAME.md`` (the card). The weights of several graphs of one network are in ``NAME.data``,
once. A model that is another graph of NAME's network has neither genotype nor weights of its own: its figures say
``"weights": NAME``.
"""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from autopose.errors import ModelError


@dataclass(frozen=True)
class Entry:
    """One bundled model.

    Attributes:
        name: how the command line and ``Estimator`` call it.
        task: ``pose`` or ``detector``.
        size_mb: of all its files, in MB, with the weights that it shares with another model.
        figures: measured figures by name, the set they were measured on in the name.
    """

    name: str
    task: str
    size_mb: float
    figures: dict[str, Any]


def zoo_folder() -> Path:
    """Return the folder of the bundled models."""
    return Path(str(resources.files("autopose.zoo")))


def bundled_weights() -> dict[str, Path]:
    """Return the bundled checkpoints by model name; models that share a network have the same."""
    folder = zoo_folder()
    weights = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    for path in sorted(folder.glob("*.figures.json")):
        shared = json.loads(path.read_text(encoding="utf-8")).get("weights")
        if shared is not None:
            weights[path.name.removesuffix(".figures.json")] = weights[shared]
    return weights


def bundled_genotypes() -> dict[str, Path]:
    """Return the genotypes of the bundled models by name."""
    return {name: path.with_suffix(".json") for name, path in bundled_weights().items()}


def catalogue() -> list[Entry]:
    """Return the bundled models, pose models first."""
    folder = zoo_folder()
    entries = []
    for path in sorted(folder.glob("*.figures.json")):
        name = path.name.removesuffix(".figures.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        files = [*folder.glob(f"{name}.*"), *folder.glob(f"{name}-flip.*")]
        files += folder.glob(f"{content.get('weights')}.data")  # without which its graph is nothing
        size = sum(file.stat().st_size for file in files) / 1e6
        entries.append(Entry(name, content["task"], round(size, 1), content["figures"]))
    return sorted(entries, key=lambda entry: (entry.task != "pose", entry.name))


def card(name: str) -> str:
    """Return the model card of a bundled model as Markdown.

    Raises:
        ModelError: there is no bundled model of that name.
    """
    path = zoo_folder() / f"{name}.md"
    if not path.is_file():
        known = ", ".join(entry.name for entry in catalogue()) or "none in this installation"
        raise ModelError(f"No bundled model {name!r}. Known: {known}.")
    return path.read_text(encoding="utf-8")
