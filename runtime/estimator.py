"""``Estimator``: a detector and a pose network, from images to ``Poses``."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autopose.errors import DataError
from autopose.poses import Poses
from autopose.runtime.arguments import check_choice, check_count, check_region, check_share
from autopose.runtime.crops import Crops, checked_boxes, crops_from_boxes, split
from autopose.runtime.detector import DEFAULT_THRESHOLD, Detector, Region, found_within, open_detector
from autopose.runtime.device_crops import Cropping, device_crops
from autopose.runtime.evidence import LEAST_EVIDENCE, evidence
from autopose.runtime.images import as_bgr
from autopose.runtime.models import Backend, open_model
from autopose.runtime.predictor import SessionPredictor
from autopose.runtime.session import Device, buckets
from autopose.runtime.similarity import keep_best_poses

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from autopose.runtime.smoother import Smoothing
    from autopose.runtime.video import Frame

log = logging.getLogger(__name__)

ImageLike: TypeAlias = "str | PathLike[str] | NDArray[np.uint8] | PilImage"


class Estimator:
    """Finds the joints of every person in images; safe to share between threads; a context manager.

    Args:
        model: a bundled pose model's name, an exported file or a run's folder (see ``autopose models``).
        detector: a bundled detector's name (``default`` looks twice and finds small persons, ``fast`` once, ``best``
            twice and at the mirror image, too), a file, ``full-frame``, or any callable of the form
            :class:`autopose.runtime.detector.Detector`.
        device: ``auto`` takes CUDA where it is, else the CPU; ``cuda`` insists.
        flip: average over the mirrored crop, as the papers test; False halves the cost of the pose network.
        backend: ``auto``, ``ort`` (ONNX Runtime) or ``trt`` (TensorRT).
        threads: CPU threads of one run of a network; None for all cores.
        detector_threshold: least score of a box.
        least_evidence: in images without tracking, least evidence of a person, see
            :func:`autopose.runtime.evidence.evidence`: where the pose network finds no joints, the detector was most
            likely wrong; 0 keeps every box. Boxes that you give are all kept. (Tracking has its own rule, see
            ``docs/video.md``.)
        batch_size: persons per run of the pose network, at most.
        cropping: where persons are cut out of images: ``auto``: on the GPU if ONNX Runtime runs the network there;
            ``host``: here; ``device``: where the network runs, or it is an error.
        region: corners x0, y0, x1, y1 of the part of each image in which persons are looked for, in pixels: boxes with
            their centre in it count. The detector sees it and a quarter of its sides around it, so that small persons
            are larger to it. None for the whole image; boxes that you give are all kept.

    Raises:
        ModelError: a model cannot be found or cannot do what is asked.
        BackendError: the device or backend cannot be had.
        ValueError: ``device``, ``backend`` or ``cropping`` is no such word, or a number is out of its range.
        TypeError: a number is none, or ``detector`` can neither be opened nor called.
    """

    def __init__(
        self,
        model: str | Path = "default",
        detector: str | Path | Detector = "default",
        *,
        device: Device = "auto",
        flip: bool = True,
        backend: Backend = "auto",
        threads: int | None = None,
        detector_threshold: float = DEFAULT_THRESHOLD,
        least_evidence: float = LEAST_EVIDENCE,
        batch_size: int = 16,
        cropping: Cropping = "auto",
        region: Region | None = None,
    ) -> None:
        check_choice("device", device, Device)
        check_choice("backend", backend, Backend)
        check_choice("cropping", cropping, Cropping)
        check_share("detector_threshold", detector_threshold)
        check_share("least_evidence", least_evidence)
        check_count("threads", threads, optional=True)
        if region is not None:
            check_region(region)
        if not isinstance(detector, str | Path) and not callable(detector):
            raise TypeError(
                f"detector {detector!r}: expected a name, a file or a callable; to do without one, 'full-frame', "
                "or boxes with each image."
            )
        self.session = open_model(model, flip=flip, backend=backend, device=device, threads=threads)
        try:
            self.predictor = SessionPredictor(self.session, flip=flip, batch_size=batch_size)
            self.device_crops = device_crops(self.session, cropping, self.predictor.batch_size)
            self.detector: Detector = (
                open_detector(detector, device=device, backend=backend, threads=threads, threshold=detector_threshold)
                if isinstance(detector, str | Path)
                else detector
            )
        except BaseException:
            self.session.close()
            raise
        self.manifest = self.session.manifest
        self.skeleton = self.predictor.skeleton
        self.flip = flip
        self.least_evidence = least_evidence
        self.region = region
        #: Least score of a box; a detector that has a threshold of its own goes by that.
        self.detector_threshold = float(getattr(self.detector, "threshold", detector_threshold))

    @classmethod
    def from_engine(cls, engine: str | Path, detector: str | Path | Detector = "default", **options: Any) -> Self:
        """Open a TensorRT engine made by ``autopose export --trt``; flip averaging as the engine has it."""
        if "flip" not in options:
            with open_model(engine, backend="trt") as session:
                options["flip"] = session.manifest.flip
        return cls(engine, detector, backend="trt", **options)

    @overload
    def predict(self, images: ImageLike, *, boxes: ArrayLike | None = None, rgb: bool = False) -> Poses: ...

    @overload
    def predict(
        self, images: list[Any] | tuple[Any, ...], *, boxes: Sequence[ArrayLike] | None = None, rgb: bool = False
    ) -> list[Poses]: ...

    def predict(
        self, images: "ImageLike | list[Any] | tuple[Any, ...]", *, boxes: Any = None, rgb: bool = False
    ) -> Poses | list[Poses]:
        """Find the persons of one image or of several; the persons of all images share the network's batches.

        Args:
            images: a path, an array ``(H, W, 3)`` uint8 BGR, a PIL image, or a list of these.
            boxes: persons to use instead of the detector's: ``(n, 4)`` xyxy in image pixels, for a list one such each.
            rgb: arrays are RGB.

        Returns:
            The persons, in image pixels, with the image attached; empty where nobody was found. A list for a list.

        Raises:
            MediaError: an image cannot be read.
            DataError: a given box has no area or lies outside its image, as the region may; the boxes are not one entry
                per image; or a detector of one's own gave another form, or values that are not finite.
        """
        many = isinstance(images, list | tuple)
        sources: Sequence[Any] = images if many else [images]  # type: ignore[assignment]
        arrays = [as_bgr(image, rgb=rgb) for image in sources]
        given: Sequence[Any] | None = boxes if many or boxes is None else [boxes]
        if given is not None and len(given) != len(arrays):
            raise DataError(f"boxes has {len(given)} entries for {len(arrays)} images; expected one per image.")
        names = [str(image) if isinstance(image, str | PathLike) else None for image in sources]
        found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for i, array in enumerate(arrays):
            if given is None:
                found.append(self.detect(array))
            else:
                checked = checked_boxes(given[i], (array.shape[1], array.shape[0]), names[i] or f"image {i}")
                found.append((checked, np.ones(len(checked), np.float32)))
        crops = [self.crop(array, persons) for array, (persons, _) in zip(arrays, found, strict=True)]
        results = self.estimate(crops, found, [(a.shape[1], a.shape[0]) for a in arrays], unique=given is None)
        if given is None:
            results = [self.believed(poses) for poses in results]
        kept = [replace(p, image=array, source=name) for p, array, name in zip(results, arrays, names, strict=True)]
        return kept if many else kept[0]

    def detect(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the boxes ``(n, 4)`` xyxy of an image that reach the threshold, and their scores ``(n,)``.

        Raises:
            DataError: a detector of one's own gave another form, or values that are not finite; the region lies outside
                of the image.
        """
        boxes, scores = found_within(self.region, self.detector, image)
        kept = scores >= self.detector_threshold
        return boxes[kept], scores[kept]

    def believed(self, poses: Poses) -> Poses:
        """Return the persons for whom enough speaks (``least_evidence``)."""
        return poses[evidence(poses) >= self.least_evidence]

    def crop(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Crops:
        """Cut the boxes out of an image for :meth:`estimate`."""
        return crops_from_boxes(image, boxes, self.manifest, on_device=self.device_crops is not None)

    def estimate(
        self,
        crops: Sequence[Crops],
        found: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
        sizes_wh: Sequence[tuple[int, int]],
        *,
        unique: bool = True,
    ) -> list[Poses]:
        """Run the pose network on the persons of several images at once.

        Args:
            crops: of each image.
            found: boxes and scores of each image.
            sizes_wh: width and height of each image.
            unique: drop poses that repeat a better one.
        """
        xy, scores = self._joints([crop for crop in crops if len(crop)])
        counts = [len(c) for c in crops]
        results = []
        for crop, (boxes, box_scores), size_wh, points, marks in zip(
            crops, found, sizes_wh, split(xy, counts), split(scores, counts), strict=True
        ):
            poses = Poses(
                boxes, box_scores, crop.to_image(points), np.asarray(marks, np.float32),
                image_size_wh=size_wh, skeleton=self.skeleton,
            )  # fmt: skip
            results.append(keep_best_poses(poses) if unique else poses)
        return results

    def _joints(self, crops: Sequence[Crops]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return positions ``(n, K, 2)`` in crop pixels and scores ``(n, K)`` of all images' persons."""
        width, height = self.manifest.codec.input_size_wh
        on_device = self.device_crops
        if on_device is not None and crops:
            frames = [(crop.frame, crop.matrices) for crop in crops if crop.frame is not None]
            keypoints = np.concatenate([on_device(frame, matrices) for frame, matrices in frames])
            xy, scores = keypoints[..., :2].astype(np.float64), keypoints[..., 2]
        else:
            images = [crop.images for crop in crops] or [np.zeros((0, height, width, 3), np.uint8)]
            xy, scores = self.predictor(images[0] if len(images) == 1 else np.concatenate(images))
        wrong = ~(np.isfinite(xy).all(-1) & np.isfinite(scores))
        if wrong.any():  # of a network that leaves its numbers' range: no joints, and files that can be read
            log.warning("%s: gave joints that are no numbers; they count as not seen.", self.manifest.name)
            xy, scores = np.where(wrong[..., None], 0, xy), np.where(wrong, np.float32(0), scores)
        return xy, scores

    def track(
        self,
        source: "str | Path | int | Iterable[Any]",
        *,
        every: int | None = None,
        tracking: bool | None = None,
        smooth: "Smoothing | None" = None,
        start_s: float = 0.0,
        end_s: float | None = None,
        stride: int = 1,
        max_frames: int | None = None,
        fps: float | None = None,
        rgb: bool = False,
    ) -> "Iterator[tuple[Frame, Poses]]":
        """Follow the persons of a video, a folder of images, a live stream, or frames that your own code gets.

        Args:
            source: a file, folder, glob, webcam index or stream address; or any iterable of images, or of pairs of
                seconds and image, which is read in a thread.
            every: frames from one detection to the next; None for the default.
            tracking: give ids; None for videos and streams only.
            smooth: ``online``, ``offline`` (frames come some later) or ``none``; None for online on videos.
            start_s: skip what comes before.
            end_s: stop there.
            stride: take every n-th frame.
            max_frames: stop after so many.
            fps: of frames of your own without times; None: 25.
            rgb: arrays of your own are RGB.

        Yields:
            Each frame (``image``, ``index``, ``time_s``) with its poses, which carry ids (images': with ``tracking``).

        Raises:
            MediaError: the source cannot be read.
            UsageError: options contradict each other, or the source stands for several.
            ValueError: ``smooth`` is no such word, or a number is out of its range.
            TypeError: the source is none, an option is unknown, or a number of frames is not whole.
        """
        from autopose.runtime.pipeline import track
        from autopose.runtime.sources import Selection

        check_count("every", every, optional=True)
        check_count("stride", stride)
        check_count("max_frames", max_frames, optional=True)
        selection = Selection(start_s, end_s, stride, max_frames)
        return track(self, source, selection, every=every, tracking=tracking, smooth=smooth, fps=fps, rgb=rgb)

    def warmup(self) -> Self:
        """Run both networks once on black images, so that the first real image meets ready ones; return self."""
        width, height = self.manifest.codec.input_size_wh
        largest = self.predictor.batch_size
        for count in buckets(1, largest) if self.session.device == "cuda" else sorted({1, largest}):
            if self.device_crops is None:
                self.predictor(np.zeros((count, height, width, 3), np.uint8))
            else:
                self.device_crops(np.zeros((height, width, 3), np.uint8), np.stack([np.eye(3)[:2]] * count))
        self.detector(np.zeros((480, 640, 3), np.uint8))
        return self

    def close(self) -> None:
        """Free the networks; a detector given as a callable stays open."""
        self.session.close()
        self.device_crops = None  # and what it holds of the device's memory
        close = getattr(self.detector, "close", None)
        if callable(close) and type(self.detector).__module__.startswith("autopose."):
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Estimator({self.session!r}, detector={type(self.detector).__name__}, flip={self.flip})"
