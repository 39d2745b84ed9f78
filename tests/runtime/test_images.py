"""Image files that lack their end are told from those that only look so."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autopose.errors import MediaError
from autopose.runtime.images import read_image


def _encoded(size_wh: tuple[int, int] = (64, 48), format_: str = "JPEG", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format_, **options)
    return held.getvalue()


def _with_thumbnail() -> bytes:
    """Return a JPEG that holds another one, with its own end marker, in an APP1 segment, as cameras write them."""
    thumbnail, picture = _encoded((16, 12)), _encoded()
    payload = b"Exif\0\0" + thumbnail
    return picture[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2) + payload + picture[2:]


def _write(folder: Path, content: bytes) -> Path:
    path = folder / "picture"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_motion_photo_is_whole(tmp_path: Path, format_: str) -> None:
    video = b"\0\0\0\x18ftypmp42" + bytes(200_000)  # longer than any search from the file's end
    assert read_image(_write(tmp_path, _encoded(format_=format_) + video)).shape == (48, 64, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_fill_bytes_and_progressive_scans(tmp_path: Path, options: dict[str, Any]) -> None:
    picture = _encoded(**options)
    assert read_image(_write(tmp_path, picture[:2] + b"\xff\xff" + picture[2:])).shape == (48, 64, 3)


def test_the_thumbnails_end_is_not_the_pictures(tmp_path: Path) -> None:
    whole = _with_thumbnail()
    assert read_image(_write(tmp_path, whole)).shape == (48, 64, 3)
    for kept in (len(whole) - 500, len(whole) - 2, 700):
        with pytest.raises(MediaError, match="cut off"):
            read_image(_write(tmp_path, whole[:kept]))


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_a_cut_off_file(tmp_path: Path, format_: str) -> None:
    whole = _encoded(format_=format_)
    for kept in (20, len(whole) // 2, len(whole) - 13):
        with pytest.raises(MediaError, match="cut off"):
            read_image(_write(tmp_path, whole[:kept]))
