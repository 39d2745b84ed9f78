"""Estimator, tracker and smoother over a whole source, as stages that run side by side."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autopose.errors import UsageError
from autopose.poses import Poses
from autopose.runtime.arguments import check_choice
from autopose.runtime.crops import Crops
from autopose.runtime.follow import Follower, Found, find_all
from autopose.runtime.own_frames import OwnFrames
from autopose.runtime.smoother import Smoothing, open_smoother
from autopose.runtime.sources import Selection, Source, SourceSpec, find_sources, open_source
from autopose.runtime.stages import Stage, TimedSource, run_stages
from autopose.runtime.tracker import Tracker
from autopose.runtime.video import Frame

if TYPE_CHECKING:
    from autopose.runtime.estimator import Estimator

#: Frames from one detection to the next, as measured by ``benchmarks/every.py``; between them boxes follow the poses.
DEFAULT_EVERY = 2
#: Frames that may wait between two stages, and whose persons may therefore share a run of the pose network.
QUEUE = 4


def capacity_for(spec: SourceSpec) -> int:
    """Return how many frames of a source may wait between two stages: a live one shall not lag behind."""
    return 1 if spec.kind == "live" else QUEUE


@dataclass
class Work:
    """A frame on its way through the stages.

    Attributes:
        frame: as it was read.
        found: the detector's boxes and scores; None where it was not asked.
        crops: of these boxes.
        poses: of the persons that are shown.
        doubted: every pose that was estimated, of those who are not believed in, too.
        drawn: the picture with skeletons.
    """

    frame: Frame
    found: Found | None = None
    crops: Crops | None = None
    poses: Poses | None = None
    doubted: Poses | None = None
    drawn: NDArray[np.uint8] | None = None

    @property
    def result(self) -> Poses:
        """Return the poses, once they are known."""
        assert self.poses is not None
        return self.poses


@dataclass
class PosePipeline:
    """The stages from frames to poses.

    Attributes:
        estimator: shared with others, if need be.
        every: frames from one detection to the next; needs tracking if more than 1.
        tracking: give ids.
        smooth: needs tracking unless ``none``.
        boxes: gives the persons of a frame instead of the detector.
        fps: of the source, for the smoother's windows and the clock of separate images.
        moving: a frame shows what the one before did; separate images do not, and nobody is followed between them.
    """

    estimator: "Estimator"
    every: int = 1
    tracking: bool = True
    smooth: Smoothing = "online"
    boxes: Callable[[Frame], Found] | None = None
    fps: float = 25.0
    moving: bool = True

    def __post_init__(self) -> None:
        check_choice("smooth", self.smooth, Smoothing)
        if self.every < 1:
            raise UsageError(f"--every {self.every}: expected 1 or more frames.")
        if self.every > 1 and not self.tracking:
            raise UsageError(
                f"--every {self.every} needs tracking: between detections boxes follow the tracked persons. "
                "Leave out --every or --no-track."
            )
        if self.smooth != "none" and not self.tracking:
            raise UsageError(f"--smooth {self.smooth} needs tracking: leave out --smooth or --no-track.")
        self._count = 0
        self._follows = self.tracking and self.boxes is None and (self.moving or self.every > 1)
        self.tracker = Tracker(start_score=self.estimator.detector_threshold, trusting=self.boxes is not None)
        self.follower = Follower(self.estimator, self.tracker)
        self._smoother = open_smoother(self.smooth, self.fps)

    def stages(self) -> list[Stage]:
        """Return the stages in order; they map ``Work`` to ``Work``."""
        detect = Stage("detect", self._detect)
        if self._follows:
            stages = [detect, Stage("pose", self._follow)]
        else:
            stages = [detect, Stage("crop", self._crop), Stage("pose", self._pose, batch=QUEUE)]
            if self.tracking:
                stages.append(Stage("track", self._track))
        if self.tracking and self.smooth != "none":
            stages.append(Stage("smooth", self._smooth, flush=self._flush))
        return stages

    def _time_s(self, frame: Frame) -> float:
        return frame.index / self.fps if frame.time_s is None else frame.time_s

    def _detect(self, items: list[Work]) -> list[Work]:
        for work in items:
            if self.boxes is not None:
                work.found = self.boxes(work.frame)
            elif self._count % self.every == 0:
                image = work.frame.image
                work.found = find_all(self.estimator, image) if self._follows else self.estimator.detect(image)
            self._count += 1
        return items

    def _crop(self, items: list[Work]) -> list[Work]:
        for work in items:
            assert work.found is not None
            work.crops = self.estimator.crop(work.frame.image, work.found[0])
        return items

    def _pose(self, items: list[Work]) -> list[Work]:
        crops = [work.crops for work in items if work.crops is not None]
        found = [work.found for work in items if work.found is not None]
        results = self.estimator.estimate(crops, found, [w.frame.size_wh for w in items], unique=self.boxes is None)
        for work, poses in zip(items, results, strict=True):
            work.doubted = poses
            alone = self.boxes is None and not self.tracking  # the tracker weighs the evidence of several frames
            work.poses, work.crops = self.estimator.believed(poses) if alone else poses, None
        return items

    def _track(self, items: list[Work]) -> list[Work]:
        for work in items:
            work.poses = self.tracker.update(work.result, self._time_s(work.frame))
        return items

    def _follow(self, items: list[Work]) -> list[Work]:
        """Estimate frame by frame: where nothing was detected, the boxes come from the frame before."""
        for work in items:
            work.poses = self.follower.step(work.frame.image, work.found, self._time_s(work.frame))
            work.doubted = self.follower.doubted
        return items

    def _smooth(self, items: list[Work]) -> list[Work]:
        return [done for work in items for done in self._smoothed(work)]

    def _smoothed(self, work: Work) -> Iterator[Work]:
        for item, poses in self._smoother.push(work, work.result, self._time_s(work.frame)):
            item.poses = poses
            yield item

    def _flush(self) -> Sequence[Work]:
        held = self._smoother.flush()
        for item, poses in held:
            item.poses = poses
        return [item for item, _ in held]


def timed_work(source: Iterable[Frame], clock: Stage) -> TimedSource[Work]:
    """Return the frames of a source as work; the time to get each goes to the clock."""
    return TimedSource(source, Work, clock)


def pipeline_for(
    estimator: "Estimator",
    source: Source,
    *,
    every: int | None = None,
    tracking: bool | None = None,
    smooth: Smoothing | None = None,
    boxes: Callable[[Frame], Found] | None = None,
) -> PosePipeline:
    """Return the pipeline of a source: videos are tracked and smoothed by default, separate images are not.

    ``every`` and ``smooth`` are for what is tracked: separate images among the sources of a run go without.

    Raises:
        UsageError: the options contradict each other, for whatever source.
    """
    if boxes is not None and every is not None and every > 1:
        raise UsageError(
            f"--every {every} has no place with --boxes: given boxes are taken in every frame. Leave one out."
        )
    moving = source.spec.kind != "images"
    if smooth is not None:  # of images too, which go without
        check_choice("smooth", smooth, Smoothing)
    if tracking is None:
        tracking = moving
        every, smooth = (every, smooth) if moving else (None, None)
    return PosePipeline(
        estimator,
        every=(DEFAULT_EVERY if moving and tracking and boxes is None else 1) if every is None else every,
        tracking=tracking,
        smooth=("online" if moving and tracking else "none") if smooth is None else smooth,
        boxes=boxes,
        fps=float(source.fps or 25),
        moving=moving,
    )


def track(
    estimator: "Estimator",
    source: str | Path | int | Iterable[Any],
    selection: Selection,
    *,
    every: int | None,
    tracking: bool | None,
    smooth: Smoothing | None,
    fps: float | None,
    rgb: bool,
) -> Iterator[tuple[Frame, Poses]]:
    """Yield each frame of one source with its poses, see :meth:`~autopose.runtime.estimator.Estimator.track`."""
    opened = _opened(source, selection, fps, rgb)
    try:
        pipeline = pipeline_for(estimator, opened, every=every, tracking=tracking, smooth=smooth)
    except BaseException:
        opened.close()
        raise
    capacity = capacity_for(opened.spec)

    def frames() -> Iterator[tuple[Frame, Poses]]:
        try:
            for work in run_stages(timed_work(opened, Stage("decode", list)), pipeline.stages(), capacity=capacity):
                yield work.frame, work.result
        finally:
            opened.close()

    return frames()


def _opened(source: str | Path | int | Iterable[Any], selection: Selection, fps: float | None, rgb: bool) -> Source:
    if isinstance(source, str | PathLike | Integral):
        if fps is not None or rgb:
            raise UsageError("fps and rgb are of frames of your own; a file or camera says itself. Leave them out.")
        specs = find_sources([source])
        if len(specs) != 1:
            raise UsageError(f"track({str(source)!r}): stands for {len(specs)} sources; give them one by one.")
        return open_source(specs[0], selection)
    if not isinstance(source, Iterable) or isinstance(source, bytes | Mapping):
        raise TypeError(
            f"track() takes a file, folder, pattern, webcam number, address, or an iterable of images, not "
            f"{type(source).__name__}."
        )
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps {fps}: expected frames per second, above 0.")
    return OwnFrames(source, 25.0 if fps is None else float(fps), rgb=rgb, selection=selection)
