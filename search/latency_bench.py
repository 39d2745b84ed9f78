"""Measure the units of a latency table with ONNX Runtime: each as a small graph of its own, repeated if it can be."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.errors import ConfigError, require
from autopose.genotype import AGGREGATION_NODES, BRANCHES, INDIVIDUAL_NODES, AutoPoseGenotype
from autopose.models.heads import ConcatHead, SumHead
from autopose.models.multiscale import resize
from autopose.models.network import Stem
from autopose.models.ops import OPS, ConvBN, pre_activated
from autopose.search.autopose_space import AutoPoseSpace
from autopose.search.config import SearchConfig
from autopose.search.latency import LatencyTable, all_units, map_sizes
from autopose.search.space import open_space

#: A unit is repeated so often in its graph, to be long against the cost of a call.
REPEAT = 4
#: (C, H, W).
Shape = tuple[int, int, int]
#: Called with (units done, units in all).
Watch = Callable[[int, int], None]


class Edges(nn.Module):
    """``REPEAT`` edges in a row, each adding into the next sum, as in a cell."""

    def __init__(self, op: str, channels: int) -> None:
        super().__init__()
        self.modules_ = nn.ModuleList(OPS[op](channels, True) for _ in range(REPEAT))
        self.relu = pre_activated(op)

    def forward(self, x: Tensor) -> Tensor:
        """Map a source to a source."""
        for module in self.modules_:
            x = x + module(F.relu(x) if self.relu else x)
        return x


class Projections(nn.Module):
    """``REPEAT`` concatenations of ``nodes`` maps with their 1x1 convolution."""

    def __init__(self, nodes: int, channels: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.modules_ = nn.ModuleList(ConvBN(nodes * channels, channels, 1) for _ in range(REPEAT))

    def forward(self, x: Tensor) -> Tensor:
        """Map a source to a source."""
        for module in self.modules_:
            x = module(F.relu(torch.cat([x + float(k) for k in range(self.nodes)], 1)))
        return x


class Several(nn.Module):
    """A module of one tensor, or of a list of tensors, as one that takes the tensors side by side."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> object:
        """Return the module's outputs."""
        return self.module(list(inputs)) if len(inputs) > 1 else self.module(inputs[0])


def unit_graphs(
    genotype: AutoPoseGenotype, input_size_wh: tuple[int, int]
) -> dict[str, tuple[nn.Module, list[Shape], int]]:
    """Return per unit a module, the (C, H, W) of its inputs, and how often the unit is in it."""
    widths, sizes = genotype.channels, map_sizes(input_size_wh)
    maps = [(width, size[1], size[0]) for width, size in zip(widths, sizes, strict=True)]
    names = iter(all_units(genotype, input_size_wh))
    head = (ConcatHead if genotype.head == "concat" else SumHead)(widths, 17)
    graphs: dict[str, tuple[nn.Module, list[Shape], int]] = {
        next(names): (Several(Stem(genotype)), [(3, input_size_wh[1], input_size_wh[0])], 1),
        next(names): (Several(head), maps, 1),
    }
    remaining = list(names)
    for b in range(BRANCHES):
        of_branch = f"@{sizes[b][0]}x{sizes[b][1]}"
        for name in [name for name in remaining if name.endswith(of_branch) and name.split(":")[0] in OPS]:
            graphs[name] = (Edges(name.split(":")[0], widths[b]), [maps[b]], REPEAT)
        for count in (AGGREGATION_NODES, INDIVIDUAL_NODES):
            name = f"project{count}:{widths[b]}{of_branch}"
            graphs[name] = (Projections(count, widths[b]), [maps[b]], REPEAT)
        for a in range(BRANCHES):
            if a != b:
                name = f"resize{a}to{b}:{widths[a]}-{widths[b]}{of_branch}"
                graphs[name] = (Several(resize(a, b, widths)), [maps[a]], 1)
    return graphs


def measure(
    genotype: AutoPoseGenotype,
    input_size_wh: tuple[int, int],
    *,
    threads: int = 1,
    rounds: int = 15,
    watch: Watch | None = None,
) -> LatencyTable:
    """Measure every unit of networks with these widths on ONNX Runtime's CPU provider.

    Args:
        genotype: its widths, stem, head and operation set count; its operations do not.
        input_size_wh: crop size.
        threads: of the runtime.
        rounds: runs per unit; the median counts.
        watch: progress.
    """
    ort = require("onnxruntime", extra="train", why="Measuring latency")
    graphs = unit_graphs(genotype, input_size_wh)
    models = onnx_models([(module, shapes) for module, shapes, _ in graphs.values()])
    times: dict[str, float] = {}
    for done, ((name, (_, shapes, count)), model) in enumerate(zip(graphs.items(), models, strict=True), start=1):
        session = cpu_session(model, threads)
        feed = {
            item.name: np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
            for item, shape in zip(session.get_inputs(), shapes, strict=True)
        }
        times[name] = median_ms(lambda session=session, feed=feed: session.run(None, feed), rounds) / count  # type: ignore[misc]
        if watch is not None:
            watch(done, len(graphs))
    device = f"{platform.processor() or platform.machine()}, ONNX Runtime {ort.__version__} CPU"
    return LatencyTable(device=device, threads=threads, milliseconds=times)


def open_measured(config: SearchConfig) -> AutoPoseSpace:
    """Open the space of a search whose latency can be predicted.

    Raises:
        ConfigError: its space has no latency table.
    """
    space = open_space(config.space, config.space_settings())
    if not isinstance(space, AutoPoseSpace):
        raise ConfigError(f"Latency tables are for the space 'autopose'; this configuration searches {config.space!r}.")
    return space


def measure_space(
    config: SearchConfig, *, threads: int = 1, rounds: int = 15, watch: Watch | None = None
) -> LatencyTable:
    """Measure every unit of the networks that a search can derive.

    Raises:
        ConfigError: its space has no latency table.
    """
    space = open_measured(config)
    genotype = space.template(space.config.derived_multiplier)
    return measure(genotype, config.codec.input_size_wh, threads=threads, rounds=rounds, watch=watch)


def cpu_session(model: bytes | str, threads: int) -> Any:
    """Return an ONNX Runtime session of a model or its file on the CPU provider.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
    """
    ort = require("onnxruntime", extra="train", why="Measuring latency")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_models(units: Sequence[tuple[nn.Module, list[Shape]]]) -> list[bytes]:
    """Return modules, each with the shapes of its inputs, as ONNX models.

    They are exported together and then taken apart: one export takes a second, however small the module.
    """
    import logging
    import warnings

    from onnx.utils import Extractor

    together = _Together([module for module, _ in units], [len(shapes) for _, shapes in units]).eval()
    zeros = tuple(torch.zeros(1, *shape) for _, shapes in units for shape in shapes)
    with torch.no_grad():
        counts = [len(outputs) for outputs in together.run(zeros)]
    inputs = [[f"input{unit}_{k}" for k in range(len(shapes))] for unit, (_, shapes) in enumerate(units)]
    outputs = [[f"output{unit}_{k}" for k in range(count)] for unit, count in enumerate(counts)]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                together, zeros, dynamo=True, optimize=False, verbose=False, opset_version=20,
                input_names=[name for names in inputs for name in names],
                output_names=[name for names in outputs for name in names],
            )  # fmt: skip
    finally:
        logger.setLevel(level)
    assert program is not None
    program.optimize()
    extractor = Extractor(program.model_proto)
    return [
        extractor.extract_model(given, found).SerializeToString() for given, found in zip(inputs, outputs, strict=True)
    ]


class _Together(nn.Module):
    """Modules side by side, each with its own inputs and outputs."""

    def __init__(self, units: Sequence[nn.Module], counts: Sequence[int]) -> None:
        super().__init__()
        self.units, self.counts = nn.ModuleList(units), counts

    def run(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Return the outputs of each."""
        outputs, start = [], 0
        for unit, count in zip(self.units, self.counts, strict=True):
            found = unit(*inputs[start : start + count])
            outputs.append((found,) if isinstance(found, Tensor) else tuple(found))
            start += count
        return outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(output for outputs in self.run(inputs) for output in outputs)


def median_ms(call: Callable[[], object], rounds: int) -> float:
    """Return the median time of a call in milliseconds, after two calls to warm up."""
    times = []
    for round_ in range(rounds + 2):
        begun = time.perf_counter()
        call()
        if round_ >= 2:
            times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)
