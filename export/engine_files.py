"""A graph to an engine file with its sidecar: build, prove, write."""

import logging
from pathlib import Path
from typing import Any

from autopose.export.builders import load_builder
from autopose.export.cache import load_timing_cache, save_timing_cache
from autopose.export.engine import EngineOptions, build_engine, inspect_engine, require_half
from autopose.files import write_atomic
from autopose.manifest import Manifest
from autopose.runtime.engine_sidecar import Builder, EngineSidecar, sha256_of
from autopose.runtime.gpu import gpu_here
from autopose.runtime.trt_session import open_runtime

log = logging.getLogger(__name__)


def write_engine(
    graph: Path, out: Path, manifest: Manifest, kind: Builder, options: EngineOptions, *, rebuild: str
) -> dict[str, Any]:
    """Build an engine and write it with its sidecar.

    Args:
        graph: ONNX file in the engine's precision.
        out: engine to write.
        manifest: of the graph.
        kind: library.
        options: profile, targets, memory.
        rebuild: command that builds it anew, for messages of whoever cannot run it.

    Returns:
        What is worth reporting.

    Raises:
        BackendError, MissingDependencyError: see :func:`autopose.export.engine.build_engine`.
    """
    trt = load_builder(kind)
    gpu = gpu_here()
    timing = timing_name(kind, trt.__version__)
    built = build_engine(graph, manifest, kind, options, load_timing_cache(timing) if kind == "tensorrt" else None)
    inspected = _inspected(trt, built.plan) if gpu is not None else None
    if inspected is not None:
        require_half(manifest.precision, inspected, f"The engine, as {kind}'s inspector sees it,")
    write_atomic(out, built.plan)
    sidecar = EngineSidecar(
        manifest=manifest,
        builder=kind,
        builder_version=trt.__version__,
        onnx_sha256=sha256_of(graph),
        engine_sha256=sha256_of(out),
        batches=options.batches,
        targets=options.targets,
        gpu=gpu.name if gpu and not options.targets else "",
        compute_capability=gpu.capability if gpu and not options.targets else "",
        portable=options.portable,
        half_share=built.half_share,
        inspected_share=inspected,
        rebuild=rebuild,
    )
    sidecar.save(out)
    if built.timing_cache is not None:
        save_timing_cache(timing, built.timing_cache)
    return {"builder": f"{kind} {trt.__version__}", "half_share": built.half_share, "inspected_share": inspected}


def timing_name(kind: Builder, version: str) -> str:
    """Return the name of the timing cache for this library and GPU: timings of another are worthless."""
    gpu = gpu_here()
    where = "".join(c if c.isalnum() else "-" for c in gpu.name) if gpu else "no-gpu"
    return f"{kind}-{version}-{where}"


def _inspected(trt: Any, plan: bytes) -> float | None:
    """Return the inspector's share of half-precision convolutions, if this machine can open the engine."""
    runtime = open_runtime(trt)
    engine = None if runtime is None else runtime.deserialize_cuda_engine(plan)
    if engine is None:
        log.info("The engine is not for this machine's GPU or driver: only the parsed network's types were read.")
        return None
    return inspect_engine(trt, engine)
