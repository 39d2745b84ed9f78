"""Images as users give them (files, arrays, PIL pictures) to BGR arrays, and what is wrong with those that fail."""

from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.errors import MediaError

#: Suffixes that a folder's listing takes for images.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm"})


def read_image(path: str | PathLike[str]) -> NDArray[np.uint8]:
    """Read an image file as ``(H, W, 3)`` BGR, turned upright as its EXIF entry says.

    Raises:
        MediaError: the file is missing, empty, cut off or no image.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"No image {str(path)!r}. Give an existing file.") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror}.") from None
    if not content:
        raise MediaError(f"{path}: the file is empty (0 bytes); expected an image.")
    if is_cut_off(content):
        raise MediaError(f"{path}: the image is cut off: its end is missing. Copy the file again from its source.")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise MediaError(f"{path}: cannot be decoded as an image ({len(content)} bytes). It is damaged or no image.")
    return np.asarray(image, np.uint8)


def is_cut_off(content: bytes) -> bool:
    """Tell whether a JPEG or PNG lacks its end marker (OpenCV would fill the rest with grey).

    The marker may stand far from the end of the file: telephones append a video to their motion photos.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return content.rfind(b"\xff\xd9", _jpeg_scan(content)) < 0
    return content.startswith(b"\x89PNG\r\n") and b"\0\0\0\0IEND" not in content


def _jpeg_scan(content: bytes) -> int:
    """Return where a JPEG's first scan begins (ITU-T T.81, B.1): before it, an EXIF thumbnail has end markers too."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xDA:  # start of scan: in what follows, an FF of the data is never followed by D9
            return position
        # A marker may be preceded by fill bytes FF; all others here have a length, which counts itself.
        position += 1 if marker == 0xFF else 2 + int.from_bytes(content[position + 2 : position + 4])
    return position


def as_bgr(image: Any, *, rgb: bool = False) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` uint8 BGR of a path, an array or a PIL image.

    Args:
        image: a path; an array ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)`` uint8; a PIL image.
        rgb: the array's channels are R, G, B (A) instead of OpenCV's B, G, R (A). PIL images are RGB by nature.

    Raises:
        MediaError: it is none of these, or it has no pixels.
    """
    if isinstance(image, str | PathLike):
        return read_image(image)
    if hasattr(image, "convert") and hasattr(image, "getbands"):  # PIL, without importing it
        image, rgb = np.asarray(image.convert("RGB")), True
    if not isinstance(image, np.ndarray):
        raise MediaError(f"Got {type(image).__name__} as an image; expected a path, a NumPy array or a PIL image.")
    if image.dtype != np.uint8:
        raise MediaError(f"Got an image array of {image.dtype}; expected uint8 values 0-255. Convert it first.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or 0 in image.shape:
        raise MediaError(f"Got an image array of shape {image.shape}; expected (H, W, 3), (H, W, 4) or (H, W).")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    image = image[..., :3]
    return np.ascontiguousarray(image[..., ::-1] if rgb else image)
