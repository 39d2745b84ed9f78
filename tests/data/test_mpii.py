import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autopose.affine import center_scale_from_box
from autopose.data.annotations import load_persons
from autopose.data.mpii import is_mpii, load_mpii
from autopose.data.mpii_mat import read_official
from autopose.errors import DataError
from autopose.skeleton import COCO17, MPII16

scipy_io = pytest.importorskip("scipy.io", reason="MATLAB files need SciPy")


def joints_of(seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).uniform(50, 400, (16, 2)).round(1)


def structs(records: list[dict[str, Any]]) -> Any:
    """Return a MATLAB struct array (SciPy would write a list of dictionaries as cells)."""
    fields = list(dict.fromkeys(name for record in records for name in record))
    array = np.empty((1, len(records)), dtype=[(name, object) for name in fields])
    for index, record in enumerate(records):
        for name in fields:
            array[0, index][name] = record.get(name, np.zeros((0, 0)))
    return array


def write_official(path: Path) -> Path:
    """Write a file laid out as mpii_human_pose_v1_u12_1.mat: training images, a test image, one without persons."""

    def points(seed: int, joints: range) -> Any:
        xy = joints_of(seed)
        return structs([
            {"x": xy[j, 0], "y": xy[j, 1], "id": float(j), "is_visible": "" if j in (8, 9) else str(int(j != 3))}
            for j in joints
        ])  # fmt: skip

    def person(seed: int, joints: range = range(16)) -> dict[str, Any]:
        return {
            "x1": 100.0 + seed, "y1": 60.0, "x2": 130.0 + seed, "y2": 100.0, "scale": 1.5,
            "objpos": structs([{"x": 200.0, "y": 220.0}]), "annopoints": structs([{"point": points(seed, joints)}]),
        }  # fmt: skip

    unlabelled = {"scale": 2.0, "objpos": structs([{"x": 5.0, "y": 6.0}])}
    images: list[tuple[str, Any, int, list[int]]] = [
        ("one.jpg", structs([person(1), person(2, range(6, 16)), unlabelled]), 1, [1]),
        ("two.jpg", structs([person(3)]), 1, []),
        ("test.jpg", structs([unlabelled]), 0, [1]),
        ("empty.jpg", np.zeros((0, 0)), 1, []),
    ]
    separated = np.empty((len(images), 1), object)
    separated[:, 0] = [np.array(alone, np.float64).reshape(-1, 1) for *_, alone in images]
    release = {
        "annolist": structs([{"image": structs([{"name": name}]), "annorect": rects} for name, rects, *_ in images]),
        "img_train": np.array([[train for _, _, train, _ in images]], np.uint8),
        "version": "12",
        "single_person": separated,
    }
    scipy_io.savemat(path, {"RELEASE": release})
    return path


def write_common(path: Path, seeds: tuple[int, ...] = (1, 3)) -> Path:
    names = {1: "one.jpg", 2: "one.jpg", 3: "two.jpg"}
    records = [
        {
            "image": names[seed], "joints": joints_of(seed).tolist(), "joints_vis": [1] * 15 + [0],
            "center": [200.0, 220.0], "scale": 1.5,
        }
        for seed in seeds
    ]  # fmt: skip
    path.write_text(json.dumps(records))
    return path


def test_reading_a_large_file_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_official(tmp_path / "mpii_human_pose_v1_u12_1.mat")
    with caplog.at_level("INFO", logger="autopose.waits"):
        list(read_official(path))
        assert not caplog.messages
        monkeypatch.setattr("autopose.data.mpii_mat._LARGE", 1)
        list(read_official(path))
    assert caplog.messages == [f"Reading {path} (0 MB) ..."]


def test_official_file_gives_every_labelled_training_person(tmp_path: Path) -> None:
    first, partial, second = load_mpii(write_official(tmp_path / "mpii.mat"), images=tmp_path)
    assert [p.image_path.name for p in (first, partial, second)] == ["one.jpg", "one.jpg", "two.jpg"]
    np.testing.assert_allclose(first.keypoints, joints_of(1) - 1)  # MATLAB counts from 1
    assert first.weight.tolist() == [1] * 16  # hidden joints are labelled too
    assert partial.weight.tolist() == [0] * 6 + [1] * 10
    assert first.head_box_xyxy is not None
    assert first.head_box_xyxy.tolist() == [100, 59, 130, 99]
    assert first.image_id == partial.image_id != second.image_id
    assert first.skeleton is MPII16


def test_official_file_knows_separated_persons_hidden_joints_and_test_images(tmp_path: Path) -> None:
    path = write_official(tmp_path / "mpii.mat")
    assert len(load_mpii(path, images=tmp_path, separated_only=True)) == 1
    records = list(read_official(path))
    assert [record.train for record in records] == [True, True, True, True, False]
    assert records[0].labelled.all()
    assert records[2].head_box is None


def test_crop_is_the_published_region(tmp_path: Path) -> None:
    # HRNet lib/dataset/mpii.py: c_y += 15 s, s *= 1.25, c -= 1; the crop's side is 200 s.
    (person, _) = load_mpii(write_common(tmp_path / "train.json"), images=tmp_path)
    center, region = center_scale_from_box(person.box_xyxy, 1.0)
    np.testing.assert_allclose(center, [200 - 1, 220 + 15 * 1.5 - 1])
    np.testing.assert_allclose(region, [200 * 1.25 * 1.5] * 2)
    records = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train.json").write_text(json.dumps([{**records[0], "center": [-1.0, -1.0], "scale": -1.0}]))
    (lost,) = load_mpii(tmp_path / "train.json", images=tmp_path, sample_weight=2)  # a mark of a missing centre
    low, high = joints_of(1)[:15].min(0) - 1, joints_of(1)[:15].max(0) - 1
    margin = 0.1 * (high - low)
    np.testing.assert_allclose(lost.box_xyxy, np.concatenate([low - margin, high + margin]))
    assert lost.weight_sample == 2


def test_common_json_agrees_with_the_official_file(tmp_path: Path) -> None:
    official = load_mpii(write_official(tmp_path / "mpii.mat"), images=tmp_path)
    common = load_mpii(write_common(tmp_path / "train.json"), images=tmp_path, head_boxes=tmp_path / "mpii.mat")
    for one, other in zip(common, [official[0], official[2]], strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints)
        np.testing.assert_allclose(one.box_xyxy, other.box_xyxy)
        np.testing.assert_allclose(one.head_box_xyxy, other.head_box_xyxy)  # type: ignore[arg-type]
    assert common[0].weight[15] == 0  # joints_vis


def test_head_boxes_of_the_common_validation_truth(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 40, 60], [1, 2, 3, 4]], float)
    layout = np.stack([boxes[:, :2].T, boxes[:, 2:].T])  # headboxes_src: corner, coordinate, person
    scipy_io.savemat(tmp_path / "gt_valid.mat", {"headboxes_src": layout})
    persons = load_mpii(write_common(tmp_path / "valid.json"), images=tmp_path)
    assert [p.head_box_xyxy.tolist() for p in persons if p.head_box_xyxy is not None] == (boxes - 1).tolist()
    (alone,) = load_mpii(write_common(tmp_path / "train.json", (1,)), images=tmp_path)  # of another split
    assert alone.head_box_xyxy is None


def test_table_of_joints(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "joints.csv.gz", "wt", newline="") as file:
        csv.writer(file).writerow(["one.jpg", *joints_of(4).ravel()])
    (person,) = load_mpii(tmp_path / "joints.csv.gz", images=tmp_path)
    np.testing.assert_allclose(person.keypoints, joints_of(4) - 1)
    low, high = person.keypoints.min(0), person.keypoints.max(0)
    margin = 0.1 * (high - low)
    np.testing.assert_allclose(person.box_xyxy, np.concatenate([low - margin, high + margin]))


def test_formats_are_told_apart_by_content(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    (tmp_path / "det.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]')
    assert [is_mpii(path) for path in (tmp_path / "coco.json", tmp_path / "det.json")] == [False, False]
    assert is_mpii(write_common(tmp_path / "train.json"))
    assert len(load_persons(tmp_path / "train.json", skeleton=MPII16, images=tmp_path)) == 2
    with pytest.raises(DataError, match="mpii16"):
        load_persons(tmp_path / "train.json", skeleton=COCO17)


def test_refuses_what_is_not_mpii(tmp_path: Path) -> None:
    write_official(tmp_path / "mpii.mat")
    scipy_io.savemat(tmp_path / "other.mat", {"x": 1})
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file, but no more")
    (tmp_path / "short.csv").write_text("one.jpg,1,2\n")
    (tmp_path / "wrong.json").write_text('[{"image": "one.jpg", "joints": [[1, 2]], "scale": 1}]')
    (tmp_path / "endless.json").write_text('[{"image": "one.jpg", "joints": [[1' + 400 * "0" + ", 2]]}]")
    (tmp_path / "test.json").write_text('[{"image": "one.jpg", "scale": 1, "center": [1, 2]}]')
    for name, message in [
        ("other.mat", "RELEASE"),
        ("broken.mat", "MATLAB"),
        ("missing.mat", "No annotation file"),
        ("short.csv", "line 1: has 3 columns"),
        ("wrong.json", "'joints': expected 32"),
        ("endless.json", "'joints': expected 32"),
        ("test.json", "no person with joints"),
    ]:
        with pytest.raises(DataError, match=message):
            load_mpii(tmp_path / name, images=tmp_path)
    with pytest.raises(DataError, match="--images"):
        load_mpii(tmp_path / "mpii.mat")
    common = write_common(tmp_path / "train.json")
    common.write_text(common.read_text().replace("one", "new"))
    with pytest.raises(DataError, match="no head box for the person"):
        load_mpii(tmp_path / "train.json", images=tmp_path, head_boxes=tmp_path / "mpii.mat")
    records = json.loads(write_common(common, (1,)).read_text())
    records[0]["joints"][0][0] += 2  # whose joints are others is somebody else
    common.write_text(json.dumps(records))
    with pytest.raises(DataError, match="no head box for the person"):
        load_mpii(common, images=tmp_path, head_boxes=tmp_path / "mpii.mat")


def test_against_real_samples(data_root: Path) -> None:
    sample = data_root / "samples/mpii/test_mpii.json"
    table = data_root / "labels/mpii/train_joints.csv.gz"
    if not sample.is_file() or not table.is_file():
        pytest.skip("needs MPII's samples and labels")
    persons = load_mpii(sample)
    assert len(persons) == 5
    assert all(person.image_path.is_file() for person in persons)
    # Two independent distributions of the same annotation: the JSON sample and the table.
    labels = load_mpii(table, images=table.parent)
    assert len(labels) == 17928
    same = [p for p in labels if p.image_path.name == "005808361.jpg"]
    first = next(p for p in persons if p.image_path.name == "005808361.jpg")
    assert min(np.abs(p.keypoints - first.keypoints).max() for p in same) < 1e-3
    for person in persons:  # the region holds the person
        center, region = center_scale_from_box(person.box_xyxy, 1.0)
        inside = np.abs(person.keypoints - center) < region / 2
        assert inside.mean() > 0.8  # one of the five has its feet cut off by the published rule
