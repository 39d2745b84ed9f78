"""OCHuman's own layout: a file written by hand as the authors' API reads it, every number known."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autopose.data.annotations import load_persons
from autopose.data.conversion import convert_persons, load_native, write_coco
from autopose.data.ochuman import is_ochuman, load_ochuman
from autopose.data.preflight import check_folder
from autopose.errors import DataError
from autopose.skeleton import COCO17, OCHUMAN19

#: Another order than ours: the file's names decide.
NAMES = [*OCHUMAN19.joints[::-1]]


def joints(*, missing: str = "left_wrist", hidden: str = "nose") -> list[float]:
    """Give joint number k of the file the place (10 + k, 20 + 2 k)."""
    marks = {missing: 0, hidden: 3, "left_hip": 2}
    return [value for k, name in enumerate(NAMES) for value in (10 + k, 20 + 2 * k, marks.get(name, 1))]


def person(**fields: Any) -> dict[str, Any]:
    segms = {"outer": [[10, 10, 40, 10, 40, 70]], "inner": [], "height": 80, "width": 100}
    return {"bbox": [5, 8, 45, 120], "keypoints": joints(), "segms": segms, "links": [], "max_iou": 0.6, **fields}


def write(folder: Path, *images: list[dict[str, Any]], **fields: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    records = []
    for number, annotations in enumerate(images, start=7):
        name = f"{number:06d}"
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.zeros((80, 100, 3), np.uint8))
        records.append(
            {"image_id": name, "file_name": f"{name}.jpg", "width": 100, "height": 80, "annotations": annotations}
        )
    visible = {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3}
    path = folder / "ochuman.json"
    path.write_text(json.dumps({"keypoint_names": NAMES, "keypoint_visible": visible, "images": records, **fields}))
    return path


def test_reads_boxes_by_corners_and_joints_by_name(tmp_path: Path) -> None:
    boxed_only = person(keypoints=None, segms=None)
    path = write(tmp_path, [person(), boxed_only], [person(bbox=[0, 0, 30, 40], segms=None)])
    assert is_ochuman(path)
    first, second = load_ochuman(path, sample_weight=2)
    assert first.weight_sample == second.weight_sample == 2
    np.testing.assert_array_equal(first.box_xyxy, [5, 8, 45, 80])  # clipped to the picture
    assert first.area == pytest.approx(40 * 72 * 0.528)
    assert (first.image_id, second.image_id, first.image_path.name) == (1, 2, "000007.jpg")
    assert first.skeleton is OCHUMAN19
    for k, name in enumerate(NAMES):
        index = OCHUMAN19.index(name)
        labelled = name != "left_wrist"
        assert first.weight[index] == labelled  # hidden joints are labelled
        np.testing.assert_array_equal(first.keypoints[index], (10 + k, 20 + 2 * k) if labelled else (0, 0))


def test_converts_to_coco_as_the_authors_do(tmp_path: Path) -> None:
    path = write(tmp_path, [person()])
    out = write_coco(convert_persons(load_native(path), COCO17), tmp_path / "coco.json")
    (found,) = load_native(out)
    assert found.skeleton is COCO17
    assert int((found.weight > 0).sum()) == 16  # 17 but for the wrist
    np.testing.assert_array_equal(found.keypoints[COCO17.index("nose")], (10 + NAMES.index("nose"), 20 + 2 * 2))
    assert not is_ochuman(out)


def test_training_names_the_conversion(tmp_path: Path) -> None:
    path = write(tmp_path, [person()])
    with pytest.raises(DataError, match=r"ochuman19; coco17 was asked for.\n.*data convert .* --to coco17"):
        load_persons(path, skeleton=COCO17)
    assert len(load_persons(path, skeleton=OCHUMAN19)) == 1


def test_folder_check_counts_it(tmp_path: Path) -> None:
    path = write(tmp_path, [person(), person()], [person()])
    (tmp_path / "images" / "000008.jpg").unlink()
    (report,), _ = check_folder(tmp_path)
    assert (report.annotations, report.kind, report.skeleton) == (path, "OCHuman", "ochuman19")
    assert (report.images, report.persons, dict(report.faults)) == (2, 3, {"missing image": 1})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"bbox": [1, 2, 3]}, r"images\[0\]: annotations\[0\]: bbox is \[1, 2, 3\]; expected four numbers x1, y1"),
        ({"bbox": [30, 2, 30, 50]}, "has no size"),
        ({"bbox": [1, 2, 10**400, 4]}, "expected four numbers x1, y1"),
        ({"keypoints": [1.0, 2.0, 1]}, "'keypoints' has 3 numbers; expected 57"),
        ({"keypoints": [10**400] * 57}, "'keypoints' has 0 numbers; expected 57"),
    ],
)
def test_names_the_broken_record(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        load_ochuman(write(tmp_path, [person(**fields)]))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"annotations": None}, r"images\[0\]: 'annotations' is None; expected a list"),
        ({"annotations": [5]}, r"images\[0\]: annotations\[0\] is '5'; expected an object"),
        ({"width": "x"}, r"images\[0\]: 'width' is 'x'; expected pixels"),
    ],
)
def test_names_the_broken_image(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    path = write(tmp_path, [person()])
    content = json.loads(path.read_text())
    content["images"][0] |= fields
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=problem):
        load_ochuman(path)


def test_a_file_without_persons_is_a_finding(tmp_path: Path) -> None:
    path = write(tmp_path, [person(keypoints=None)])
    (report,), _ = check_folder(tmp_path)
    assert (report.annotations, report.persons, dict(report.faults)) == (path, 0, {"nobody": 1})
    assert "holds no person with joints" in report.examples["nobody"][0]


def test_refuses_other_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lack nose"):
        load_ochuman(write(tmp_path, [person()], keypoint_names=[n for n in NAMES if n != "nose"]))
    with pytest.raises(DataError, match="expected an object with 'images'"):
        load_ochuman(write(tmp_path, [person()], images=[]))
    path = write(tmp_path, [person()])
    (tmp_path / "images" / "000007.jpg").unlink()
    with pytest.raises(DataError, match="--images DIR"):
        load_ochuman(path)
