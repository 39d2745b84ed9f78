"""Persons as training and evaluation crops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, transform
from autopose.data.augment import Augment, draw_look, random_matrix
from autopose.data.images import DiskReader, ImageReader
from autopose.data.looks import Look, damage, hide, recolour, sample_at
from autopose.data.neighbours import Neighbour, candidates, neighbour_matrix, paint_neighbour, place_neighbour
from autopose.heatmap import Codec
from autopose.poses import Person


@dataclass(frozen=True, eq=False)
class PoseSample:
    """One person, cropped.

    Attributes:
        crop: ``(h, w, 3)`` uint8 BGR.
        xy: ``(K, 2)`` float32 joints in crop pixels; NaN where nobody is in the crop.
        weight: ``(K,)`` float32; 0 where there is no label or the joint fell outside of the crop.
        matrix: ``(2, 3)`` float64 from image to crop pixels.
    """

    crop: NDArray[np.uint8]
    xy: NDArray[np.float32]
    weight: NDArray[np.float32]
    matrix: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PoseDraw:
    """What :class:`PoseSample` shows, before it is painted.

    Attributes:
        person: number of the person.
        matrix: ``(2, 3)`` float64 from image to crop pixels.
        xy: ``(K, 2)`` float32 joints in crop pixels; NaN where nobody is in the crop.
        weight: ``(K,)`` float32; 0 where there is no label or the joint fell outside of the crop.
        look: everything else that is changed.
        neighbour: who is painted in, or None.
    """

    person: int
    matrix: NDArray[np.float64]
    xy: NDArray[np.float32]
    weight: NDArray[np.float32]
    look: Look
    neighbour: Neighbour | None


class PoseDataset:
    """Persons of a dataset as crops; heatmap targets are made from them per batch."""

    def __init__(
        self,
        persons: Sequence[Person],
        codec: Codec,
        augment: Augment | None = None,
        reader: ImageReader | None = None,
    ) -> None:
        """Hold the persons.

        Args:
            persons: what to crop.
            codec: input size, and how far outside of the crop a joint still counts.
            augment: variation for training; None: exactly the crop of the runtime.
            reader: source of the pictures; None: the files.
        """
        self.persons = persons
        self.codec = codec
        self.augment = augment
        self.reader: ImageReader = reader if reader is not None else DiskReader()
        self.neighbours = candidates(persons) if augment is not None and augment.neighbour else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.persons)

    def draw(self, index: int, rng: np.random.Generator) -> PoseDraw:
        """Return what one crop is to show; the same generator state gives the same. No picture is read."""
        person, size_wh, augment = self.persons[index], self.codec.input_size_wh, self.augment
        keypoints, weight, skeleton = person.keypoints, person.weight, person.skeleton
        nowhere = np.isnan(keypoints).any(-1)
        look, neighbour = Look(), None
        if augment is None:
            center, region = center_scale_from_box(person.box_xyxy, size_wh[0] / size_wh[1])
            matrix = crop_matrix(center, region, size_wh)
        else:
            matrix, mirrored = random_matrix(
                person.box_xyxy, keypoints, np.where(nowhere, 0, weight), skeleton, size_wh, augment, rng
            )
            if mirrored:
                keypoints, weight = keypoints[skeleton.flip_order], weight[skeleton.flip_order]
            look = draw_look(size_wh, augment, rng)
        xy = transform(keypoints, matrix)
        if augment is not None and len(self.neighbours) and not nowhere.all() and rng.random() < augment.neighbour:
            number = int(rng.choice(self.neighbours))
            other = self.persons[number]
            placed = neighbour_matrix(person.box_xyxy, other.box_xyxy, matrix, rng)
            alpha, weight = place_neighbour(xy, weight, skeleton, size_wh, other, placed, rng)
            neighbour = None if alpha is None else Neighbour(number, placed, alpha)
        reach = 3 * self.codec.sigma * self.codec.stride  # as Codec.encode: a Gaussian may reach in from outside
        joints = xy.astype(np.float32)
        inside = ((joints >= -reach) & (joints <= np.array(size_wh) - 1 + reach)).all(-1)
        weight = np.where(inside | np.isnan(joints).any(-1), weight, 0).astype(np.float32)
        return PoseDraw(index, matrix, joints, weight, look, neighbour)

    def sample(self, index: int, rng: np.random.Generator) -> PoseSample:
        """Return one crop; the same generator state gives the same sample.

        Raises:
            MediaError: the picture is missing or cannot be decoded.
        """
        drawn = self.draw(index, rng)
        look, size_wh = drawn.look, self.codec.input_size_wh
        crop = sample_at(self.reader.read(self.persons[index].image_path), drawn.matrix, size_wh, look.coarse)
        if drawn.neighbour is not None:
            other = self.persons[drawn.neighbour.person]
            crop = paint_neighbour(crop, self.reader.read(other.image_path), drawn.neighbour)
        crop = damage(hide(recolour(crop, look.colour), look.patches), look)
        return PoseSample(crop, drawn.xy, drawn.weight, drawn.matrix)
