"""Images as users give them (files, arrays, PIL pictures) to BGR arrays, and what is wrong with those that fail."""

import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.image_files import IMAGE_SUFFIXES, read_image


def as_bgr(image: Any, *, rgb: bool = False) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` uint8 BGR of a path, an array or a PIL image.

    Args:
        image: a path; an array ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)`` uint8; a PIL image.
        rgb: the array's channels are R, G, B (A) instead of OpenCV's B, G, R (A). PIL images are RGB by nature, and
            are turned upright as their EXIF entry says, as files are.

    Raises:
        MediaError: it is none of these, or it has no pixels.
    """
    if isinstance(image, str | PathLike):
        _refuse_source(fspath(image))
        return read_image(image)
    if hasattr(image, "convert") and hasattr(image, "getbands"):  # PIL, imported only for its own
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise MediaError("Got a PIL image of mode 'F', whose range is not known. Convert it to 'L' or 'RGB' first.")
        if image.mode.startswith("I"):
            # 16 bits, in Pillow's mode I too. PIL would cut the values off at 255; OpenCV, reading the file, scales.
            image = np.asarray(np.clip(np.asarray(image), 0, 65535) >> 8, np.uint8)
        else:
            image, rgb = np.asarray(image.convert("RGB")), True
    if not isinstance(image, np.ndarray):
        raise MediaError(f"Got {type(image).__name__} as an image; expected a path, a NumPy array or a PIL image.")
    if image.dtype != np.uint8:
        raise MediaError(f"Got an image array of {image.dtype}; expected uint8 values 0-255. Convert it first.")
    if image.ndim == 4:
        raise MediaError(
            f"Got an array of shape {image.shape}; expected (H, W, 3). Of several images give list(array)."
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or 0 in image.shape:
        raise MediaError(f"Got an image array of shape {image.shape}; expected (H, W, 3), (H, W, 4) or (H, W).")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    image = image[..., :3]
    return np.ascontiguousarray(image[..., ::-1] if rgb else image)


def _refuse_source(path: str) -> None:
    """Say what to call for a source of many images, before a whole video is read to be no image."""
    if Path(path).suffix.lower() in IMAGE_SUFFIXES and Path(path).is_file():
        return
    from autopose.runtime.source_names import public_address
    from autopose.runtime.sources import VIDEO_SUFFIXES

    is_address = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path)
    is_pattern = any(sign in path for sign in "*?") and not Path(path).exists()
    if is_address or is_pattern or Path(path).is_dir() or Path(path).suffix.lower() in VIDEO_SUFFIXES:
        raise MediaError(
            f"{public_address(path) if is_address else path}: is no image file. Videos, folders, patterns and "
            "addresses are for track(), which yields (frame, poses), or for 'autopose infer'."
        )
