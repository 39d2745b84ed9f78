"""A run over many sources: one estimator, a window if wanted; a bad source does not stop the others."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from autopose.errors import AutoposeError, BackendError, MediaError, UsageError
from autopose.runtime.estimator import Estimator
from autopose.runtime.inference import InferOptions, Progress, RunReport, infer_source
from autopose.runtime.ort_session import usable_cores
from autopose.runtime.outputs import PICTURES
from autopose.runtime.pipeline import Work
from autopose.runtime.sources import SourceSpec

log = logging.getLogger(__name__)


def pipeline_threads() -> int:
    """Return the CPU threads of each network in a pipeline, where detector, pose network and codec run side by side."""
    return max(1, usable_cores() // 2)


def usual_detector(specs: Sequence[SourceSpec]) -> str:
    """Return the bundled detector that is taken if none is named: the thorough one for separate images alone.

    In a video a person has many chances to be found, and a frame has less time.
    """
    return "default" if all(spec.kind == "images" for spec in specs) else "fast"


def refuse_unfit(specs: Sequence[SourceSpec], options: InferOptions, *, show: bool = False) -> None:
    """Make sure that an option that was given does something for one source at least.

    Args:
        specs: the sources.
        options: of the run.
        show: whether a window is opened.

    Raises:
        UsageError: all are separate images, and the option is of videos; or no picture is written or shown.
    """
    if options.hide and not show and options.save and PICTURES.isdisjoint(options.save):
        raise UsageError(
            f"--hide {options.hide}: is of pictures, and --save {','.join(options.save)} writes none. Leave it out, or "
            f"add one of {', '.join(sorted(PICTURES))}."
        )
    if any(spec.kind != "images" for spec in specs):
        return
    selection = options.selection
    for name, value in (("--start", selection.start_s or None), ("--end", selection.end_s)):
        if value is not None:
            raise UsageError(
                f"{name} {value:g}: is of seconds of a video, and the sources are images, of which --stride and "
                "--max-frames take a part. Leave it out."
            )
    if options.tracking is None:
        for name, given in (("--every", options.every), ("--smooth", options.smooth)):
            if given not in (None, 1, "none"):
                raise UsageError(
                    f"{name} {given}: is of persons followed from frame to frame, and the sources are separate images. "
                    "Leave it out, or add --track if they are frames of one scene."
                )


def open_estimator(settings: Mapping[str, Any]) -> Estimator:
    """Return an estimator for pipelines; ``threads`` None becomes :func:`pipeline_threads`."""
    chosen = dict(settings)
    if chosen.get("threads") is None:
        chosen["threads"] = pipeline_threads()
    return Estimator(**chosen)


def run_all(
    estimator: Estimator,
    specs: Sequence[SourceSpec],
    options: InferOptions,
    *,
    show: bool = False,
    bar: Callable[[SourceSpec], AbstractContextManager[Progress]] | None = None,
) -> Iterator[RunReport]:
    """Process sources one after the other and yield a report of each.

    Args:
        estimator: to use.
        specs: from :func:`autopose.runtime.sources.find_sources`.
        options: of the run.
        show: open a window.
        bar: opens a progress bar for a source.

    A source of several that cannot be read gives a report with its ``problem``; a single one raises.

    Raises:
        MediaError: the only source cannot be read, or there is no display to show it on.
        BackendError: a stage failed.
        UsageError: options contradict each other.
    """
    if show:
        options = replace(options, show=Window())
    for spec in specs:
        with nullcontext() if bar is None else bar(spec) as progress:
            try:
                report = infer_source(estimator, spec, options, progress)
            except (BackendError, UsageError):
                raise
            except AutoposeError as error:
                if len(specs) == 1:
                    raise
                report = RunReport(spec.public_location, problem=str(error))
        yield report
        if isinstance(options.show, Window) and options.show.ended:
            return


class Window:
    """A live window with the drawn frames; q or Escape ends the run, with all the sources that were to come."""

    title = "autopose (q ends)"
    ended = False

    def __init__(self) -> None:
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MediaError(
                "--show needs a display, and there is none here. Leave it out; the files are written anyway."
            )

    def __call__(self, work: Work) -> bool:
        """Show a frame; return False when the user wants to end."""
        import cv2

        if work.drawn is None:
            return True
        cv2.imshow(self.title, work.drawn)
        self.ended = cv2.waitKey(1) & 0xFF in (ord("q"), 27)
        return not self.ended
