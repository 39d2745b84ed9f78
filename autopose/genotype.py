"""Genotypes: the versioned JSON description of a network that a search finds and everything else is built from.

``Genotype`` is the base of every kind; ``AutoPoseGenotype`` is the AutoPose space (section 3 of the paper). Further
kinds are listed in ``_KINDS`` and imported when a file of theirs is read. Nothing here needs torch.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autopose.errors import GenotypeError
from autopose.files import write_atomic
from autopose.zoo import bundled_genotypes

#: Operations of the paper (section 3.1) and the additions for small networks, in the order of the search's logits.
PAPER_OPS = ("conv1", "conv3", "conv5", "avgpool3", "maxpool3", "skip")
MOBILE_OPS = (*PAPER_OPS, "dwsep3", "dwsep5")
OP_SETS: Mapping[str, tuple[str, ...]] = {"paper": PAPER_OPS, "mobile": MOBILE_OPS}

STAGES = 3
BRANCHES = 4
INDIVIDUAL_NODES = 4
AGGREGATION_NODES = 2
#: Node i of an individual cell sees the input and all earlier nodes: 1 + 2 + 3 + 4.
INDIVIDUAL_EDGES = sum(range(1, INDIVIDUAL_NODES + 1))
#: Node i of an aggregation cell sees the four branches and all earlier nodes: 4 + 5.
AGGREGATION_EDGES = sum(BRANCHES + node for node in range(AGGREGATION_NODES))

Op = Literal["conv1", "conv3", "conv5", "avgpool3", "maxpool3", "skip", "dwsep3", "dwsep5"]
#: Channels of a layer at most: far above any real network's, and keeps a mistyped number from taking all memory.
WIDEST = 8192
Positive = Annotated[int, Field(ge=1, le=WIDEST)]
Repeats = Annotated[int, Field(ge=1, le=64)]
Bit = Annotated[int, Field(ge=0, le=1)]
IndividualOps = Annotated[tuple[Op, ...], Field(min_length=INDIVIDUAL_EDGES, max_length=INDIVIDUAL_EDGES)]
AggregationOps = Annotated[tuple[Op, ...], Field(min_length=AGGREGATION_EDGES, max_length=AGGREGATION_EDGES)]


class Genotype(BaseModel):
    """What every kind of genotype has: a kind, a schema version, provenance, a fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    schema_version: Literal[1] = 1
    name: str = "unnamed"
    #: Where it came from (seed, command, search run): free form, not part of the fingerprint.
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def input_size_wh(self) -> tuple[int, int] | None:
        """Return the input size that the provenance names for published figures.

        Raises:
            GenotypeError: it names something else.
        """
        size = self.provenance.get("input_size_wh")
        if size is None:
            return None
        if not isinstance(size, list | tuple) or len(size) != 2 or not all(isinstance(v, int) and v > 0 for v in size):
            raise GenotypeError(f"provenance.input_size_wh is {size!r}; expected width and height in pixels.")
        return size[0], size[1]

    @property
    def is_detector(self) -> bool:
        """Tell whether the network finds persons; the others find the joints of one."""
        return False

    @property
    def published(self) -> str:
        """Return the published figures of the same network, if the provenance has any."""
        return str(self.provenance.get("published", ""))

    def fingerprint(self) -> str:
        """Return 12 hex digits that change with anything that changes the network (not its name or provenance)."""
        content = self.model_dump(mode="json", exclude={"name", "provenance"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Return readable JSON: one line per list of operations."""
        content = self.model_dump(mode="json")
        return "{\n" + ",\n".join(f'  "{key}": {_readable(value)}' for key, value in content.items()) + "\n}\n"

    def save(self, path: Path | str) -> None:
        """Write the JSON file in one step."""
        write_atomic(path, self.to_json())

    @staticmethod
    def from_dict(content: Any, where: str = "genotype") -> "Genotype":
        """Validate parsed JSON.

        Raises:
            GenotypeError: names the first wrong field, what it holds and what was expected.
        """
        if not isinstance(content, dict):
            raise GenotypeError(f"{where}: expected a JSON object, found {type(content).__name__}.")
        kind = content.get("kind")
        if not isinstance(kind, str) or kind not in _KINDS:
            raise GenotypeError(f"{where}: field 'kind' is {kind!r}; expected one of {', '.join(_KINDS)}.")
        try:
            return _KINDS[kind]().model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "genotype"
            value = "" if first["type"] == "missing" else f" (found {str(first['input'])[:80]!r})"
            raise GenotypeError(f"{where}: field '{field}': {first['msg']}{value}.") from None

    @staticmethod
    def load(source: Path | str) -> "Genotype":
        """Read a preset or the genotype of a bundled model by name, or a JSON file.

        Raises:
            GenotypeError: no such preset, model or file, or the file is wrong.
        """
        name = str(source)
        packaged, models = presets(), bundled_genotypes()
        if found := packaged.get(name) or models.get(name):
            text, where = found.read_text(encoding="utf-8"), f"packaged genotype {name!r}"
        else:
            path = Path(source)
            if not path.is_file():
                raise GenotypeError(
                    f"No genotype {name!r}: neither a file nor a preset nor a bundled model. "
                    f"Presets: {', '.join(sorted(packaged))}. Models: {', '.join(models)}."
                )
            try:
                text, where = path.read_text(encoding="utf-8"), str(path)
            except (OSError, UnicodeDecodeError) as error:
                raise GenotypeError(f"{path}: cannot be read as text ({error}).") from None
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise GenotypeError(f"{where}: not JSON (line {error.lineno}: {error.msg}).") from None
        except (RecursionError, ValueError):  # Python reads no number of thousands of digits
            raise GenotypeError(f"{where}: no genotype: its brackets or a number have no end.") from None
        return Genotype.from_dict(content, where)


class AutoPoseGenotype(Genotype):
    """A network of the AutoPose space.

    Attributes:
        op_set: the operations that may occur (``paper`` or ``mobile``).
        individual: per branch (finest first), 10 operations of the individual cell in node-major order: node 1 from
            the input; node 2 from the input, node 1; node 3 ...; node 4 ....
        aggregation: per branch, 9 operations of the aggregation cell: node 1 from branches 1/4, 1/8, 1/16, 1/32; node
            2 from the same four, then node 1.
        scales: three stages of four bits, finest branch first: 1 = the branch is processed in that stage.
        channels: widths of the branches, finest first.
        fusion: ``cells`` (aggregation cells), or ``concat``: plain concatenation of the resized branches and a 1x1
            convolution (the ablation of Table 4); ``aggregation`` is then not used.
        modules_per_stage: multi-scale modules in each stage (2 in the paper).
        stem_channels: width of the two stride-2 convolutions.
        stem_expansion: output width of the stem's bottleneck = stem_channels x this (4 in HRNet).
        head: ``concat`` (all branches upsampled to 1/4, one 3x3 convolution: section 4.2), ``sum``, or ``center`` (a
            person detector).
        head_channels: width of the detector's head.
        head_stride: stride of the detector's output maps.
    """

    kind: Literal["autopose"] = "autopose"
    op_set: Literal["paper", "mobile"] = "paper"
    individual: Annotated[tuple[IndividualOps, ...], Field(min_length=BRANCHES, max_length=BRANCHES)]
    aggregation: Annotated[tuple[AggregationOps, ...], Field(min_length=BRANCHES, max_length=BRANCHES)]
    scales: Annotated[
        tuple[Annotated[tuple[Bit, ...], Field(min_length=BRANCHES, max_length=BRANCHES)], ...],
        Field(min_length=STAGES, max_length=STAGES),
    ]
    channels: Annotated[tuple[Positive, ...], Field(min_length=BRANCHES, max_length=BRANCHES)] = (32, 64, 128, 256)
    fusion: Literal["cells", "concat"] = "cells"
    modules_per_stage: Repeats = 2
    stem_channels: Positive = 64
    stem_expansion: Positive = 4
    head: Literal["concat", "sum", "center"] = "concat"
    head_channels: Positive = 64
    head_stride: Literal[4, 8] = 4

    #: Spatial stride of each branch.
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    @model_validator(mode="after")
    def _ops_are_of_the_set(self) -> Self:
        allowed = OP_SETS[self.op_set]
        for cell in ("individual", "aggregation"):
            for branch, ops in enumerate(getattr(self, cell)):
                for edge, op in enumerate(ops):
                    if op not in allowed:
                        raise ValueError(
                            f"{cell}[{branch}][{edge}] is {op!r}, which op_set {self.op_set!r} has not "
                            f"({', '.join(allowed)})"
                        )
        return self

    @property
    def is_detector(self) -> bool:
        """Tell whether the head is the person detector's."""
        return self.head == "center"

    def search_space_size(self) -> int:
        """Return the number of networks in the space, with this op set and one cell pair per branch shared by stages.

        6 ** (4 * (10 + 9)) * 2 ** 12 = 10 ** 62.7 for the paper's operations; the paper says 10 ** 61 and does not say
        how it counts.
        """
        edges = BRANCHES * (INDIVIDUAL_EDGES + AGGREGATION_EDGES)
        return int(len(OP_SETS[self.op_set]) ** edges * 2 ** (STAGES * BRANCHES))


def _readable(value: Any) -> str:
    """Return JSON text of a field with lists of lists on one line each."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n    " + ",\n    ".join(json.dumps(row) for row in value) + "\n  ]"
    return json.dumps(value)


def _class(module: str, name: str) -> type[Genotype]:
    """Import the class of a further kind when a file of that kind is read; those modules are built on this one."""
    found: type[Genotype] = getattr(importlib.import_module(module), name)
    return found


_KINDS: dict[str, Callable[[], type[Genotype]]] = {
    "autopose": lambda: AutoPoseGenotype,
    "fabric": lambda: _class("autopose.fabric_genotype", "FabricGenotype"),
    "reference": lambda: _class("autopose.reference_genotype", "ReferenceGenotype"),
}


def presets() -> dict[str, Path]:
    """Return the packaged genotypes by name."""
    folder = Path(str(resources.files("autopose.configs"))) / "genotypes"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}
