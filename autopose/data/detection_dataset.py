"""Whole photographs as detector inputs: one, or two to four side by side, with boxes and regions to ignore."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from autopose.affine import letterbox_matrix, transform_boxes, warp, warp_shrunk
from autopose.config import Config
from autopose.data.augment import Augment, change_colour, degrade
from autopose.data.draw import WeightedDraw
from autopose.data.images import DiskReader, ImageReader
from autopose.data.pasted import PersonPaster
from autopose.data.scenes import Scene
from autopose.poses import Person


class SceneColour(Augment):
    """Colour and sharpness of whole photographs: what else :class:`Augment` has does not count here."""

    blur: float = Field(0.05, ge=0, le=1)


class DetectionAugment(Config):
    """What is varied, and how often.

    Attributes:
        flip: probability of mirroring.
        zoom: smallest and largest enlargement relative to fitting the whole picture; drawn log-uniformly.
        stretch: largest log2 of the change of aspect ratio.
        mosaic_zoom: the same for each picture of a mosaic, relative to fitting its part of the input.
        mosaic: probability of composing 2 to 4 pictures: small persons with clean labels, many per input.
        paste: probability of painting persons cut out of other photographs into the input.
        pasted: how many of them at the most.
        pasted_height: their least and largest height in input pixels, where they are not put beside somebody.
        min_visible: a box of which less than this share is inside is ignored rather than learnt.
        min_side: boxes smaller than this many input pixels are ignored.
        smooth_shrink: probability of shrinking by areas (no aliasing) instead of bilinear sampling.
        colour: strengths of the colour change, blur and JPEG; its geometry is not used.
    """

    flip: float = Field(0.5, ge=0, le=1)
    zoom: tuple[float, float] = (0.6, 2.0)
    mosaic_zoom: tuple[float, float] = (0.9, 2.5)
    stretch: float = Field(0.25, ge=0)
    mosaic: float = Field(0.4, ge=0, le=1)
    paste: float = Field(0.0, ge=0, le=1)
    pasted: int = Field(4, ge=1)
    pasted_height: tuple[float, float] = (20, 160)
    min_visible: float = Field(0.35, ge=0, le=1)
    min_side: float = Field(6.0, ge=0)
    smooth_shrink: float = Field(0.5, ge=0, le=1)
    colour: SceneColour = SceneColour()

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name in ("zoom", "mosaic_zoom"):
            low, high = getattr(self, name)
            if not 0 < low <= high < 100:
                raise ValueError(
                    f"{name} is [{low}, {high}]; expected the smallest enlargement, above 0, then the largest"
                )
        low, high = self.pasted_height
        if not 0 < low <= high < 10_000:
            raise ValueError(f"pasted_height is [{low}, {high}]; expected the least height, above 0, then the largest")
        return self


@dataclass(frozen=True, eq=False)
class DetectionSample:
    """One input of the detector.

    Attributes:
        image: ``(h, w, 3)`` uint8 BGR.
        boxes: ``(n, 4)`` float32 corners in input pixels, inside the input.
        weight: ``(n,)`` float32.
        ignore: ``(m, 4)`` float32 regions where neither a person nor its absence is to be learnt.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    weight: NDArray[np.float32]
    ignore: NDArray[np.float32]


class DetectionDataset:
    """Scenes as detector inputs."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        size_wh: tuple[int, int],
        augment: DetectionAugment | None = None,
        reader: ImageReader | None = None,
        persons: Sequence[Person] = (),
    ) -> None:
        """Hold the scenes.

        Args:
            scenes: photographs with boxes.
            size_wh: of the detector's input.
            augment: variation for training; None: the letterboxed picture, as the runtime gives it.
            reader: source of the pictures; None: the files.
            persons: who may be painted into them (``DetectionAugment.paste``).
        """
        self.scenes = scenes
        self._draw = WeightedDraw([scene.weight_sample for scene in scenes])
        self.size_wh = size_wh
        self.augment = augment
        self.reader: ImageReader = reader if reader is not None else DiskReader()
        self.paster = PersonPaster(persons if augment is not None and augment.paste else (), self.reader)

    def __len__(self) -> int:
        return len(self.scenes)

    def sample(self, index: int, rng: np.random.Generator) -> DetectionSample:
        """Return one input; the same generator state gives the same sample.

        Raises:
            MediaError: a picture is missing or cannot be decoded.
        """
        augment = self.augment
        if augment is None:
            scene = self.scenes[index]
            image = self.reader.read(scene.image_path)
            matrix = letterbox_matrix((image.shape[1], image.shape[0]), self.size_wh)
            return _labelled(warp(image, matrix, self.size_wh), scene, matrix, self.size_wh, 0, 0)
        if rng.random() < augment.mosaic:
            sample = self._mosaic(index, augment, rng)
        else:
            sample = self._placed(index, self.size_wh, augment.zoom, augment, rng)
        if len(self.paster) and rng.random() < augment.paste:
            for _ in range(int(rng.integers(augment.pasted)) + 1):
                sample = self._with_another(sample, augment, rng)
        image = degrade(change_colour(sample.image, augment.colour, rng), augment.colour, rng)
        return DetectionSample(image, sample.boxes, sample.weight, sample.ignore)

    def _mosaic(self, index: int, augment: DetectionAugment, rng: np.random.Generator) -> DetectionSample:
        """Compose pictures in one or two rows and columns around a random corner point."""
        width, height = self.size_wh
        columns = (0, int(width * rng.uniform(0.3, 0.7)), width)
        rows = (0, int(height * rng.uniform(0.3, 0.7)), height)
        layout = rng.integers(4)  # side by side, on top of each other, or (twice as likely) four
        if layout == 0:
            rows = (0, height, height)
        elif layout == 1:
            columns = (0, width, width)
        image = np.empty((height, width, 3), np.uint8)
        parts: list[DetectionSample] = []
        for y0, y1 in pairwise(rows):
            for x0, x1 in pairwise(columns):
                if x1 == x0 or y1 == y0:
                    continue
                chosen = self._draw(rng) if parts else index  # as often as the sources' ``repeat`` says
                part = self._placed(chosen, (x1 - x0, y1 - y0), augment.mosaic_zoom, augment, rng)
                image[y0:y1, x0:x1] = part.image
                shift = np.array([x0, y0, x0, y0], np.float32)
                parts.append(DetectionSample(part.image, part.boxes + shift, part.weight, part.ignore + shift))
        return DetectionSample(
            image,
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.ignore for part in parts]),
        )

    def _with_another(
        self, sample: DetectionSample, augment: DetectionAugment, rng: np.random.Generator
    ) -> DetectionSample:
        """Paint one more person into a picture; those who are hidden by it become regions to ignore."""
        pasted = self.paster.paste(sample.image, sample.boxes, augment.pasted_height, rng)
        if pasted is None:
            return sample
        image, box, hidden = pasted
        new, learnt = box[None], np.array([(box[2:] - box[:2]).min() >= augment.min_side])
        return DetectionSample(
            image,
            np.concatenate([sample.boxes[~hidden], new[learnt]]),
            np.concatenate([sample.weight[~hidden], np.ones(learnt.sum(), np.float32)]),
            np.concatenate([sample.ignore, sample.boxes[hidden], new[~learnt]]),
        )

    def _placed(
        self,
        index: int,
        window_wh: tuple[int, int],
        zoom_range: tuple[float, float],
        augment: DetectionAugment,
        rng: np.random.Generator,
    ) -> DetectionSample:
        """Zoom, stretch, mirror and shift one picture into a window."""
        scene = self.scenes[index]
        image = self.reader.read(scene.image_path)
        window, size = np.array(window_wh, np.float64), np.array([image.shape[1], image.shape[0]], np.float64)
        zoom = np.exp(rng.uniform(*np.log(zoom_range)))
        stretch = 2 ** (rng.uniform(-augment.stretch, augment.stretch) / 2)
        scale = (window / size).min() * zoom * np.array([stretch, 1 / stretch])
        # Anywhere that the picture fills the window, or, if smaller, fits in it.
        corner = rng.random(2) * (window - size * scale)
        matrix = np.array(
            [[scale[0], 0, corner[0] + (scale[0] - 1) / 2], [0, scale[1], corner[1] + (scale[1] - 1) / 2]]
        )
        if rng.random() < augment.flip:
            matrix[0] = -matrix[0]
            matrix[0, 2] += window_wh[0] - 1
        border = (0, 0, 0) if rng.random() < 0.5 else tuple(int(value) for value in rng.integers(0, 256, 3))
        shrink = warp_shrunk if scale.max() < 0.7 and rng.random() < augment.smooth_shrink else warp
        picture = shrink(image, matrix, window_wh, border)  # type: ignore[arg-type]
        return _labelled(picture, scene, matrix, window_wh, augment.min_visible, augment.min_side)


def _labelled(
    image: NDArray[np.uint8],
    scene: Scene,
    matrix: NDArray[np.float64],
    window_wh: tuple[int, int],
    min_visible: float,
    min_side: float,
) -> DetectionSample:
    """Carry a scene's boxes into the window; those hardly visible or tiny become regions to ignore."""
    moved = transform_boxes(scene.boxes, matrix)
    boxes = np.clip(moved, 0, [*window_wh, *window_wh])
    sides = boxes[:, 2:] - boxes[:, :2]
    present = (sides > 0).all(1)
    visible = sides.prod(1) / np.maximum((moved[:, 2:] - moved[:, :2]).prod(1), 1e-9)
    learn = present & (visible >= min_visible) & (sides.min(1, initial=np.inf) >= min_side)
    ignore = np.clip(transform_boxes(scene.ignore, matrix), 0, [*window_wh, *window_wh])
    ignore = np.concatenate([ignore[(ignore[:, 2:] > ignore[:, :2]).all(1)], boxes[present & ~learn]])
    return DetectionSample(
        image, boxes[learn].astype(np.float32), scene.weight[learn], ignore.astype(np.float32)
    )  # fmt: skip
