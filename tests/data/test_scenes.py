from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autopose.data.coco_file import read_coco
from autopose.data.scenes import Scene, merge_scenes, outside, scenes_from_coco
from autopose.errors import DataError


def test_scores_become_weights_and_doubtful_boxes_are_ignored(write_coco: Any) -> None:
    path = write_coco(
        {"bbox": [0, 0, 10, 20], "score": 0.9},
        {"bbox": [20, 0, 10, 20], "score": 0.3},
        {"bbox": [40, 0, 10, 20], "score": 0.29},
        {"bbox": [60, 0, 10, 20], "iscrowd": 1},
        {"bbox": [80, 0, 10, 20]},  # a human's
        {"bbox": [0, 40, 10, 20], "category_id": 3},
    )
    first, nobody = scenes_from_coco(read_coco(path))
    np.testing.assert_array_equal(first.boxes, [[0, 0, 10, 20], [20, 0, 30, 20], [80, 0, 90, 20]])
    np.testing.assert_allclose(first.weight, [1, 0.5, 1])
    np.testing.assert_array_equal(first.ignore, [[40, 0, 50, 20], [60, 0, 70, 20]])
    assert first.size_wh == (100, 80)
    assert len(nobody.boxes) == len(nobody.ignore) == 0  # known to show nobody: a negative


@pytest.mark.parametrize("fields", [{"dataset": "lspet"}, {"complete": False}])
def test_where_only_one_person_is_labelled_the_rest_is_unknown(write_coco: Any, fields: dict[str, Any]) -> None:
    scene = scenes_from_coco(read_coco(write_coco({"bbox": [10, 20, 30, 40]}, images=1, **fields)))[0]
    covered = np.zeros((80, 100), int)
    for x0, y0, x1, y1 in scene.ignore.astype(int):
        covered[y0:y1, x0:x1] += 1
    expected = np.ones((80, 100), int)
    expected[20:60, 10:40] = 0
    np.testing.assert_array_equal(covered, expected)  # everything outside of the box, nothing twice


def test_complete_coco_images_have_no_unknown_part(write_coco: Any) -> None:
    scene = scenes_from_coco(
        read_coco(write_coco({"bbox": [10, 20, 30, 40]}, images=1, dataset="coco", complete=True))
    )[0]
    assert len(scene.ignore) == 0
    (everything,) = outside(np.zeros((0, 4)), (100, 80))
    np.testing.assert_array_equal(everything, [0, 0, 100, 80])


def test_boxes_without_size_or_outside_are_left_out(write_coco: Any) -> None:
    """As a person of COCO train2017 whose box is 0 pixels high."""
    outside_boxes = [[10, 20, 30, 0], [10, 20, 0, 5], [200, 20, 10, 10], [10, -30, 20, 30]]
    scene = scenes_from_coco(
        read_coco(write_coco(*({"bbox": box} for box in outside_boxes), {"bbox": [90, 70, 30, 40]}, images=1))
    )[0]
    np.testing.assert_array_equal(scene.boxes, [[90, 70, 100, 80]])
    assert scene.weight.shape == (1,)
    with pytest.raises(DataError, match="four numbers"):
        scenes_from_coco(read_coco(write_coco({"bbox": [1, 2, 3]}, images=1)))


def test_human_labels_win_over_a_teachers() -> None:
    def scene(name: str, size_wh: tuple[int, int], image_id: int) -> Scene:
        none = np.zeros((0, 4))
        return Scene(Path(name), size_wh, none, np.zeros(0, np.float32), none, image_id)

    human = [scene("a/000000000036.webp", (385, 512), 1), scene("a/im00036.webp", (100, 100), 2)]
    teacher = [
        scene("b/000000000036.webp", (361, 480), 3),  # the same photograph, smaller
        scene("street/000000000036.webp", (480, 178), 4),  # another photograph of that number
        scene("b/im00036.webp", (100, 100), 5),
        scene("b/000000000099.webp", (100, 100), 6),
    ]
    assert [s.image_id for s in merge_scenes(human, teacher)] == [1, 2, 4, 5, 6]
    coco = [scene("pose/coco_train2017/000000000397.webp", (512, 384), 1)]
    others = [
        scene("scenes/street/000000000397.webp", (480, 360), 2),  # of another set that numbers alike
        scene("scenes/coco/000000000397.webp", (480, 360), 3),
    ]
    assert [s.image_id for s in merge_scenes(coco, others)] == [1, 2]
    frames = [scene("clip/000001.jpg", (64, 48), 1)], [scene("other/000001.jpg", (64, 48), 2)]
    assert len(merge_scenes(*frames)) == 2  # frames of two videos: only COCO's twelve digits name a photograph


def test_every_scene_of_the_real_files_loads(data_root: Path) -> None:
    scenes = scenes_from_coco(read_coco(data_root / "scenes" / "teacher.json"))
    assert len(scenes) == 1009
    assert sum(len(s.boxes) == 0 and len(s.ignore) == 0 for s in scenes) == 137
    human = scenes_from_coco(read_coco(data_root / "pose" / "train.json"))
    assert (
        len(merge_scenes(human, scenes)) == 4602 + 1009 - 101
    )  # not the two street scenes with a number and sides like COCO's
    lspet = [s for s in human if "lspet" in s.image_path.parts]
    assert all(len(s.boxes) == 1 and len(s.ignore) for s in lspet[:50])
