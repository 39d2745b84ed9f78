"""Latency of a derived network, predicted as the sum of its parts from a table measured on the target device.

A *unit* is a part that networks are made of, named by what decides its cost: ``conv3:64@48x64`` is a 3x3 convolution
of 64 channels on a map 48 wide and 64 high, with its ReLU and the addition into its node.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from autopose.config import Config
from autopose.errors import ConfigError, DataError
from autopose.files import write_atomic
from autopose.genotype import AGGREGATION_NODES, BRANCHES, INDIVIDUAL_NODES, OP_SETS, AutoPoseGenotype

#: As a file: names of recipes may be those of genotypes too, and what ``--set`` changed must be in it.
HOW_TO_MEASURE = "autopose bench RECIPE.toml --ops -o TABLE.json (the search's recipe, as a file)"


class LatencyTable(Config):
    """Measured times on one device.

    Attributes:
        device: processor and runtime, for the reader.
        threads: of the runtime.
        milliseconds: unit -> median time.
        scale: factor on the sum that fits whole networks (1 until :meth:`calibrated`).
        offset_ms: constant added to the sum.
    """

    device: str
    threads: int = 1
    milliseconds: dict[str, Annotated[float, Field(ge=0)]]
    scale: float = Field(1.0, gt=0)
    offset_ms: float = 0.0

    @staticmethod
    def load(path: Path | str) -> "LatencyTable":
        """Read a table.

        Raises:
            DataError: missing or broken.
        """
        try:
            return LatencyTable.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
        raise DataError(f"{path}: no latency table ({reason}). Make one with: {HOW_TO_MEASURE}")

    def save(self, path: Path | str) -> None:
        """Write the table as JSON, one unit per line."""
        write_atomic(path, json.dumps(self.model_dump(), indent=1) + "\n")

    def of(self, unit: str) -> float:
        """Return the measured time of a unit.

        Raises:
            ConfigError: it was not measured.
        """
        if unit not in self.milliseconds:
            raise ConfigError(
                f"The latency table has no {unit!r}: it was measured for other widths or another input size. "
                f"Make one for this configuration with: {HOW_TO_MEASURE}"
            )
        return self.milliseconds[unit]

    def predict_ms(self, parts: Iterable[str]) -> float:
        """Return the predicted time of one crop.

        Raises:
            ConfigError: a unit that was not measured.
        """
        return max(self.fitted_ms(parts), self.least_ms)

    def fitted_ms(self, parts: Iterable[str]) -> float:
        """Return the sum of the parts on the fitted line, whose constant may be negative: for further parts.

        Raises:
            ConfigError: a unit that was not measured.
        """
        total = sum(count * self.of(unit) for unit, count in Counter(parts).items())
        return self.scale * total + self.offset_ms

    @property
    def least_ms(self) -> float:
        """Return the least time that is predicted for any network: that of the quickest unit."""
        return max(min(self.milliseconds.values(), default=0.0), 1e-3)

    def calibrated(self, predicted: Sequence[float], measured: Sequence[float]) -> "LatencyTable":
        """Return the table whose predictions are fitted to measured networks by least squares.

        Raises:
            DataError: networks that should take longer took less.
        """
        import numpy as np

        scale, offset = np.polyfit(np.asarray(predicted), np.asarray(measured), 1)
        if scale <= 0:
            raise DataError(
                f"The latency table cannot be fitted: of {len(measured)} networks, what it calls slower was faster. "
                "Measure again on an idle machine, with more networks."
            )
        return self.model_copy(
            update={"scale": self.scale * float(scale), "offset_ms": self.offset_ms * float(scale) + float(offset)}
        )


def map_sizes(input_size_wh: tuple[int, int]) -> list[tuple[int, int]]:
    """Return width and height of each branch's map."""
    return [(input_size_wh[0] // stride, input_size_wh[1] // stride) for stride in AutoPoseGenotype.strides]


def unit_name(name: str, channels: object, size_wh: tuple[int, int]) -> str:
    """Return the key of a unit on a map of this size."""
    return f"{name}:{channels}@{size_wh[0]}x{size_wh[1]}"


def _fixed(genotype: AutoPoseGenotype, input_size_wh: tuple[int, int]) -> list[str]:
    widths = "-".join(str(width) for width in genotype.channels)
    stem = f"stem{genotype.stem_channels}x{genotype.stem_expansion}"
    return [unit_name(stem, widths, input_size_wh), unit_name(f"head-{genotype.head}", widths, input_size_wh)]


def units(genotype: AutoPoseGenotype, input_size_wh: tuple[int, int]) -> list[str]:
    """Return the units of a network, with repetition."""
    sizes, result = map_sizes(input_size_wh), _fixed(genotype, input_size_wh)
    for bits in genotype.scales:
        for b in (b for b in range(BRANCHES) if bits[b]):
            width, size = genotype.channels[b], sizes[b]
            module = [unit_name(op, width, size) for op in genotype.individual[b] if op != "skip"] * 2
            module += [unit_name("project4", width, size)] * 2
            module += [_resize(genotype, a, b, size) for a in range(BRANCHES) if a != b]
            if genotype.fusion == "cells":
                module += [unit_name(op, width, size) for op in genotype.aggregation[b] if op != "skip"]
                module.append(unit_name("project2", width, size))
            else:
                module.append(unit_name("project4", width, size))
            result += module * genotype.modules_per_stage
    return result


def _resize(genotype: AutoPoseGenotype, source: int, target: int, size_wh: tuple[int, int]) -> str:
    return unit_name(f"resize{source}to{target}", f"{genotype.channels[source]}-{genotype.channels[target]}", size_wh)


def all_units(genotype: AutoPoseGenotype, input_size_wh: tuple[int, int]) -> list[str]:
    """Return every unit that any network with these widths can have."""
    sizes, result = map_sizes(input_size_wh), _fixed(genotype, input_size_wh)
    for b in range(BRANCHES):
        width, size = genotype.channels[b], sizes[b]
        result += [unit_name(op, width, size) for op in OP_SETS[genotype.op_set] if op != "skip"]
        result += [unit_name(f"project{count}", width, size) for count in (AGGREGATION_NODES, INDIVIDUAL_NODES)]
        result += [_resize(genotype, a, b, size) for a in range(BRANCHES) if a != b]
    return result


def report(predicted: Sequence[float], measured: Sequence[float]) -> Mapping[str, Any]:
    """Return how well predictions order and size networks: Spearman's rho and the mean relative error."""
    import numpy as np

    p, m = np.asarray(predicted), np.asarray(measured)
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (p, m)]
    rho = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return {"networks": len(p), "spearman": rho, "mean_relative_error": float(np.mean(np.abs(p - m) / m))}
