"""Sizes of pictures as they are stored, from their first bytes: tens of thousands are not decoded to be measured."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from autopose.data.images import DiskReader, picture_exists
from autopose.errors import DataError, MediaError

_PNG = b"\x89PNG\r\n\x1a\n"
#: Markers of a JPEG's frame, which has its size (ITU-T T.81, table B.1); C4, C8 and CC are something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: The EXIF entry that says how a picture is to be turned; 1: not at all.
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's file says before its pixels.

    Attributes:
        size_wh: width and height as stored.
        turned: whether an EXIF entry asks viewers to turn it.
        ended: whether its end is that of the file; else it may be cut off, or a video follows, as in motion photos.
    """

    size_wh: tuple[int, int]
    turned: bool = False
    ended: bool = True


def picture_header(path: Path) -> PictureHeader:
    """Return a picture's size, of a JPEG or PNG without decoding it.

    Raises:
        MediaError: it is missing, or cannot be decoded.
    """
    if picture_exists(path):
        try:
            with path.open("rb") as file:
                header = _png(file) or _jpeg(file)
                ended = _ended(file)
        except OSError as error:
            raise MediaError(f"{path}: cannot be read: {error.strerror}.") from None
        if header is not None and min(header.size_wh) > 0:
            return replace(header, ended=ended)
    height, width = DiskReader().read(path).shape[:2]
    return PictureHeader((width, height))


def refuse_turned(turned: Sequence[Path], count: int, where: Path, tool: str) -> None:
    """Raise a DataError if some of the pictures are stored turned, where labels mean them upright.

    Args:
        turned: those of them.
        count: of all pictures.
        where: names the set.
        tool: whose labels they are.
    """
    if turned:
        raise DataError(
            f"{where}: {len(turned)} of its {count} pictures are stored turned, the first {str(turned[0])!r}: their "
            f"EXIF entry says how. Labels of {tool} mean them upright; training reads pictures as they are stored.\n"
            "Store them upright and convert again: exiftran -ai FILES, or ImageMagick's mogrify -auto-orient FILES"
        )


def _png(file: BinaryIO) -> PictureHeader | None:
    file.seek(0)
    start = file.read(24)
    if len(start) < 24 or not start.startswith(_PNG) or start[12:16] != b"IHDR":
        return None
    return PictureHeader((int.from_bytes(start[16:20]), int.from_bytes(start[20:24])))


def _jpeg(file: BinaryIO) -> PictureHeader | None:
    """Return a JPEG's header; None if it is none, or its frame is not found."""
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return None
    turned = False
    while len(start := file.read(2)) == 2 and start[0] == 0xFF:
        if start[1] == 0xFF:  # a fill byte
            file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2))
        if start[1] in _FRAMES:
            frame = file.read(5)
            return PictureHeader((int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])), turned)
        if length < 2 or start[1] == 0xDA:
            return None
        if start[1] == 0xE1:
            turned = turned or _exif_turns(file.read(length - 2))
        else:
            file.seek(length - 2, 1)
    return None


def _ended(file: BinaryIO) -> bool:
    """Tell whether a file ends with the end marker of a JPEG or PNG."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 12))
    end = file.read()
    return end.endswith(b"\xff\xd9") or end.startswith(b"\0\0\0\0IEND")


def _exif_turns(segment: bytes) -> bool:
    """Tell whether an APP1 segment of a JPEG asks for a turn (EXIF 2.32: a TIFF header and its first directory)."""
    if not segment.startswith(b"Exif\0\0"):
        return False
    tiff = segment[6:]
    if tiff[:2] not in (b"II", b"MM"):
        return False

    def number(place: int, size: int) -> int:
        found = tiff[place : place + size]
        return int.from_bytes(found, "little" if tiff[:2] == b"II" else "big") if len(found) == size else 0

    first = number(4, 4)
    entries = (first + 2 + 12 * each for each in range(number(first, 2)))
    return any(number(entry, 2) == _ORIENTATION and 2 <= number(entry + 8, 2) <= 8 for entry in entries)
