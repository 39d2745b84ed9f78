"""Image files: read whole or not at all, written in one step."""

import tempfile
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.files import write_atomic

#: Suffixes that a folder's listing takes for images.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm"})

_QUALITY = {
    ".jpg": cv2.IMWRITE_JPEG_QUALITY,
    ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
    ".jpe": cv2.IMWRITE_JPEG_QUALITY,
    ".webp": cv2.IMWRITE_WEBP_QUALITY,
}


def read_image(path: str | PathLike[str], *, upright: bool = True) -> NDArray[np.uint8]:
    """Read an image file as ``(H, W, 3)`` BGR.

    Args:
        path: of the file.
        upright: turn it as its EXIF entry says; annotated sets such as COCO are marked in the picture as it is stored.

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
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # more pixels than OpenCV's limit, for instance
        raise MediaError(f"{path}: cannot be decoded ({error.err}). Make it smaller.") from None
    if image is None:
        raise MediaError(f"{path}: cannot be decoded as an image ({len(content)} bytes). It is damaged or no image.")
    return np.asarray(image, np.uint8)


def write_image(path: Path, image: NDArray[np.uint8], quality: int = 92) -> None:
    """Write an image in one step, in the format of the suffix.

    Args:
        path: of the file.
        image: ``(H, W, 3)`` BGR.
        quality: of a JPEG or WebP, 0 to 100.

    Raises:
        MediaError: the format is unknown, or cannot hold such an image.
    """
    # Encoded here, not by cv2.imwrite: that crashes on names that are no UTF-8, and cannot write many on Windows.
    setting = _QUALITY.get(path.suffix.lower())  # OpenCV warns of one that is not the format's
    try:
        done, content = cv2.imencode(path.suffix, image, [] if setting is None else [setting, quality])
    except cv2.error as error:
        done, reason = False, f": {error.err}"
    else:
        reason = ""
    if not done:
        height, width = image.shape[:2]
        raise MediaError(f"{path}: an image of {width}x{height} could not be written as {path.suffix!r}{reason}.")
    write_atomic(path, content.tobytes())


def begins_as_image(path: Path) -> bool:
    """Tell by its first bytes whether OpenCV can read a file, whatever it is called."""
    try:
        with path.open("rb") as file:
            first = file.read(4096)
    except OSError:
        return False  # who reads it will say why
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / "head"  # not the file itself: OpenCV crashes on names that are no UTF-8
        head.write_bytes(first)
        return bool(cv2.haveImageReader(str(head)))


def reduced(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Return an image made smaller, its longer side of about so many pixels and both even; a smaller one as it is."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size_wh = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def small_jpeg(image: NDArray[np.uint8], longest: int) -> bytes:
    """Return the JPEG of an image that is made smaller to be shown, see :func:`reduced`."""
    found, content = cv2.imencode(".jpg", reduced(image, longest), [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert found
    return content.tobytes()


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
