import gc
import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autopose.data.coco import load_coco, nobody_from_coco, persons_from_coco
from autopose.data.coco_file import picture_folder, read_coco, reading_once
from autopose.data.images import DiskReader
from autopose.data.scenes import scenes_from_coco
from autopose.errors import AutoposeError, DataError, MediaError
from autopose.evaluation.coco import evaluate_keypoints
from autopose.skeleton import COCO17, MPII16

GRID = np.stack([np.arange(17) + 20.0, np.arange(17) * 2 + 15.0], axis=1)


def flat(xy: Any, visibility: Any = 2) -> list[float]:
    flags = np.broadcast_to(np.asarray(visibility, float), len(xy))
    return [float(value) for value in np.concatenate([xy, flags[:, None]], axis=1).ravel()]


def test_reads_joints_boxes_and_ids(write_coco: Any) -> None:
    flags = np.array([2, 1, 0] + [2] * 14)
    path = write_coco({"keypoints": flat(GRID, flags), "bbox": [-5, 10, 40, 90], "area": 1234.5, "image_id": 2})
    (person,) = load_coco(path)
    assert person.image_path.name == "000000000002.png"
    assert person.image_path.is_file()
    np.testing.assert_array_equal(person.keypoints, GRID)
    np.testing.assert_array_equal(person.weight, flags > 0)  # hidden joints are labelled too
    np.testing.assert_array_equal(person.box_xyxy, [0, 10, 35, 80])  # clipped to 100x80
    assert (person.area, person.image_id, person.annotation_id, person.score) == (1234.5, 2, 7, 1.0)


def test_skips_crowds_and_persons_without_joints(write_coco: Any) -> None:
    path = write_coco(
        {"keypoints": flat(GRID), "iscrowd": 1},
        {"keypoints": flat(GRID, 0), "num_keypoints": 0},
        {"num_keypoints": 0},
        {"keypoints": flat(GRID), "num_keypoints": 0},
        {"keypoints": flat(GRID), "num_keypoints": 17},
    )
    assert [person.annotation_id for person in load_coco(path)] == [11]


def test_boxes_that_show_nobody_need_no_joints(write_coco: Any) -> None:
    path = write_coco({"bbox": [-5, 10, 40, 90], "image_id": 2}, {"iscrowd": 1}, {"category_id": 2})
    (nobody,) = nobody_from_coco(read_coco(path), sample_weight=3)
    np.testing.assert_array_equal(nobody.box_xyxy, [0, 10, 35, 80])
    assert np.isnan(nobody.keypoints).all()
    assert nobody.weight.tolist() == [1] * 17
    assert (nobody.image_id, nobody.weight_sample) == (2, 3)
    with pytest.raises(DataError, match=r"annotations\[0\]"):
        nobody_from_coco(read_coco(write_coco({"bbox": [200, 10, 40, 40]})))


def test_weights_of_pseudo_labels_teachers_and_records(write_coco: Any) -> None:
    confidence = np.array([0.9, 0.3, 0.29] + [2.0] * 14)
    path = write_coco(
        {"keypoints": flat(GRID), "pseudo": [0, 3]},
        {"keypoints": flat(GRID), "pseudo": [0], "weight": 0.5},
        {"keypoints": flat(GRID, confidence)},
    )
    first, second, third = load_coco(path)
    np.testing.assert_allclose(first.weight, [0.3, 1, 1, 0.3] + [1] * 13)
    np.testing.assert_allclose(second.weight, [0.15] + [0.5] * 16)
    np.testing.assert_allclose(third.weight, [0.9, 0.3, 0] + [1] * 14)  # unsure below 0.3: not labelled
    assert first.area == pytest.approx(40 * 60 * 0.528)  # of its box, where the record says nothing
    assert load_coco(path, pseudo_weight=0.1)[0].weight[0] == np.float32(0.1)
    assert len(persons_from_coco(read_coco(path), keep=lambda record: "pseudo" not in record)) == 1


def test_finds_images_in_the_folder_above_or_where_told(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    (tmp_path / "annotations").mkdir()
    moved = path.rename(tmp_path / "annotations" / "ann.json")
    assert load_coco(moved)[0].image_path == tmp_path / "images" / "000000000001.png"
    content = json.loads(moved.read_text())
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    moved.write_text(json.dumps(content))
    assert load_coco(moved, images=tmp_path / "images")[0].image_path.is_file()
    assert load_coco(moved)[0].image_path.is_file()  # in COCO's own layout
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"(?s)000000000001\.png.*--images DIR"):
        load_coco(moved)
    assert load_coco(moved, images=tmp_path / "pictures")[0].image_path.is_file()


def test_detection_boxes_keep_their_scores(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    detections = tmp_path / "det.json"
    records = [
        {"image_id": 1, "category_id": 1, "bbox": [3, 4, 50, 60], "score": 0.75},
        {"image_id": 1, "category_id": 18, "bbox": [3, 4, 50, 60], "score": 0.9},  # a dog
        {"image_id": 99, "category_id": 1, "bbox": [3, 4, 50, 60], "score": 0.9},  # another set's
    ]
    detections.write_text(json.dumps(records))
    (person,) = load_coco(path, boxes=detections)
    np.testing.assert_array_equal(person.box_xyxy, [3, 4, 53, 64])
    assert (person.score, person.annotation_id, bool(person.weight.any())) == (0.75, -1, False)
    detections.write_text("[]")
    assert load_coco(path, boxes=detections) == []


@pytest.mark.parametrize(("given", "found"), [(3, 1), (1, 1), (2, 0)])
def test_detections_have_cocos_number_of_persons_or_the_files(
    write_coco: Any, tmp_path: Path, given: int, found: int
) -> None:  # fmt: skip
    path = write_coco({"keypoints": flat(GRID), "category_id": 3})
    _with(path, [{"id": 3, "name": "person"}, {"id": 1, "name": "car"}])
    detections = tmp_path / "det.json"
    box = {"image_id": 1, "category_id": given, "bbox": [3, 4, 50, 60], "score": 0.75}
    detections.write_text(json.dumps([box]))
    if found:
        assert len(load_coco(path, boxes=detections)) == found
    else:
        with pytest.raises(DataError, match="none of its 1 boxes is of a person"):
            load_coco(path, boxes=detections)


@pytest.mark.parametrize("score", [None, "x", float("nan")])
def test_refuses_detections_without_a_score(write_coco: Any, tmp_path: Path, score: Any) -> None:
    detections = tmp_path / "det.json"
    detections.write_text(json.dumps([{"image_id": 1, "bbox": [3, 4, 50, 60], "score": score}]))
    with pytest.raises(DataError, match=r"\[0\]: 'score' has the value"):
        load_coco(write_coco({"keypoints": flat(GRID)}), boxes=detections)


def test_names_that_no_file_can_have_are_those_of_none(write_coco: Any) -> None:
    path = write_coco({"keypoints": flat(GRID)}, images=1)
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = 900 * "x"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="its first image 'xxx"):
        load_coco(path)
    with pytest.raises(MediaError, match="No image"):
        DiskReader().read(path.parent / (900 * "x"))


def test_missing_pictures_have_advice_for_commands_and_recipes(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    (tmp_path / "images").rename(tmp_path / "pictures")
    advice = r"""with --images DIR, or, to train and search, with images="DIR" in data\.sources\."""
    with pytest.raises(DataError, match=advice):
        load_coco(path)
    with pytest.raises(DataError, match=advice):
        picture_folder(path, "a.jpg", None)
    with pytest.raises(MediaError, match=advice):
        DiskReader().read(tmp_path / "images" / "a.jpg")


def test_ids_may_be_texts(write_coco: Any) -> None:
    path = write_coco({"keypoints": flat(GRID), "id": "p1", "iscrowd": None, "weight": None, "pseudo": None})
    (person,) = load_coco(path)
    assert person.annotation_id == -1
    result = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": flat(person.keypoints)}
    pytest.importorskip("pycocotools")
    assert evaluate_keypoints([result], path)["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"bbox": [10, 10, 0, 5]}, r"annotations\[0\]: bbox \[10, 10, 0, 5\] has no size"),
        ({"bbox": [200, 10, 5, 5]}, r"annotations\[0\]: bbox .* lies outside its image of 100x80"),
        ({"bbox": [1, 2, 3]}, r"annotations\[0\]: bbox is \[1, 2, 3\]; expected four numbers"),
        ({"bbox": [1, 2, float("nan"), 3]}, r"annotations\[0\]: bbox .* finite"),
        ({"keypoints": [1, 2, 2]}, r"annotations\[0\]: 'keypoints' has 3 numbers; expected 51"),
        ({"keypoints": ["a"] * 51}, r"annotations\[0\]: 'keypoints'"),
        ({"keypoints": [10**400] * 51}, r"annotations\[0\]: 'keypoints'"),
        ({"image_id": 5}, r"annotations\[0\]: image_id 5 is not among"),
        ({"image_id": [1]}, r"annotations\[0\]: 'image_id' is \[1\]; expected a number"),
        ({"area": "x"}, r"annotations\[0\]: 'area' has the value 'x'"),
        ({"weight": "x"}, r"annotations\[0\]: 'weight' has the value 'x'"),
        ({"pseudo": [40]}, r"annotations\[0\]: 'pseudo' is \[40\]; expected numbers of joints, 0 to 16"),
    ],
)
def test_refuses_unusable_annotations(write_coco: Any, record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_coco(write_coco({"keypoints": flat(GRID), **record}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"bad\.json: not valid JSON"),
        ("1" * 5000, r"bad\.json: not valid JSON"),
        ("[]", r"bad\.json: not COCO annotations"),
        ('{"images": [], "annotations": []}', r"bad\.json: lists no images"),
        ('{"images": [{"id": 1, "width": 5, "height": 5}], "annotations": []}', r"images\[0\]: the key 'file_name'"),
        ('{"images": [3], "annotations": []}', r"images\[0\] is '3'; expected an object"),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": null, "height": 5}], "annotations": []}',
            r"images\[0\]: 'width' is None; expected pixels",
        ),
        (
            r'{"images": [{"id": 1, "file_name": "a\ud800.jpg", "width": 5, "height": 5}], "annotations": []}',
            r"images\[0\]: 'file_name' is 'a\\ud800\.jpg', which no file can be called",
        ),
        (
            r'{"images": [{"id": 1, "file_name": "a\u0000", "width": 5, "height": 5}], "annotations": []}',
            r"images\[0\]: 'file_name' is 'a\\x00', which no file",
        ),
        (
            '{"images": [{"id": [], "file_name": "a", "width": 5, "height": 5}], "annotations": []}',
            r"images\[0\]: 'id' is \[\]",
        ),
        (
            (
                '{"images": [{"id": 1, "file_name": "bad.json", "width": 5, "height": 5}], "annotations": [], '
                '"categories": [{"id": null, "name": "person"}]}'
            ),
            "the category of persons has the id None",
        ),
    ],
)
def test_refuses_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco(path)


def test_refuses_missing_files(write_coco: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_coco(tmp_path / "nowhere.json")
    path = write_coco({"keypoints": flat(GRID)})
    with pytest.raises(DataError, match="No detection file"):
        load_coco(path, boxes=tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="image folder"):
        load_coco(path, images=tmp_path / "nowhere")
    (tmp_path / "det.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]')
    with pytest.raises(DataError, match=r"\[0\]: the key 'score' is missing"):
        load_coco(path, boxes=tmp_path / "det.json")
    (tmp_path / "det.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3, 0], "score": 1}]')
    with pytest.raises(DataError, match="has no size"):
        load_coco(path, boxes=tmp_path / "det.json")


def test_refuses_another_skeleton(write_coco: Any) -> None:
    with pytest.raises(DataError, match=r"expected 48 finite ones [^.]*mpii16"):
        load_coco(write_coco({"keypoints": flat(GRID)}), skeleton=MPII16)


def test_every_record_of_the_training_files_loads(data_root: Path) -> None:
    persons = load_coco(data_root / "pose" / "train.json")
    assert len(persons) == 4781  # as the data's own description counts them
    assert all(issubclass(type(person.area), float) and person.area > 0 for person in persons)
    lspet = next(person for person in persons if "lspet" in person.image_path.parts)
    assert set(np.unique(lspet.weight)) <= {np.float32(0), np.float32(0.3), np.float32(1)}
    assert len(load_coco(data_root / "pose" / "val.json")) == 263
    assert issubclass(DataError, AutoposeError)


def _with(path: Path, categories: Any, **changes: int) -> Path:
    content = json.loads(path.read_text())
    content["categories"] = categories
    for record, number in zip(content["annotations"], changes.values(), strict=False):
        record["category_id"] = number
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("categories", "numbers", "persons"),
    [
        ([{"id": 0, "name": "person"}], (0, 0), 2),
        ([{"id": 1, "name": "dog"}, {"id": 2, "name": "Person"}], (1, 2), 1),
        ([{"id": 5, "name": "athlete"}], (5, 5), 2),
        ([], (0, 0), 2),
        ([], (1, 2), 1),
    ],
)
def test_persons_are_found_by_their_category(
    write_coco: Any, categories: Any, numbers: tuple[int, int], persons: int
) -> None:  # fmt: skip
    """By its name, as the only one, or COCO's number: the same ones for joints, boxes and the evaluation."""
    pytest.importorskip("pycocotools")
    path = write_coco({"keypoints": flat(GRID)}, {"keypoints": flat(GRID + 3), "image_id": 2})
    _with(path, categories, first=numbers[0], second=numbers[1])
    found = load_coco(path)
    assert len(found) == persons
    assert sum(len(scene.boxes) for scene in scenes_from_coco(read_coco(path))) == persons
    results = [{"image_id": p.image_id, "category_id": 1, "score": 0.9, "keypoints": flat(p.keypoints)} for p in found]
    assert evaluate_keypoints(results, path)["AP"] == pytest.approx(1)


def test_refuses_several_categories_without_persons(write_coco: Any) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    _with(path, [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], first=2)
    with pytest.raises(DataError, match=r"2 categories \('cat', 'dog'\) is called 'person'"):
        read_coco(path)


def test_refuses_joints_in_another_order(write_coco: Any) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    names = [name.replace("_", " ").title() for name in COCO17.joints]  # "Left Eye"
    assert len(load_coco(_with(path, [{"id": 1, "name": "person", "keypoints": names}]))) == 1
    names[1], names[2] = names[2], names[1]
    with pytest.raises(DataError, match=r"its joint 2 is 'Right Eye'; coco17 has 'left_eye'"):
        load_coco(_with(path, [{"id": 1, "name": "person", "keypoints": names}]))


def test_hints_at_swapped_sides(write_coco: Any) -> None:
    path = write_coco({"keypoints": flat(GRID), "bbox": [10, 85, 20, 10]})  # in a picture of 100x80
    with pytest.raises(DataError, match="width and height swapped"):
        load_coco(path)
    with pytest.raises(DataError, match=r"lies outside its image of 100x80 pixels\.$"):
        load_coco(write_coco({"keypoints": flat(GRID), "bbox": [10, 105, 20, 10]}))


def test_names_from_windows(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    cv2.imwrite(str(tmp_path / "train" / "a.png"), np.zeros((4, 4, 3), np.uint8))
    image = {"id": 1, "file_name": "train\\a.png", "width": 4, "height": 4}
    (tmp_path / "x.json").write_text(json.dumps({"images": [image], "annotations": []}))
    assert read_coco(tmp_path / "x.json").image_path(1) == tmp_path / "train" / "a.png"


def test_a_file_is_read_once_where_that_is_asked(write_coco: Any) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    assert read_coco(path) is not read_coco(path)
    with reading_once():
        first = read_coco(path)
        assert read_coco(path) is first
        assert read_coco(path, look=False) is not first
        path.write_text(path.read_text() + " ")  # another file now
        second = read_coco(path)
        assert second is not first
        assert second.annotations == first.annotations
    assert read_coco(path) is not second


def test_persons_do_not_keep_the_file_in_memory(write_coco: Any) -> None:
    """Numbers of the file's own, here and there, would keep all that lies between them."""
    path = write_coco({"keypoints": flat(GRID), "id": 70_000, "area": 1234.5})
    file = read_coco(path)
    (person,) = persons_from_coco(file)
    record = file.annotations[0]
    assert (person.annotation_id, person.area, person.image_id) == (70_000, 1234.5, record["image_id"])
    assert person.annotation_id is not record["id"]
    assert person.area is not record["area"]


def test_the_garbage_collector_works_again_after_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_coco(path)
    assert gc.isenabled()


def test_a_file_that_takes_long_to_read_is_named_before(
    write_coco: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_coco({"keypoints": flat(GRID)})
    with caplog.at_level(logging.INFO, "autopose.waits"):
        read_coco(path)
        assert not caplog.messages
        monkeypatch.setattr("autopose.data.coco_file.LARGE", path.stat().st_size)
        read_coco(path)
    assert caplog.messages == [f"Reading {path} (0 MB) ..."]
