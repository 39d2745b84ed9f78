"""A run over many sources: one estimator, a progress bar, a window if wanted; a bad source does not stop the others."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autopose.errors import AutoposeError, BackendError, MediaError
from autopose.runtime.estimator import Estimator
from autopose.runtime.inference import InferOptions, RunReport, infer_source
from autopose.runtime.ort_session import usable_cores
from autopose.runtime.pipeline import Work
from autopose.runtime.sources import SourceSpec

log = logging.getLogger(__name__)


def pipeline_threads() -> int:
    """Return the CPU threads of each network in a pipeline, where detector, pose network and codec run side by side."""
    return max(1, usable_cores() // 2)


def open_estimator(settings: Mapping[str, Any]) -> Estimator:
    """Return an estimator for pipelines; ``threads`` None becomes :func:`pipeline_threads`."""
    chosen = dict(settings)
    if chosen.get("threads") is None:
        chosen["threads"] = pipeline_threads()
    return Estimator(**chosen)


def run_all(
    estimator: Estimator, specs: Sequence[SourceSpec], options: InferOptions, *, show: bool = False
) -> Iterator[RunReport]:
    """Process sources one after the other and yield a report of each.

    A source of several that cannot be read gives a report with its ``problem``; a single one raises.

    Raises:
        MediaError: the only source cannot be read, or there is no display to show it on.
        BackendError: a stage failed.
    """
    if show:
        options = replace(options, show=Window())
    for spec in specs:
        with Bar(spec.location) as bar:
            try:
                report = infer_source(estimator, spec, options, bar.update)
            except BackendError:
                raise
            except AutoposeError as error:
                if len(specs) == 1:
                    raise
                report = RunReport(spec.location, problem=str(error))
        yield report


class Window:
    """A live window with the drawn frames; q or Escape ends the run."""

    title = "autopose (q ends)"

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
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)


class Bar:
    """A progress bar on a terminal, and nothing elsewhere."""

    def __init__(self, text: str) -> None:
        self._progress: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(
                *columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True), transient=True
            )
            self._task = self._progress.add_task(Path(text).name or text, total=None, rate="")

    def update(self, done: int, total: int | None) -> None:
        """Move on to a number of frames."""
        if self._progress is not None:
            task = self._progress.tasks[0]
            rate = f"{task.speed:.1f} frames/s" if task.speed else ""
            self._progress.update(self._task, completed=done, total=total, rate=rate)

    def __enter__(self) -> "Bar":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
