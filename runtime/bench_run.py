"""A benchmark from what a user names: a model on synthetic frames, or a source with a model."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autopose.errors import UsageError
from autopose.runtime.bench import (
    BenchResult,
    bench_network,
    bench_pipeline,
    bench_stages,
    peak_memory_mib,
    settings_of,
    synthetic_boxes,
    synthetic_frames,
)
from autopose.runtime.detector import Detector
from autopose.runtime.estimator import Estimator
from autopose.runtime.follow import Found
from autopose.runtime.models import bundled_models
from autopose.runtime.pipeline import DEFAULT_EVERY, PosePipeline, pipeline_for
from autopose.runtime.run import open_estimator, usual_detector
from autopose.runtime.source_names import public_address
from autopose.runtime.sources import Selection, find_sources, open_source
from autopose.runtime.video import Frame


class SyntheticDetection:
    """Gives the synthetic persons, whom no detector finds in noise, and takes a detector's time for them.

    Args:
        detector: run in every n-th frame; what it finds is ignored.
        every: frames from one detection to the next.
    """

    def __init__(self, detector: Detector, every: int) -> None:
        self._detector, self._every, self._count = detector, every, 0

    def __call__(self, frame: Frame) -> Found:
        """Return the persons of a frame."""
        if self._count % self._every == 0:
            self._detector(frame.image)
        self._count += 1
        return synthetic_boxes(frame)


def bench_subject(
    subject: str,
    *,
    model: str = "default",
    detector: str | None = None,
    every: int | None = None,
    max_frames: int = 100,
    rounds: int = 30,
    **options: Any,
) -> BenchResult:
    """Measure a model, or a source with a model.

    Args:
        subject: a pose model's name, file or run folder; else a source as ``autopose infer`` takes it.
        model: pose model where the subject is a source.
        detector: person detector; None: the usual one for the subject.
        every: frames from one detection to the next; None for the default. On synthetic frames the persons are given
            in each frame, whatever the detector finds in every n-th.
        max_frames: of the source, or synthetic ones.
        rounds: runs of the pose network per batch size.
        options: of the estimator: flip, device, threads.

    Raises:
        ModelError: the model cannot be opened.
        MediaError: the subject is neither a model nor a source.
    """
    if is_model(subject):
        detector = detector or "fast"  # synthetic frames are a video's
        with open_estimator({"model": subject, "detector": detector, **options}) as estimator:
            estimator.warmup()
            result = BenchResult(f"model {subject}", settings_of(estimator, detector))
            frames = synthetic_frames(max_frames)
            every = DEFAULT_EVERY if every is None else every
            result.settings |= {"every": every, "max_frames": max_frames}
            pipeline = PosePipeline(estimator, every, boxes=SyntheticDetection(estimator.detector, every))
            _measure(result, estimator, lambda: frames, synthetic_boxes, pipeline, rounds)
        return result
    spec, *others = find_sources([subject])
    if others:
        raise UsageError(f"{subject}: stands for {1 + len(others)} sources; name one of them.")
    selection = Selection(max_frames=max_frames)
    detector = detector or usual_detector([spec])
    with open_estimator({"model": model, "detector": detector, **options}) as estimator:
        estimator.warmup()
        name = public_address(subject)
        settings = {"source": name, **settings_of(estimator, detector)}
        result = BenchResult(f"{name} with model {model}", settings)
        probe = open_source(spec, Selection(max_frames=1))
        with_every = pipeline_for(estimator, probe, every=every)
        probe.close()
        result.settings |= {"every": with_every.every, "max_frames": max_frames}
        _measure(result, estimator, lambda: open_source(spec, selection), None, with_every, rounds)
    return result


def is_model(subject: str) -> bool:
    """Tell whether a word means a model: a bundled name, an exported file, or a folder that holds one."""
    path = Path(subject)
    if path.is_dir():
        return any(path.glob("*.onnx")) or any(path.glob("*.safetensors"))
    return subject in bundled_models() or path.suffix.lower() in (".onnx", ".engine", ".plan", ".safetensors")


def _measure(
    result: BenchResult,
    estimator: Estimator,
    frames: Callable[[], Iterable[Frame]],
    boxes: Callable[[Frame], Found] | None,
    pipeline: PosePipeline,
    rounds: int,
) -> None:
    result.network = bench_network(estimator, rounds=rounds)
    result.stages = bench_stages(estimator, frames(), boxes)
    result.pipeline = bench_pipeline(pipeline, frames())
    result.peak_memory_mib = peak_memory_mib()
