"""Image files that lack their end are told from those that only look so."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autopose.errors import MediaError
from autopose.image_files import begins_as_image, read_image, write_image


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


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_written_images_are_read_by_others(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)
    path = tmp_path / f"x{suffix}"
    write_image(path, image)
    assert capfd.readouterr() == ("", "")  # OpenCV warns of a setting that is not the format's
    assert begins_as_image(path)
    read_by_pillow = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
    np.testing.assert_array_equal(read_by_pillow, read_image(path))
    if suffix != ".webp":
        np.testing.assert_array_equal(read_by_pillow, image)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_the_quality_is_that_of_the_format(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8)
    sizes = []
    for quality in (20, 90):
        write_image(tmp_path / f"x{suffix}", image, quality)
        sizes.append((tmp_path / f"x{suffix}").stat().st_size)
    assert sizes[0] < 0.7 * sizes[1]


def test_what_cannot_be_written_or_is_no_image(tmp_path: Path) -> None:
    image = np.zeros((2, 70_000, 3), np.uint8)
    with pytest.raises(MediaError, match=r"70000x2 could not be written as '\.jpg'"):
        write_image(tmp_path / "wide.jpg", image)  # a JPEG's side has at most 65,535 pixels
    with pytest.raises(MediaError, match=r"could not be written as '\.docx'"):
        write_image(tmp_path / "text.docx", image)
    assert not list(tmp_path.iterdir())
    assert not begins_as_image(_write(tmp_path, b"no image at all"))
    assert not begins_as_image(tmp_path / "gone")


def test_pictures_are_turned_upright_or_left_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    path = _write(tmp_path, _encoded(exif=exif))
    assert read_image(path).shape == (64, 48, 3)
    assert read_image(path, upright=False).shape == (48, 64, 3)


def test_more_pixels_than_opencv_takes(tmp_path: Path) -> None:
    """A PNG's header of 40,000 x 40,000 pixels: OpenCV raises where it otherwise returns nothing."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 40_001))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(MediaError, match="cannot be decoded"):
        read_image(_write(tmp_path, png))
