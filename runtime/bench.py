"""Where the time goes: each stage alone, the network by batch size, the whole pipeline, and what they depend on."""

import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autopose.console import counted
from autopose.drawing import draw
from autopose.errors import DataError
from autopose.runtime.ort_session import usable_cores
from autopose.runtime.pipeline import PosePipeline, Work, timed_work
from autopose.runtime.stages import Stage, percentiles, run_stages
from autopose.runtime.video import Frame

if TYPE_CHECKING:
    from autopose.runtime.estimator import Estimator
    from autopose.runtime.follow import Found

FORMAT = "autopose-bench"
#: Persons per synthetic frame.
SYNTHETIC_PERSONS = 4


@dataclass
class BenchResult:
    """Figures of one run.

    Attributes:
        subject: what was measured.
        settings: all that the figures depend on: model, detector, backend, device, flip, threads, cores, every,
            max_frames ...
        network: batch size -> ms per run (``p50_ms``, ``p95_ms``) and ``persons_per_s``.
        stages: stage, alone and in one thread -> ms per frame: ``p50_ms``, ``p95_ms``, ``total_s``.
        pipeline: all stages side by side: ``frames``, ``persons``, ``seconds``, ``fps``, ``persons_per_s``.
        peak_memory_mib: of the process.
    """

    subject: str
    settings: dict[str, Any]
    network: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    pipeline: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    format: str = FORMAT
    version: int = 1

    def to_json(self) -> str:
        """Return the result as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"


def load_bench(path: Path) -> BenchResult:
    """Read a saved result.

    Raises:
        DataError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT or content.get("version") != 1:
            raise ValueError(f"'format' and 'version' are not {FORMAT!r} and 1")
        result = BenchResult(**content)
        as_text(result)  # finds all that it shows
        return result
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path}: is no result of 'autopose bench --json': {error}.") from None


def synthetic_frames(count: int = 60, size_wh: tuple[int, int] = (1280, 720)) -> list[Frame]:
    """Return frames of noise: the networks take as long on them as on anything."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8) for _ in range(4)]
    return [Frame(images[i % 4], i, i / 25) for i in range(count)]


def synthetic_boxes(frame: Frame) -> "Found":
    """Return the persons of a synthetic frame: always as many, in the same places."""
    width, height = frame.size_wh
    left = np.linspace(0.05, 0.75, SYNTHETIC_PERSONS) * width
    boxes = np.stack([left, 0 * left + 0.2 * height, left + 0.15 * width, 0 * left + 0.8 * height], -1)
    return boxes.astype(np.float32), np.ones(SYNTHETIC_PERSONS, np.float32)


def settings_of(estimator: "Estimator", detector: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    manifest = estimator.manifest
    return {
        "model": manifest.name,
        "fingerprint": manifest.fingerprint,
        "input_size_wh": list(manifest.codec.input_size_wh),
        "precision": manifest.precision,
        "backend": estimator.session.backend,
        "device": estimator.session.device,
        "flip": estimator.flip,
        "detector": detector,
        "threads": estimator.session.threads,
        "cores": usable_cores(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }


def bench_network(
    estimator: "Estimator", batches: Iterable[int] = (1, 4, 8, 16), rounds: int = 30
) -> dict[str, dict[str, float]]:
    """Time the pose network alone on noise: crops to joints, as the pipeline asks it."""
    width, height = estimator.manifest.codec.input_size_wh
    rng = np.random.default_rng(0)
    figures = {}
    for batch in batches:
        if estimator.session.max_batch is not None and batch > estimator.session.max_batch:
            continue
        crops = rng.integers(0, 255, (batch, height, width, 3), np.uint8)
        times = _times(lambda crops=crops: estimator.predictor(crops), rounds)  # type: ignore[misc]
        figures[str(batch)] = {**percentiles(times), "persons_per_s": batch / float(np.median(times))}
    return figures


def bench_stages(
    estimator: "Estimator", frames: Iterable[Frame], boxes: "Callable[[Frame], Found] | None" = None
) -> dict[str, dict[str, float]]:
    """Time every stage alone: frame by frame, one after the other, in this thread.

    Args:
        estimator: to use.
        frames: source; getting each one is timed as ``decode``.
        boxes: persons to use for the poses; the detector is run and timed all the same.
    """
    decode = Stage("decode", list)
    seconds: dict[str, list[float]] = {name: [] for name in ("detect", "crop", "pose", "track", "smooth", "draw")}
    found: list[Found] = []
    # Boxes that are given: else persons are followed, and crop, pose and track are one stage.
    pipeline = PosePipeline(estimator, every=1, boxes=lambda frame: boxes(frame) if boxes else found[-1])
    for work in timed_work(frames, decode):
        _timed(seconds["detect"], lambda w=work: found.append(estimator.detect(w.frame.image)))  # type: ignore[misc]
        for stage in pipeline.stages():
            _timed(seconds[stage.name] if stage.name != "detect" else [], lambda s=stage, w=work: s.work([w]))  # type: ignore[misc]
        _timed(seconds["draw"], lambda w=work: draw(w.frame.image, w.result))  # type: ignore[misc]
    figures = {"decode": decode.timings()}
    for name, times in seconds.items():
        figures[name] = {"total_s": float(np.sum(times)), **percentiles(times)}
    return figures


def bench_pipeline(pipeline: PosePipeline, frames: Iterable[Frame]) -> dict[str, float]:
    """Time the stages side by side, drawing included, writing left out."""
    stages = [*pipeline.stages(), Stage("draw", _drawn)]
    begin, cpu = time.perf_counter(), time.process_time()
    count = persons = 0
    for work in run_stages(timed_work(frames, Stage("decode", list)), stages):
        count += 1
        persons += len(work.result)
    seconds = time.perf_counter() - begin
    return {
        "frames": count,
        "persons": persons,
        "every": pipeline.every,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "fps": count / seconds if seconds else 0.0,
        "persons_per_s": persons / seconds if seconds else 0.0,
    }


def peak_memory_mib() -> float | None:
    """Return the most memory that this process has held, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def as_text(result: BenchResult) -> str:
    """Return a result as lines for a terminal."""
    lines = [result.subject, "  " + ", ".join(f"{key} {value}" for key, value in result.settings.items())]
    if result.network:
        lines.append("  pose network alone    batch   p50 ms   p95 ms   persons/s")
        lines += [
            f"  {'':20}{batch:>7}{row['p50_ms']:>9.2f}{row['p95_ms']:>9.2f}{row['persons_per_s']:>12.1f}"
            for batch, row in result.network.items()
        ]
    if result.stages:
        lines.append("  stage alone, per frame        p50 ms   p95 ms")
        lines += [f"  {name:27}{row['p50_ms']:>9.2f}{row['p95_ms']:>9.2f}" for name, row in result.stages.items()]
    if result.pipeline:
        run = result.pipeline
        lines.append(
            f"  pipeline: {counted(round(run['frames']), 'frame')}, {counted(round(run['persons']), 'person')}, "
            f"detecting every {run['every']:.0f}: {run['fps']:.1f} frames/s, {run['persons_per_s']:.1f} persons/s"
        )
    if result.peak_memory_mib is not None:
        lines.append(f"  peak memory {result.peak_memory_mib:.0f} MiB")
    return "\n".join(lines)


def comparison(first: BenchResult, second: BenchResult) -> str:
    """Return how two results relate: ratios above 1 mean that the second is faster."""
    lines = [f"{second.subject} against {first.subject}"]
    settings = {key: (first.settings.get(key), second.settings.get(key)) for key in first.settings | second.settings}
    lines += [f"  {key}: {one} -> {other}" for key, (one, other) in settings.items() if one != other]
    for batch in (size for size in first.network if size in second.network):
        ratio = first.network[batch]["p50_ms"] / second.network[batch]["p50_ms"]
        lines.append(f"  pose network, batch {batch}: {ratio:.2f}x")
    shared = [name for name in first.stages if second.stages.get(name, {}).get("p50_ms")]
    lines += [f"  {n}: {first.stages[n]['p50_ms'] / second.stages[n]['p50_ms']:.2f}x" for n in shared]
    if first.pipeline.get("fps") and second.pipeline.get("fps"):
        lines.append(f"  pipeline: {second.pipeline['fps'] / first.pipeline['fps']:.2f}x")
    return "\n".join(lines)


def _times(call: Callable[[], Any], rounds: int) -> list[float]:
    for _ in range(3):
        call()
    times: list[float] = []
    for _ in range(rounds):
        _timed(times, call)
    return times


def _timed(times: list[float], call: Callable[[], Any]) -> None:
    begin = time.perf_counter()
    call()
    times.append(time.perf_counter() - begin)


def _drawn(items: list[Work]) -> list[Work]:
    for work in items:
        work.drawn = draw(work.frame.image, work.result)
    return items
