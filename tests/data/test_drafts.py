"""Results of 'infer' as draft labels: by hand, and by COCO's own reader."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from autopose.cli import app
from autopose.data.annotations import load_persons
from autopose.data.coco import load_coco
from autopose.data.conversion import convert_coco, read_records
from autopose.data.preflight import check_folder
from autopose.data.skeletons import skeleton_of
from autopose.errors import DataError
from autopose.poses import Poses
from autopose.results import frame_record, results_header
from autopose.skeleton import COCO17, Skeleton

W, H = 200, 100
OWN = Skeleton("dog", ("nose", "left_ear", "right_ear"), (("nose", "left_ear"),), (0.03, 0.04, 0.05))
Pictures = Callable[..., Path]


@pytest.fixture
def picture(tmp_path: Path) -> Pictures:
    def write(name: str, size_wh: tuple[int, int] = (W, H)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((size_wh[1], size_wh[0], 3), np.uint8))
        return path

    return write


def _poses(source: Path | None, boxes: Any = (), scores: Any = (), skeleton: Skeleton = COCO17) -> Poses:
    """Return persons whose joint k is at (10 + k, 20 + k)."""
    joints = len(skeleton)
    xy = np.stack([10 + np.arange(joints), 20 + np.arange(joints)], 1)
    return Poses(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.5, np.float32),
        np.tile(xy, (len(boxes), 1, 1)).astype(np.float32), np.array(scores, np.float32).reshape(-1, joints),
        image_size_wh=(W, H), skeleton=skeleton, source=None if source is None else str(source),
    )  # fmt: skip


def _write(path: Path, *frames: Poses, kind: str = "images") -> Path:
    header = results_header(frames[0].skeleton, {"kind": kind, "path": "x"})
    records = [frame_record(poses, number) for number, poses in enumerate(frames)]
    path.write_text(json.dumps({**header, "frames": records}))
    return path


def _convert(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["data", "convert", *map(str, words)])


def test_persons_and_joints_by_hand(tmp_path: Path, picture: Pictures) -> None:
    scores = np.full(17, 0.9)
    scores[[0, 3]] = 0.2, 0.19
    results = _write(
        tmp_path / "photos.json",
        _poses(picture("photos/a.png"), [(5, 10, 45, 60), (100, 0, 250, 50)], [scores, [0.1] * 17]),
        _poses(picture("photos/nobody.png")),
    )
    out = tmp_path / "draft.json"
    result = _convert(results, "-o", out)
    assert result.exit_code == 0, result.output
    assert "draft.json: 2 pictures, 1 person with coco17" in result.output
    content = json.loads(out.read_text())
    assert [image["file_name"] for image in content["images"]] == ["photos/a.png", "photos/nobody.png"]
    assert {(image["width"], image["height"], image["complete"]) for image in content["images"]} == {(W, H, False)}
    assert content["categories"][0]["name"] == "person"
    assert content["categories"][0]["keypoints"] == list(COCO17.joints)
    first, second = content["annotations"]
    assert (first["bbox"], second["bbox"]) == ([5, 10, 40, 50], [100, 0, 100, 50])  # the other is cut to the picture
    assert first["score"] == second["score"] == 0.5
    joints = np.reshape(first["keypoints"], (17, 3))
    seen = [k for k in range(17) if k != 3]
    np.testing.assert_array_equal(joints[seen], [[10 + k, 20 + k, 2] for k in seen])
    np.testing.assert_array_equal(joints[3], 0)
    assert first["pseudo"] == seen
    assert (second["num_keypoints"], second["pseudo"]) == (0, [])
    assert first["segmentation"] == []  # CVAT's reader passes over records without
    coco = pytest.importorskip("pycocotools.coco").COCO(str(out))
    assert len(coco.getAnnIds(catIds=coco.getCatIds("person"))) == 2
    (person,) = load_coco(out)  # a model's labels weigh less
    np.testing.assert_allclose(person.weight[[0, 3, 5]], [0.3, 0, 0.3])


def test_joints_of_ones_own_stay(tmp_path: Path, picture: Pictures) -> None:
    results = _write(tmp_path / "dogs.json", _poses(picture("a.png"), [(5, 10, 45, 60)], [[0.9] * 3], OWN))
    file = read_records(results)
    assert file is not None
    assert convert_coco(file, skeleton_of(file), tmp_path / "draft.json") == 1
    draft = read_records(tmp_path / "draft.json")
    assert draft is not None
    skeleton = skeleton_of(draft)
    assert (skeleton.joints, skeleton.sigmas, skeleton.limbs) == (OWN.joints, OWN.sigmas, OWN.limbs)


@pytest.mark.parametrize("kind", ["video", "live"])
def test_results_of_videos_are_no_labels(tmp_path: Path, picture: Pictures, kind: str) -> None:
    results = _write(tmp_path / "clip.json", _poses(picture("a.png"), [(5, 10, 45, 60)], [[0.9] * 17]), kind=kind)
    refused = _convert(results, "-o", tmp_path / "draft.json")
    assert isinstance(refused.exception, DataError)
    assert "labels are of pictures" in str(refused.exception)
    assert not (tmp_path / "draft.json").exists()


def test_pictures_that_moved_are_found_by_as_much_of_their_paths_as_is_left(tmp_path: Path, picture: Pictures) -> None:
    """Two of one name; beside the results lies a picture of that name, too: the run's own, with skeletons."""
    names = ("old/photos/a/1.png", "old/photos/b/1.png")
    results = _write(
        tmp_path / "photos.json", *(_poses(picture(name), [(5, 10, 45, 60)], [[0.9] * 17]) for name in names)
    )
    picture("1.png")
    (tmp_path / "old").rename(tmp_path / "new")
    missing = _convert(results, "-o", tmp_path / "draft.json")
    assert isinstance(missing.exception, DataError)
    assert "--images DIR" in str(missing.exception)
    for folder in ("new", "new/photos"):
        assert _convert(results, "-o", tmp_path / "draft.json", "--images", tmp_path / folder).exit_code == 0
        content = json.loads((tmp_path / "draft.json").read_text())
        assert [image["file_name"] for image in content["images"]] == ["new/photos/a/1.png", "new/photos/b/1.png"]


def test_pictures_that_are_not_those_of_the_run(tmp_path: Path, picture: Pictures) -> None:
    path = picture("a.png")
    results = _write(tmp_path / "photos.json", _poses(path, [(5, 10, 45, 60)], [[0.9] * 17]))
    picture("a.png", (W, H + 1))
    with pytest.raises(DataError, match=r"is 200x101; the run saw it at 200x100"):
        read_records(results)
    results = _write(tmp_path / "photos.json", _poses(None, [(5, 10, 45, 60)], [[0.9] * 17]))
    with pytest.raises(DataError, match=r"frame 0: does not name its picture"):
        read_records(results)


def test_turned_pictures_are_refused(tmp_path: Path) -> None:
    path, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (H, W)).save(path, exif=exif)
    results = _write(tmp_path / "photos.json", _poses(path, [(5, 10, 45, 60)], [[0.9] * 17]))
    with pytest.raises(DataError, match="1 of its 1 pictures are stored turned"):
        read_records(results)


def test_results_are_looked_over_when_named_and_no_labels_until_converted(tmp_path: Path, picture: Pictures) -> None:
    results = _write(tmp_path / "photos.json", _poses(picture("a.png"), [(5, 10, 45, 60)], [[0.9] * 17]))
    (report,), _ = check_folder(results)
    assert (report.kind, report.images, report.persons, report.skeleton) == ("autopose infer", 1, 1, "coco17")
    assert not report.faults
    assert check_folder(tmp_path)[0] == []
    with pytest.raises(DataError, match=r"Convert it: autopose data convert .*photos\.json --to coco17 -o OUT\.json"):
        load_persons(results, skeleton=COCO17)
