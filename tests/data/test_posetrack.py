"""Frames as PoseTrack18 lists them: all of a video, of which some were annotated, and these not everywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autopose.data.coco_file import read_coco
from autopose.data.posetrack import ignored_regions, is_annotated
from autopose.data.scenes import scenes_from_coco
from autopose.errors import DataError
from autopose.evaluation.coco import evaluate_boxes, evaluate_keypoints, mean_oks

JOINTS = [value for k in range(17) for value in (20.0 + k, 15.0 + 2 * k, 1)]
PERSON = {"keypoints": JOINTS, "num_keypoints": 17, "bbox": [10, 10, 40, 60]}


def with_fields(path: Path, **fields: list[Any]) -> Path:
    """Give the first image the first value of each field, and so on."""
    content = json.loads(path.read_text())
    for name, values in fields.items():
        for image, value in zip(content["images"], values, strict=False):
            image[name] = value
    path.write_text(json.dumps(content))
    return path


def test_nothing_is_learnt_from_frames_that_nobody_annotated(write_coco: Any) -> None:
    path = with_fields(write_coco(PERSON, images=3), is_labeled=[True, False])
    scenes = scenes_from_coco(read_coco(path))
    assert [scene.image_id for scene in scenes] == [1, 3]  # the second is no negative; the third says nothing: it is
    assert [len(scene.boxes) for scene in scenes] == [1, 0]


def test_what_is_found_in_frames_that_nobody_annotated_does_not_count(write_coco: Any) -> None:
    pytest.importorskip("pycocotools")
    path = with_fields(write_coco(PERSON, images=2), is_labeled=[True, False])
    results = [
        {"image_id": image, "score": score, "keypoints": JOINTS, "bbox": PERSON["bbox"]}
        for image, score in ((1, 0.5), (2, 0.9))
    ]
    assert evaluate_keypoints(results, path)["AP"] == pytest.approx(1)
    assert evaluate_boxes(results, path)["AP"] == pytest.approx(1)
    assert mean_oks(results, path) == pytest.approx(1)
    with_fields(path, is_labeled=[True, True])  # then it is a mistake with the better score
    assert evaluate_boxes(results, path)["AP"] == pytest.approx(0.5)
    with pytest.raises(DataError, match="all images say 'is_labeled: false'"):
        evaluate_boxes(results, with_fields(path, is_labeled=[False, False]))


def test_regions_that_nobody_annotated_are_ignored(write_coco: Any) -> None:
    pytest.importorskip("pycocotools")
    polygons = {
        "ignore_regions_x": [[[60, 95, 80], [-5, 5, 5], []]],
        "ignore_regions_y": [[[5, 10, 70], [1, 1, 9], []]],
    }
    path = with_fields(write_coco(PERSON, images=1), **polygons)
    (scene,) = scenes_from_coco(read_coco(path))
    np.testing.assert_array_equal(scene.boxes, [[10, 10, 50, 70]])
    np.testing.assert_array_equal(scene.ignore, [[60, 5, 95, 70], [0, 1, 5, 9]])  # clipped to the picture
    found = [
        {"image_id": 1, "score": score, "bbox": box} for score, box in ((0.9, [65, 10, 20, 50]), (0.5, PERSON["bbox"]))
    ]
    assert evaluate_boxes(found, path)["AP"] == pytest.approx(1)
    for box in ([10, 70, 80, 10], [96, 10, 50, 50]):
        elsewhere = {"image_id": 1, "score": 0.9, "bbox": box}
        assert evaluate_boxes([*found, elsewhere], path)["AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (5, [], r"'ignore_regions_x' is 5; expected a list of polygons"),
        ([[1, 2]], [[1, "a"]], r"ignore_regions_y\[0\] has the value 'a'"),
        ([3], [[1]], r"ignore_regions_x\[0\] is 3"),
        ([[1, 2]], [[1]], "'ignore_regions_x' and .* differ in length"),
        ([[1, 2]], [], "'ignore_regions_x' and .* differ in length"),
    ],
)
def test_refuses_regions_that_are_no_polygons(x: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^a.json: {message}"):
        ignored_regions({"ignore_regions_x": x, "ignore_regions_y": y}, "a.json")


def test_other_files_say_nothing_of_it() -> None:
    assert is_annotated({"id": 1})
    assert not ignored_regions({"id": 1, "ignore_regions_x": None}, "a.json")
