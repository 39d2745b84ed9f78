import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from autopose.data.images import _MAGIC, DiskReader, PackedReader, pack_images
from autopose.errors import DataError, MediaError


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for i, (height, width) in enumerate([(5, 7), (12, 3), (1, 1)]):
        path = tmp_path / "in" / f"sub{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), np.uint8))
        paths.append(path)
    return paths


def test_roundtrip_pack_gives_the_pixels_of_the_files(pictures: list[Path], tmp_path: Path) -> None:
    seen: list[Path] = []
    pack = pack_images([*pictures, pictures[0]], tmp_path / "out" / "all.pack", on_image=seen.append)
    reader = PackedReader(pack)
    assert len(reader) == len(seen) == 3
    for path in pictures:
        assert path in reader
        np.testing.assert_array_equal(reader.read(path), DiskReader().read(path))
        assert not reader.read(path).flags.writeable  # shared pages
    assert sum(DiskReader().read(p).size for p in pictures) < pack.stat().st_size < 1000


def test_a_pack_moves_with_its_images(pictures: list[Path], tmp_path: Path) -> None:
    pack = pack_images(pictures, tmp_path / "all.pack")
    expected = [DiskReader().read(path) for path in pictures]
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    reader = PackedReader(pack, root=tmp_path / "elsewhere")
    for path, image in zip(pictures, expected, strict=True):
        moved = tmp_path / "elsewhere" / path.relative_to(tmp_path / "in")
        np.testing.assert_array_equal(reader.read(moved), image)


def test_refuses_pictures_that_are_missing_or_damaged(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"No image .*gone"):
        DiskReader().read(tmp_path / "gone.png")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(MediaError, match=r"empty\.jpg: the file is empty"):
        DiskReader().read(tmp_path / "empty.jpg")
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:20])
    with pytest.raises(MediaError, match=r"broken\.png: the image is cut off"):
        pack_images([pictures[0], broken], tmp_path / "never.pack")
    assert not list(tmp_path.glob("*never*"))  # nothing half-written


@pytest.mark.parametrize("progressive", [False, True])
def test_refuses_jpegs_that_are_cut_off(tmp_path: Path, progressive: bool) -> None:
    """OpenCV would fill the missing half with grey."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[1].tobytes()
    (tmp_path / "whole.jpg").write_bytes(content + b"\0\0 a remark behind the end")
    assert DiskReader().read(tmp_path / "whole.jpg").shape == (64, 64, 3)
    for share in (0.3, 0.6, 0.99):
        (tmp_path / "cut.jpg").write_bytes(content[: int(share * len(content))])
        with pytest.raises(MediaError, match=r"cut\.jpg: the image is cut off"):
            DiskReader().read(tmp_path / "cut.jpg")


def test_refuses_what_is_no_pack(pictures: list[Path], tmp_path: Path) -> None:
    for content in (b"", b"short", b"x" * 100):
        path = tmp_path / "no.pack"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"no\.pack' is not a pack .*\n.*autopose data pack"):
            PackedReader(path)
    with pytest.raises(DataError, match="missing"):
        PackedReader(tmp_path / "missing")
    with pytest.raises(DataError, match="no images to pack"):
        pack_images([], tmp_path / "no.pack")
    reader = PackedReader(pack_images(pictures[:1], tmp_path / "one.pack"))
    with pytest.raises(MediaError, match=r"is not in the pack"):
        reader.read(pictures[1])


def test_reads_turned_photographs_as_stored(tmp_path: Path) -> None:
    """COCO's coordinates are of the stored pixels: an EXIF rotation is not applied."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees for display
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert DiskReader().read(tmp_path / "turned.jpg").shape == (20, 30, 3)


def test_a_loader_process_maps_the_pack_itself(pictures: list[Path], tmp_path: Path) -> None:
    """Spawned workers get the reader pickled: the pixels must not travel with it."""
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.zeros((400, 400, 3), np.uint8))
    reader = PackedReader(pack_images([*pictures, large], tmp_path / "all.pack"))
    sent = pickle.dumps(reader)
    assert len(sent) < 2000
    there = pickle.loads(sent)
    for path in (*pictures, large):
        np.testing.assert_array_equal(there.read(path), reader.read(path))


def test_pictures_on_another_drive(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """On Windows there is no relative path from one drive to another."""

    def no_way(*arguments: object) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr("os.path.relpath", no_way)
    monkeypatch.setattr("os.path.commonpath", no_way)
    reader = PackedReader(pack_images(pictures, tmp_path / "all.pack"))
    assert all(path in reader for path in pictures)
    assert tmp_path / "other.png" not in reader
    np.testing.assert_array_equal(reader.read(pictures[0]), DiskReader().read(pictures[0]))


@pytest.mark.parametrize(
    "index",
    [
        {"images": {}},
        [],
        {"root": "/", "images": {"a.png": [-5, 2, 2]}},
        {"root": "/", "images": {"a.png": [0, 1000, 1000]}},
        {"root": "/", "images": {"a.png": [0, 2]}},
    ],
)
def test_refuses_a_pack_whose_index_is_damaged(tmp_path: Path, index: Any) -> None:
    text = json.dumps(index).encode()
    (tmp_path / "p.pack").write_bytes(bytes(60) + text + len(text).to_bytes(8, "little") + _MAGIC)
    with pytest.raises(DataError, match="not a pack of images"):
        PackedReader(tmp_path / "p.pack")


def test_a_disk_that_is_too_small_for_a_pack_is_told_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pictures of equal size the first tells what the second wants; one byte less than that is too little."""
    large = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in large:
        cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))
    monkeypatch.setattr("autopose.data.images._TELLING", 1)
    seen: list[Path] = []
    for free, fits in ((1800, True), (1799, False)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr("autopose.data.images.shutil.disk_usage", lambda _, usage=usage: usage)
        out = tmp_path / f"{free}.pack"
        if fits:
            assert len(PackedReader(pack_images(large, out))) == 2
            continue
        with pytest.raises(DataError, match=r"2 decoded pictures would take .* free there"):
            pack_images(large, out, on_image=seen.append)
        assert not seen
        assert not out.exists()


def test_pictures_from_everywhere_tell_how_large_a_pack_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Sources lie one after the other: the first one's large photographs say nothing of the others' small ones."""
    pictures = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(pictures):
        cv2.imwrite(str(path), np.zeros((40, 50, 3) if number < 5 else (1, 1, 3), np.uint8))
    monkeypatch.setattr("autopose.data.images._TELLING", 4)
    whole = 5 * 40 * 50 * 3 + 5 * 3
    monkeypatch.setattr("autopose.data.images.shutil.disk_usage", lambda _: SimpleNamespace(free=whole))
    reader = PackedReader(pack_images(pictures, tmp_path / "all.pack"))
    assert [len(reader.read(path)) for path in pictures] == [40] * 5 + [1] * 5


def test_the_disk_that_a_link_leads_to_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (large := tmp_path / "large").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((20, 30, 3), np.uint8))
    try:
        (tmp_path / "link.pack").symlink_to(large / "real.pack")
    except OSError:
        pytest.skip("no links here")
    monkeypatch.setattr("autopose.data.images._TELLING", 1)
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(Path(folder))
        return SimpleNamespace(free=10**9)

    monkeypatch.setattr("autopose.data.images.shutil.disk_usage", usage)
    pack_images([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "link.pack")
    assert [folder.resolve() for folder in asked] == [large.resolve()]
