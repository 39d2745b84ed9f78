"""Persons cut out of photographs: the same crops as from the photographs, in files that another reader opens."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from autopose.data.crop_archive import DETAIL, write_crops
from autopose.data.crop_set import draws_per_epoch, read_both, read_crops
from autopose.data.pose_dataset import PoseDataset
from autopose.errors import DataError, MediaError
from autopose.heatmap import Codec
from autopose.poses import Person
from autopose.skeleton import COCO17, MPII16

SIZE_WH = (48, 64)


def smooth(height: int, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture that survives JPEG and shrinking nearly unchanged."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture
def persons(tmp_path: Path) -> list[Person]:
    """Two persons in a large picture, one of them at its border and larger than the network looks; one in a small."""
    rng, found = np.random.default_rng(0), []
    for number, (picture, box) in enumerate(
        [("b.png", (150.5, 60.2, 230.0, 190.7)), ("b.png", (-10.0, -20.0, 250.0, 330.0)), ("a.png", (20, 10, 50, 55))]
    ):
        size = (70, 60) if picture == "a.png" else (400, 300)
        path = tmp_path / "photographs" / picture
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), smooth(size[1], size[0], len(picture) + size[0]))
        keypoints = rng.uniform(box[:2], box[2:], (17, 2))
        keypoints[3] = np.nan
        weight = rng.random(17).astype(np.float32)
        found.append(
            Person(path, np.array(box, np.float64), keypoints, weight, 900.5, 0.75, 7 + number, 70 + number, 2.5)
        )
    return found


def test_crops_are_those_of_the_photographs(persons: list[Person], tmp_path: Path) -> None:
    write_crops(persons, tmp_path / "crops", "train", SIZE_WH)
    crops = read_crops(tmp_path / "crops", "train", COCO17)
    codec = Codec(input_size_wh=SIZE_WH)
    was, now = PoseDataset(persons, codec), PoseDataset(crops.persons, codec, reader=crops)
    order = [crops.persons.index(next(p for p in crops.persons if p.annotation_id == 70 + i)) for i in range(3)]
    for number, place in enumerate(order):
        before, after = (data.sample(i, np.random.default_rng(0)) for data, i in ((was, number), (now, place)))
        np.testing.assert_allclose(after.xy, before.xy, atol=0.2)  # shrunk to whole pixels, joints and all
        np.testing.assert_array_equal(after.weight, before.weight)
        difference = np.abs(after.crop.astype(int) - before.crop).mean(-1)
        assert np.median(difference) < 4  # of 255: JPEG, and sampled twice
        assert difference.mean() < 5  # what the photograph ends in is blended with black
        person, given = crops.persons[place], persons[number]
        np.testing.assert_allclose(crops.in_photograph(place, person.keypoints), given.keypoints, atol=1e-9)
        ids = (person.image_id, person.score, person.weight_sample)
        assert ids == (given.image_id, given.score, given.weight_sample)
        ratio = person.area / given.area
        assert ratio == pytest.approx(crops.origin[place, 2:].prod())
    large = crops.persons[order[1]]
    shown = crops.read(large.image_path)
    # Its padded box is 1.25 * 350 pixels high for 64 of the network: shrunk to DETAIL as many, of what the picture has.
    assert shown.shape[0] == round(300 * DETAIL * 64 / (1.25 * 350))
    assert crops.read(crops.persons[order[0]].image_path).shape[0] > 1.5 * DETAIL * 64  # with room around


def test_files_are_no_larger_than_asked_and_open_elsewhere(persons: list[Person], tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    files = write_crops(persons, folder, "tune", SIZE_WH, coco=b'{"images": []}', largest=1)
    assert [file.name for file in files] == ["tune-00.safetensors", "tune-01.safetensors", "tune-02.safetensors"]
    with safe_open(str(files[0]), framework="numpy") as opened:
        assert json.loads(opened.metadata()["joints"]) == list(COCO17.joints)
        assert (opened.metadata()["part"], opened.metadata()["last"]) == ("0", "false")
        picture = np.asarray(cv2.imdecode(opened.get_tensor("jpeg"), cv2.IMREAD_COLOR))
        assert (picture.shape[1], picture.shape[0]) == tuple(opened.get_tensor("size_wh")[0])
        assert "coco" in opened.keys()  # noqa: SIM118 - no mapping
    crops = read_crops(folder, "tune", COCO17)
    assert crops.coco == b'{"images": []}'
    np.testing.assert_array_equal(crops.read(crops.persons[0].image_path), picture)
    write_crops(persons, folder, "train", SIZE_WH, largest=10_000_000)
    assert draws_per_epoch(folder, COCO17) == {folder / "train-00.safetensors": (3, 7.5)}


def test_what_is_no_set_of_crops_is_told(persons: list[Person], tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    with pytest.raises(DataError, match=r"holds no train-00\.safetensors. Write it with: autopose data crops"):
        read_crops(folder, "train", COCO17)
    files = write_crops(persons, folder, "train", SIZE_WH, largest=1)
    with pytest.raises(DataError, match=r"has the joints nose, .*skeleton is mpii16"):
        read_crops(folder, "train", MPII16)
    write_crops(persons, tmp_path / "whole", "train", SIZE_WH)
    whole = load_file(files[0])
    with safe_open(str(files[0]), framework="numpy") as opened:
        metadata = opened.metadata()
    broken = whole["jpeg"].copy()
    broken[: len(broken) // 2] = 0
    for change, reason in (
        ({"jpeg": broken}, "a picture in it is damaged"),
        ({"jpeg": whole["jpeg"][:-9]}, "do not add up"),
        ({"box": whole["box"][:, :3]}, "'box' has the shape"),
    ):
        save_file({**whole, **change}, files[0], metadata)
        with pytest.raises(DataError, match=reason):
            read_crops(folder, "train", COCO17)
    save_file(whole, files[0], metadata | {"autopose_crops": "9"})
    with pytest.raises(DataError, match="version '9'"):
        read_crops(folder, "train", COCO17)
    files[0].write_bytes(b"x" * 99)
    with pytest.raises(DataError, match="is no file of crops"):
        read_crops(folder, "train", COCO17)
    save_file(whole, files[0], metadata | {"set": "another"})
    with pytest.raises(DataError, match=r"its 3 files .* are not the files of one set"):
        read_crops(folder, "train", COCO17)
    save_file(whole, files[0], metadata)
    for missing in (files[2], files[0]):
        missing.unlink()
        with pytest.raises(DataError, match=r"are not the files of one set, numbered to the last"):
            read_crops(folder, "train", COCO17)
    for size_wh in ((48, 66), (50, 64), (48, 48)):
        with pytest.raises(DataError, match=rf"cut for inputs of 48x64; the recipe has {size_wh[0]}x{size_wh[1]}"):
            read_crops(tmp_path / "whole", "train", COCO17, size_wh)
    assert len(read_crops(tmp_path / "whole", "train", COCO17, (24, 32)).persons) == 3
    write_crops(persons, folder, "tune", SIZE_WH)
    with pytest.raises(DataError, match="no annotations to score with"):
        read_crops(folder, "tune", COCO17)


def test_files_of_two_calls_are_told(persons: list[Person], tmp_path: Path) -> None:
    """Else who is learnt from could be scored on, and better weights would be those that know them by heart."""
    write_crops(persons, tmp_path, "train", SIZE_WH)
    write_crops(persons[:2], tmp_path, "tune", SIZE_WH, coco=b"{}")
    with pytest.raises(DataError, match="are of two calls"):
        draws_per_epoch(tmp_path, COCO17)
    with pytest.raises(DataError, match="are of two calls"):
        read_both(tmp_path, COCO17, SIZE_WH)


def test_nothing_is_left_of_a_call_that_fails(persons: list[Person], tmp_path: Path) -> None:
    persons[1].image_path.unlink()  # the second picture's, after the first file is written
    folder = tmp_path / "crops"
    with pytest.raises(MediaError, match="No image"):
        write_crops(persons, folder, "train", SIZE_WH, largest=1)
    assert not list(folder.iterdir())


def test_annotations_count_as_part_of_a_file(persons: list[Person], tmp_path: Path) -> None:
    room = 100_000  # for all three persons
    assert len(write_crops(persons, tmp_path / "a", "tune", SIZE_WH, coco=b"{}", largest=room)) == 1
    assert len(write_crops(persons, tmp_path / "b", "tune", SIZE_WH, coco=b" " * room, largest=room)) == 2


def test_no_memory_for_them_is_told(persons: list[Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    write_crops(persons, tmp_path, "train", SIZE_WH)
    monkeypatch.setattr("autopose.data.crop_set.np.empty", full)
    with pytest.raises(DataError, match=r"3 train pictures take 0\.0 GB of memory decoded"):
        read_crops(tmp_path, "train", COCO17)


def test_loader_processes_that_are_not_forked_share_the_pixels(persons: list[Person], tmp_path: Path) -> None:
    """On Windows, on macOS, and from Python 3.14 on everywhere, each would else hold a copy of its own."""
    write_crops(persons, tmp_path, "train", SIZE_WH)
    crops = read_crops(tmp_path, "train", COCO17)
    copies = [pickle.loads(pickle.dumps(crops)) for _ in range(2)]
    assert len(pickle.dumps(crops).replace(crops.pixels.tobytes(), b"")) == len(pickle.dumps(crops))
    for copy in copies:
        assert not copy.pixels.flags.owndata
        for person, other in zip(crops.persons, copy.persons, strict=True):
            np.testing.assert_array_equal(copy.read(other.image_path), crops.read(person.image_path))
    file = Path(copies[0]._file)
    assert file.is_file()
    del crops, copies, copy
    assert not file.exists()
