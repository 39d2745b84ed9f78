"""Boxes from a file meet the frames they belong to: images by name, frames of a video by number."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autopose.errors import DataError
from autopose.poses import Poses
from autopose.results import frame_record, results_header
from autopose.runtime.given_boxes import GivenBoxes
from autopose.runtime.video import Frame
from autopose.skeleton import COCO17

PICTURE = np.zeros((100, 200, 3), np.uint8)


def _file(folder: Path, content: Any) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def _coco(**box: Any) -> dict[str, Any]:
    """Return two images of which the second, id 7, has a person."""
    annotation = {"image_id": 7, "bbox": [10, 20, 30, 40], **box}
    images = [{"id": 3, "file_name": "a/000007.jpg"}, {"id": 7, "file_name": "a/000009.jpg"}]
    return {"images": images, "annotations": [annotation]}


def test_a_coco_file_with_images_gives_a_videos_frames_their_boxes_by_id(tmp_path: Path) -> None:
    boxes = GivenBoxes(_file(tmp_path, _coco(score=0.5)))
    corners, scores = boxes(Frame(PICTURE, 7, 0.28))
    np.testing.assert_array_equal(corners, [[10, 20, 40, 60]])
    np.testing.assert_array_equal(scores, [0.5])
    assert len(boxes(Frame(PICTURE, 6, 0.24))[0]) == 0


def test_images_named_by_a_coco_file_go_by_name_alone(tmp_path: Path) -> None:
    boxes = GivenBoxes(_file(tmp_path, _coco()))
    np.testing.assert_array_equal(boxes(Frame(PICTURE, 0, name="b/000009.jpg"))[0], [[10, 20, 40, 60]])
    assert len(boxes(Frame(PICTURE, 7, name="b/000007.jpg"))[0]) == 0  # this one's id is 3; 7 is another image's


def test_images_of_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a/x/0.jpg"}, {"id": 2, "file_name": "b/x/0.jpg"}, {"id": 3, "file_name": "0.jpg"}]
    annotations = [{"image_id": number, "bbox": [number, 0, 10, 10]} for number in (1, 2, 3)]
    boxes = GivenBoxes(_file(tmp_path, {"images": images, "annotations": annotations}))
    found = {name: boxes(Frame(PICTURE, 0, name=name))[0] for name in ("/d/a/x/0.jpg", "b/x/0.jpg", "/d/c/b/x/0.jpg")}
    assert {name: corners[:, 0].tolist() for name, corners in found.items()} == {
        "/d/a/x/0.jpg": [1], "b/x/0.jpg": [2], "/d/c/b/x/0.jpg": [2],
    }  # fmt: skip
    with pytest.raises(DataError, match=r"2 images of this name \(a/x/0.jpg, b/x/0.jpg\)"):
        boxes(Frame(PICTURE, 0, name="/d/x/0.jpg"))


def test_a_list_of_detections_goes_by_number(tmp_path: Path) -> None:
    boxes = GivenBoxes(_file(tmp_path, _coco()["annotations"]))
    for frame in (Frame(PICTURE, 0, name="x_0007.jpg"), Frame(PICTURE, 7, name="seven.jpg"), Frame(PICTURE, 7, 0.3)):
        np.testing.assert_array_equal(boxes(frame)[0], [[10, 20, 40, 60]])


@pytest.mark.parametrize("source", ["a/000009.jpg", None])
def test_earlier_results_go_by_name_or_by_number(tmp_path: Path, source: str | None) -> None:
    boxes, joints = np.array([[10.5, 20, 40, 60]], np.float32), np.zeros((1, 17, 2), np.float32)
    poses = Poses(boxes, np.array([0.4], np.float32), joints, np.zeros((1, 17), np.float32), source=source)
    path = _file(tmp_path, {**results_header(COCO17), "frames": [frame_record(poses, 7)]})
    known, unknown = (
        (Frame(PICTURE, 0, name="b/000009.jpg"), Frame(PICTURE, 7, name="b/000007.jpg"))
        if source
        else (Frame(PICTURE, 7, 0.28), Frame(PICTURE, 9, 0.36))
    )
    corners, scores = GivenBoxes(path)(known)
    np.testing.assert_array_equal(corners, poses.boxes)
    np.testing.assert_array_equal(scores, poses.box_scores)
    other = GivenBoxes(path)
    assert len(other(unknown)[0]) == 0
    assert "none of the 1 frames" in str(other.unmatched())


def test_other_categories_are_left_out(tmp_path: Path) -> None:
    assert len(GivenBoxes(_file(tmp_path, _coco(category_id=2)))(Frame(PICTURE, 7))[0]) == 0


def test_crowds_are_no_persons(tmp_path: Path) -> None:
    assert len(GivenBoxes(_file(tmp_path, _coco(iscrowd=1)))(Frame(PICTURE, 7))[0]) == 0
    assert len(GivenBoxes(_file(tmp_path, _coco(iscrowd=0)))(Frame(PICTURE, 7))[0]) == 1


def test_boxes_below_a_score_that_was_asked_for_are_left_out(tmp_path: Path) -> None:
    path = _file(tmp_path, _coco(score=0.2))
    for least, count in ((0.0, 1), (0.2, 1), (0.3, 0)):
        assert len(GivenBoxes(path, least_score=least)(Frame(PICTURE, 7))[0]) == count


def test_persons_by_the_name_of_their_category(tmp_path: Path) -> None:
    content = _coco(category_id=0) | {"categories": [{"id": 0, "name": "person"}, {"id": 1, "name": "ball"}]}
    assert len(GivenBoxes(_file(tmp_path, content))(Frame(PICTURE, 7))[0]) == 1


def test_names_from_windows(tmp_path: Path) -> None:
    content = _coco()
    content["images"][1]["file_name"] = "C:\\clips\\a\\000009.jpg"
    found = GivenBoxes(_file(tmp_path, content))(Frame(PICTURE, 0, name="/clips/a/000009.jpg"))[0]
    np.testing.assert_array_equal(found, [[10, 20, 40, 60]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [{"id": 7}], "annotations": []}, "entry 0 of 'images' lacks 'id' or 'file_name'"),
        ({"images": "none", "annotations": []}, "entry 0 of 'images'"),
        (_coco(score=None), "entry 0 .*'score' is no number"),
        (_coco(score=math.nan), "entry 0 .*'score' is no number"),
        (_coco(score=1e39), "entry 0 .*'score' is no number"),  # of 32 bits
        (_coco(bbox=[1, 2, 3]), "entry 0 lacks 'image_id' or a 'bbox'"),
        (_coco(image_id=[7]), "entry 0 lacks 'image_id'"),
        ([3], "entry 0 lacks 'image_id'"),
        ({"images": []}, "neither a results file"),
        ("text", "neither a results file"),
    ],
)
def test_refuses_with_the_place(tmp_path: Path, content: Any, message: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        GivenBoxes(path)
    assert str(path) in str(caught.value)


def test_tells_unknown_frames_from_those_without_persons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _file(tmp_path, _coco())
    frames = {name: Frame(PICTURE, 0, name=f"a/{name}.jpg") for name in ("000007", "000009", "000001")}
    without = GivenBoxes(path)
    without(frames["000007"])  # stands in the file, with nobody
    without(Frame(PICTURE, 3, 0.12))  # the same as a frame of a video
    assert without.unmatched() is None
    assert not caplog.messages
    other = GivenBoxes(path)
    assert len(other(frames["000001"])[0]) == 0
    problem = other.unmatched()
    assert problem is not None
    assert "none of the 1 frames or images stands in it" in problem
    assert "It names a/000007.jpg, a/000009.jpg" in problem
    other(frames["000009"])
    assert other.unmatched() is None
    assert "1 of 2 frames or images do not stand in it" in caplog.text


def test_a_list_leaves_out_who_has_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A list of detections is silent on images without persons, so that all are unknown is a warning, no problem."""
    boxes = GivenBoxes(_file(tmp_path, _coco()["annotations"]))
    boxes(Frame(PICTURE, 0, 0.0))
    assert boxes.unmatched() is None
    assert "by frame number or image id: 7" in caplog.text
    caplog.clear()
    without_images = GivenBoxes(_file(tmp_path, {"annotations": _coco()["annotations"]}))
    without_images(Frame(PICTURE, 0, 0.0))
    assert without_images.unmatched() is None
    assert len(caplog.messages) == 1
    caplog.clear()
    empty = GivenBoxes(_file(tmp_path, []))
    empty(Frame(PICTURE, 0, 0.0))
    assert empty.unmatched() is None
    assert not caplog.messages


def test_an_accent_beside_its_letter_is_the_one_in_it(tmp_path: Path) -> None:
    """macOS took names apart; who typed the annotations did not."""
    content = _coco()
    for image, folder in zip(content["images"], ("plage", "for\u00eat"), strict=True):
        image["file_name"] = f"{folder}/cafe\u0301.jpg"
    boxes = GivenBoxes(_file(tmp_path, content))
    assert len(boxes(Frame(PICTURE, 0, name="fore\u0302t/caf\u00e9.jpg"))[0]) == 1


def _results(folder: Path, times: list[tuple[int, float]]) -> Path:
    """Write frames with these numbers and times; the n-th has a box with its left edge at n."""
    frames = []
    for place, (number, time_s) in enumerate(times):
        box = np.array([[place, 0, place + 20, 50]], np.float32)
        joints, scores = np.zeros((1, 17, 2), np.float32), np.ones((1, 17), np.float32)
        poses = Poses(box, scores[:, 0], joints, scores, image_size_wh=(200, 100))
        frames.append(frame_record(poses, number, time_s))
    return _file(folder, {**results_header(COCO17), "frames": frames})


def test_a_part_of_a_video_of_varying_rate_gets_the_boxes_of_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.2, 0.241, 0.282, 0.315, 0.348, 0.368, 0.388]
    whole = GivenBoxes(_results(tmp_path, list(enumerate(times))))
    first = round(times[2] * 25)  # as after --start
    part = [(first + place, time_s) for place, time_s in enumerate(times[2:])]
    assert [whole(Frame(PICTURE, *which))[0][0, 0] for which in part] == [2, 3, 4, 5, 6, 7]
    other = GivenBoxes(_results(tmp_path, part))
    found = [other(Frame(PICTURE, number, time_s))[0][:, 0].tolist() for number, time_s in enumerate(times)]
    assert found == [[], [], [0], [1], [2], [3], [4], [5]]


@pytest.mark.parametrize("stretched", [1.0, 25 / 24, 1.00001])
def test_a_video_whose_times_were_changed_goes_by_number(tmp_path: Path, stretched: float) -> None:
    given = GivenBoxes(_results(tmp_path, [(number, number / 25) for number in range(60)]))
    found = [given(Frame(PICTURE, number, number / 25 * stretched))[0][0, 0] for number in range(60)]
    assert found == list(range(60))
