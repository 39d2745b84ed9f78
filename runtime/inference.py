"""``infer``: sources in, result files out; one pipeline per source."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autopose.anonymise import Hidden, hide
from autopose.drawing import draw
from autopose.errors import AutoposeError, MediaError
from autopose.runtime.arguments import check_choice
from autopose.runtime.outputs import Format, formats_of, open_sink, refuse_overwriting
from autopose.runtime.pipeline import PosePipeline, Work, capacity_for, pipeline_for, timed_work
from autopose.runtime.sinks import Sink, SinkContext
from autopose.runtime.smoother import Smoothing
from autopose.runtime.sources import Selection, Source, SourceSpec, open_source
from autopose.runtime.stages import Stage, run_stages

if TYPE_CHECKING:
    from autopose.runtime.estimator import Estimator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InferOptions:
    """How a run reads, follows and writes.

    Attributes:
        out: folder of the results.
        save: output formats; None for the annotated video or images, and JSON.
        every: frames from one detection to the next; None for the default.
        tracking: give ids; None for videos and streams only.
        smooth: None for ``online`` where there are tracks.
        selection: part of each source.
        boxes: a file of boxes to use instead of the detector.
        least_box_score: boxes of this file below it do not count.
        hide: what pictures do not show, see :mod:`autopose.anonymise`; sound is left out then. None: they show all.
        show: callback that gets each drawn frame, in the caller's thread; returning False stops the run.
    """

    out: Path = Path("autopose-out")
    save: tuple[Format, ...] | None = None
    every: int | None = None
    tracking: bool | None = None
    smooth: Smoothing | None = None
    selection: Selection = field(default_factory=Selection)
    boxes: Path | None = None
    least_box_score: float = 0.0
    hide: Hidden | None = None
    show: Callable[[Work], bool] | None = None

    def __post_init__(self) -> None:
        if self.hide is not None:
            check_choice("hide", self.hide, Hidden)


@dataclass
class RunReport:
    """What came of one source.

    Attributes:
        source: as the user gave it, without a password.
        frames: processed.
        persons: poses in all frames together.
        seconds: wall time.
        files: written.
        problem: what was wrong with the source, as a sentence; None if it was whole.
        unmatched: that the file of boxes knows none of its frames, as a sentence; of one source among several no fault.
        stages: name -> total_s, p50_ms, p95_ms.
        live: figures of a live source.
    """

    source: str
    frames: int = 0
    persons: int = 0
    seconds: float = 0.0
    files: list[Path] = field(default_factory=list)
    problem: str | None = None
    unmatched: str | None = None
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    live: dict[str, float | int] = field(default_factory=dict)

    @property
    def fps(self) -> float:
        """Return frames per second of wall time."""
        return self.frames / self.seconds if self.seconds else 0.0


Progress = Callable[[int, int | None], None]


def infer_source(
    estimator: "Estimator", spec: SourceSpec, options: InferOptions, progress: Progress | None = None
) -> RunReport:
    """Process one source into its result files.

    Whatever happens, the files hold the frames up to that moment and are finished properly.

    Args:
        estimator: to use; may be shared.
        spec: from :func:`autopose.runtime.sources.find_sources`.
        options: of the run.
        progress: called with the frames done and their expected number.

    Raises:
        UsageError: an output would take the source's place.
        MediaError: the source cannot be read at all, or an output cannot be finished.
        BackendError: a stage failed; the message names it.
    """
    begin = time.perf_counter()
    refuse_overwriting([spec], options.out, options.save, options.boxes)
    source = open_source(spec, options.selection)
    try:
        given = None
        if options.boxes is not None:
            from autopose.runtime.given_boxes import GivenBoxes

            given = GivenBoxes(options.boxes, least_score=options.least_box_score)
        pipeline = pipeline_for(
            estimator, source, every=options.every, tracking=options.tracking, smooth=options.smooth, boxes=given
        )
        sinks = _open_sinks(estimator, source, options, pipeline)
        report = RunReport(spec.public_location)
        _drive(source, pipeline, sinks, options, report, progress)
    finally:
        source.close()
    report.problem = source.problem or next((sink.problem for sink in sinks if sink.problem), None)
    if given is not None:
        report.unmatched = given.unmatched()
    if not report.frames and report.problem is None:
        report.problem = f"{report.source}: gave no frame, so nothing was written."
    report.live = source.report()
    report.seconds = time.perf_counter() - begin
    return report


def _open_sinks(estimator: "Estimator", source: Source, options: InferOptions, pipeline: PosePipeline) -> list[Sink]:
    manifest = estimator.manifest
    model = {
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "precision": manifest.precision,
        "backend": estimator.session.backend,
        "device": estimator.session.device,
        "flip": estimator.flip,
        "every": pipeline.every,
        "smooth": pipeline.smooth,
        "autopose_version": manifest.autopose_version,
    }
    sound = options.hide is None and bool(getattr(source, "has_audio", False))  # voices tell who speaks
    context = SinkContext(source.spec, options.out, estimator.skeleton, source.fps, sound, model)
    return [open_sink(name, context) for name in formats_of(source.spec, options.save)]


def _drive(
    source: Source,
    pipeline: PosePipeline,
    sinks: Sequence[Sink],
    options: InferOptions,
    report: RunReport,
    progress: Progress | None,
) -> None:
    def write(items: list[Work]) -> list[Work]:
        for work in items:
            for sink in sinks:
                try:
                    sink.write(work.frame, work.result, work.drawn)
                except OSError as error:
                    raise _not_written(sink, error) from None
        return items

    decode = Stage("decode", list)
    stages = pipeline.stages()
    if options.hide is not None:
        stages.append(Stage("hide", partial(_hide, options.hide)))
    if options.show or any(sink.needs_drawing for sink in sinks):
        stages.append(Stage("draw", _draw))
    stages.append(Stage("write", write))
    works = run_stages(timed_work(source, decode), stages, capacity=capacity_for(source.spec))
    try:
        for work in works:
            report.frames += 1
            report.persons += len(work.result)
            if progress is not None:
                progress(report.frames, source.frame_count)
            if options.show is not None and not options.show(work):
                break
    finally:
        works.close()
        unfinished = _close(sinks, report)
        report.stages = {stage.name: stage.timings() for stage in (decode, *stages)}
    if unfinished is not None:  # not reached after an error in a stage, which is the reason and goes first
        raise unfinished


def _close(sinks: Sequence[Sink], report: RunReport) -> AutoposeError | None:
    """Finish the files of every sink, even if another one's cannot be; return the first error."""
    first: AutoposeError | None = None
    for sink in sinks:
        try:
            report.files += sink.close()
        except Exception as error:  # encoders and file systems raise all kinds; each becomes a sentence
            log.debug("%s", sink.destination, exc_info=error)
            first = first or _not_written(sink, error)
    return first


def _not_written(sink: Sink, error: Exception) -> AutoposeError:
    if isinstance(error, AutoposeError):
        return error
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return MediaError(
        f"{sink.destination}: could not be written ({reason}). Make room there, or choose another folder with -o, "
        "and run again."
    )


def _hide(what: Hidden, items: list[Work]) -> list[Work]:
    """Replace the frames: from here on no picture shows more.

    Doubtful persons are hidden as well: somebody who comes in is in no output before the third sighting.
    """
    for work in items:
        image = hide(work.frame.image, work.result, what)
        if work.doubted is not None:
            image = hide(image, work.doubted, what)
        work.frame = replace(work.frame, image=image)
    return items


def _draw(items: list[Work]) -> list[Work]:
    for work in items:
        work.drawn = draw(work.frame.image, work.result)
    return items
