"""Persons as training and evaluation crops."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, transform, warp
from autopose.data.augment import (
    Augment,
    change_colour,
    degrade,
    erase_patches,
    random_matrix,
    sample_crop,
)
from autopose.data.images import DiskReader, ImageReader
from autopose.data.neighbours import candidates, neighbour_matrix, paste_neighbour
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

    def sample(self, index: int, rng: np.random.Generator) -> PoseSample:
        """Return one crop; the same generator state gives the same sample.

        Raises:
            MediaError: the picture is missing or cannot be decoded.
        """
        person, size_wh, augment = self.persons[index], self.codec.input_size_wh, self.augment
        image = self.reader.read(person.image_path)
        keypoints, weight = person.keypoints, person.weight
        nowhere = np.isnan(keypoints).any(-1)
        if augment is None:
            center, region = center_scale_from_box(person.box_xyxy, size_wh[0] / size_wh[1])
            matrix = crop_matrix(center, region, size_wh)
            crop, xy = warp(image, matrix, size_wh), transform(keypoints, matrix)
        else:
            matrix, mirrored = random_matrix(
                person.box_xyxy, keypoints, np.where(nowhere, 0, weight), person.skeleton, size_wh, augment, rng
            )  # fmt: skip
            if mirrored:
                keypoints, weight = keypoints[person.skeleton.flip_order], weight[person.skeleton.flip_order]
            crop, xy = sample_crop(image, matrix, size_wh, augment, rng), transform(keypoints, matrix)
            if len(self.neighbours) and not nowhere.all() and rng.random() < augment.neighbour:
                other = self.persons[rng.choice(self.neighbours)]
                crop, weight = paste_neighbour(
                    crop, xy, weight, person.skeleton, self.reader.read(other.image_path), other,
                    neighbour_matrix(person.box_xyxy, other.box_xyxy, matrix, rng), rng,
                )  # fmt: skip
            crop = change_colour(crop, augment, rng)
            crop = degrade(erase_patches(crop, augment, rng), augment, rng)
        reach = 3 * self.codec.sigma * self.codec.stride  # as Codec.encode: a Gaussian may reach in from outside
        joints = xy.astype(np.float32)
        inside = ((joints >= -reach) & (joints <= np.array(size_wh) - 1 + reach)).all(-1)
        return PoseSample(
            crop, joints, np.where(inside | np.isnan(joints).any(-1), weight, 0).astype(np.float32), matrix
        )
