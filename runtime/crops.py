"""Persons cut out of images for the pose network, and its joints put back into the images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autopose.affine import center_scale_from_box, crop_matrix, invert, transform, warp
from autopose.errors import DataError
from autopose.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Crops:
    """The persons of one image, ready for the network.

    Attributes:
        images: ``(n, h, w, 3)`` uint8 BGR; none where the device cuts them out of ``frame``.
        matrices: ``(n, 2, 3)`` image pixels to crop pixels.
        frame: the whole image ``(H, W, 3)``, where :class:`autopose.runtime.device_crops.DeviceCrops` is to crop.
    """

    images: NDArray[np.uint8]
    matrices: NDArray[np.float64]
    frame: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.matrices)

    def to_image(self, xy_crop: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map joints ``(n, K, 2)`` from crop pixels to image pixels."""
        return transform(xy_crop, invert(self.matrices)).astype(np.float32)


def crops_from_boxes(
    image: NDArray[np.uint8], boxes: NDArray[np.floating], manifest: Manifest, *, on_device: bool = False
) -> Crops:
    """Cut out boxes ``(n, 4)`` xyxy, enlarged as the model was trained; what lies outside the image is black.

    With ``on_device`` only the matrices are made, and the image goes with them.
    """
    width, height = manifest.codec.input_size_wh
    centers, regions = center_scale_from_box(boxes, width / height, manifest.box_padding)
    matrices = np.empty((len(boxes), 2, 3))
    images = np.empty((0 if on_device else len(boxes), height, width, 3), np.uint8)
    for i in range(len(boxes)):
        matrices[i] = crop_matrix(centers[i], regions[i], (width, height))
        if not on_device:
            images[i] = warp(image, matrices[i], (width, height))
    return Crops(images, matrices, image if on_device else None)


def checked_boxes(boxes: ArrayLike, image_size_wh: tuple[int, int], where: str) -> NDArray[np.float32]:
    """Return boxes given by a user as ``(n, 4)`` float32.

    Raises:
        DataError: a box is not four finite numbers, has no area, or lies wholly outside the image.
    """
    array = np.asarray(boxes, np.float32)
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(f"{where}: got boxes of shape {array.shape}; expected (n, 4): x0, y0, x1, y1 in image pixels.")
    width, height = image_size_wh
    for i, (x0, y0, x1, y1) in enumerate(array.tolist()):
        text = f"{where}: box {i} = ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not np.isfinite([x0, y0, x1, y1]).all() or x1 - x0 <= 0 or y1 - y0 <= 0:
            raise DataError(f"{text} has no area; expected x0 < x1 and y0 < y1 (corners, not width and height).")
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise DataError(f"{text} lies outside the image, which is {width}x{height} pixels. Leave it out.")
    return array


def split(array: NDArray[np.floating], counts: Sequence[int]) -> list[NDArray[np.floating]]:
    """Cut an array of all persons of several images into one per image."""
    return np.split(array, np.cumsum(counts)[:-1]) if counts else []
