"""Figures of a genotype for people: parameters, cost and size of its search space, beside the published ones."""

import math
from pathlib import Path
from typing import Any

from autopose.checkpoint import load_checkpoint, weights_in
from autopose.errors import GenotypeError, UsageError, require
from autopose.genotype import AutoPoseGenotype, Genotype, presets
from autopose.zoo import bundled_weights


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Read ``192x256``, given as an option of the command line, as (width, height).

    Raises:
        UsageError: it is something else, or a side is not a positive multiple of 32.
    """
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal():
        raise UsageError(f"{option} {text!r}: expected WIDTHxHEIGHT in pixels, for instance 192x256.")
    size = int(width), int(height)
    if min(size) < 32 or any(side % 32 for side in size):
        raise UsageError(f"{option} {text!r}: both sides must be multiples of 32, for instance 192x256.")
    return size


def genotype_of(source: str) -> tuple[Genotype, tuple[int, int]]:
    """Return the genotype that a name or file means, and the input size (width, height) it was made for.

    Presets come first, then bundled models, then genotype files, run folders and checkpoints.

    Raises:
        GenotypeError: it is none of these.
    """
    path = Path(source)
    if source not in presets():
        path = bundled_weights().get(source, path)
        trained = weights_in(path) if path.is_dir() else path
        if trained is not None and trained.suffix == ".safetensors" and trained.is_file():
            checkpoint = load_checkpoint(trained)
            return checkpoint.genotype, checkpoint.codec.input_size_wh
        if path.is_dir() and (path / "genotype.json").is_file():
            path = path / "genotype.json"
        if path.suffix in (".onnx", ".engine"):
            raise GenotypeError(
                f"{source}: an exported model does not carry its genotype. "
                "Give the run folder or genotype that it came from."
            )
        source = str(path)
    genotype = Genotype.load(source)
    size = genotype.input_size_wh
    if size is None:
        size = (416, 320) if genotype.is_detector else (192, 256)
    return genotype, size


def describe(genotype: Genotype, input_size_wh: tuple[int, int]) -> dict[str, Any]:
    """Return the figures of a genotype's network.

    Keys: ``name``, ``kind``, ``fingerprint``, ``input_size_wh``, ``params``, ``macs``, ``macs_gi`` (MACs / 1024^3: the
    unit that pose papers call GFLOPs), ``convention``, ``layers``; ``search_space_log10`` and ``active_branches`` for
    AutoPose genotypes; ``published`` where a paper gives figures for the same network.
    """
    require("torch", extra="train", why="Counting a network's cost")
    from autopose.models.cost import profile_genotype

    joints = getattr(genotype, "joints", 17)
    cost = profile_genotype(genotype, joints, input_size_wh)
    figures: dict[str, Any] = {
        "name": genotype.name,
        "kind": genotype.kind,
        "fingerprint": genotype.fingerprint(),
        "input_size_wh": list(input_size_wh),
        "params": cost.params,
        "macs": cost.macs,
        "macs_gi": round(cost.macs_gi, 4),
        "convention": "multiply-accumulates of convolutions and linear layers; macs_gi = macs / 1024^3",
        "layers": [list(layer) for layer in cost.layers],
    }
    if isinstance(genotype, AutoPoseGenotype):
        figures["search_space_log10"] = round(math.log10(genotype.search_space_size()), 2)
        figures["active_branches"] = sum(map(sum, genotype.scales))
    if genotype.published:
        figures["published"] = genotype.published
    if genotype.provenance:
        figures["provenance"] = genotype.provenance
    return figures


def text_of(figures: dict[str, Any]) -> str:
    """Return :func:`describe`'s figures as lines for a terminal."""
    width, height = figures["input_size_wh"]
    cost = f"{figures['macs_gi']:.2f} Gi at {width}x{height}"
    lines = [
        f"{figures['name']} ({figures['kind']}, fingerprint {figures['fingerprint']})",
        f"  parameters    {figures['params']:,}",
        f"  MACs          {cost}  ({figures['macs']:,}; Gi = MACs / 1024^3, the papers' GFLOPs)",
    ]
    if "active_branches" in figures:
        lines.append(f"  branches      {figures['active_branches']} of 12 stage-branches active")
        lines.append(
            f"  search space  10^{figures['search_space_log10']:.1f} networks "
            "(one cell pair per branch, shared by all stages; the paper says 10^61)"
        )
    if "published" in figures:
        lines.append(f"  published     {_said(figures['published'])}")
    for key, value in figures.get("provenance", {}).items():
        if key not in ("published", "input_size_wh"):  # shown above
            lines.append(f"  {key.replace('_', ' '):13s} {_said(value)}")
    return "\n".join(lines)


def _said(value: Any) -> str:
    """Return a value of JSON in words: what a search has recorded, its candidates each on a line."""
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ("\n" + " " * 16).join(map(_said, value))
    return ", ".join(map(_said, value)) if isinstance(value, list) else str(value)
