import json
from inspect import signature
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.commands.eval import eval as eval_command
from autopose.evaluation.predict import (
    detect_images,
    predict_boxes,
    predict_persons,
    suppress_poses,
)
from autopose.heatmap import Codec
from autopose.poses import Person
from autopose.skeleton import COCO17, MPII16, Skeleton

CODEC = Codec(input_size_wh=(96, 128))


class Pictures:
    """A reader of pictures that are black but for one white dot (named by the path)."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        x, y = (int(v) for v in path.name.split("-"))
        image = np.zeros((240, 320, 3), np.uint8)
        cv2.circle(image, (x, y), 4, (255, 255, 255), -1)
        return image


def find_dot(crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Place every joint on the dot; scores 0.1, 0.3 and, for the others, 0.5."""
    xy = np.zeros((len(crops), 17, 2))
    for i, crop in enumerate(crops):
        rows, columns = np.nonzero(crop[..., 0] > 127)
        xy[i] = columns.mean(), rows.mean()
    scores = np.tile(np.array([0.1, 0.3] + [0.5] * 15, np.float32), (len(crops), 1))
    return xy, scores


def person(x: int, y: int, box: Any, score: float = 1.0) -> Person:
    return Person(
        Path(f"{x}-{y}"), np.array(box, float), np.zeros((17, 2)), np.zeros(17, np.float32), 1.0, score, image_id=x
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_results_are_in_image_pixels_and_in_order(batch_size: int) -> None:
    persons = [
        person(100, 90, (60, 40, 140, 200)),
        person(200, 150, (150, 100, 300, 180)),
        person(50, 60, (40, 50, 70, 90)),
    ]
    done: list[int] = []
    results = predict_persons(
        find_dot, persons, CODEC, batch_size=batch_size, reader=Pictures(), advance=done.append
    )  # fmt: skip
    assert sum(done) == 3
    for somebody, result in zip(persons, results, strict=True):
        x, y = (int(v) for v in somebody.image_path.name.split("-"))
        values = np.array(result["keypoints"]).reshape(17, 3)
        np.testing.assert_allclose(values[:, :2], np.tile((x, y), (17, 1)), atol=0.6)
        assert result["image_id"] == x
    json.dumps(results)  # plain numbers only


def test_score_is_root_of_box_times_mean_of_joints_or_as_published() -> None:
    somebody = [person(100, 90, (60, 40, 140, 200), 0.8)]
    (result,) = predict_persons(find_dot, somebody, CODEC, reader=Pictures(), visible_score=0)
    assert result["score"] == pytest.approx(0.8**0.5 * (0.1 + 0.3 + 15 * 0.5) / 17)
    (by_default,) = predict_persons(find_dot, somebody, CODEC, reader=Pictures())
    assert by_default["score"] == pytest.approx(0.8**0.5 * (0.3 + 15 * 0.5) / 16)
    (result,) = predict_persons(find_dot, somebody, CODEC, reader=Pictures(), visible_score=0.2, box_power=1)
    assert result["score"] == pytest.approx(0.8 * (0.3 + 15 * 0.5) / 16)
    # 80x160 widens to 120x160, padded 1.25 each way.
    assert result["area"] == pytest.approx(120 * 160 * 1.25**2)


@pytest.mark.parametrize("option", ["visible_score", "box_power"])
def test_the_command_says_how_the_library_scores_persons(option: str) -> None:
    default = signature(predict_persons).parameters[option].default
    described = signature(eval_command).parameters[option].annotation.__metadata__[0].help
    assert f"({default:g} if not given" in described


def test_unsure_everywhere_scores_zero() -> None:
    def unsure(crops: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        return np.zeros((len(crops), 17, 2)), np.full((len(crops), 17), 0.2, np.float32)

    assert (
        predict_persons(unsure, [person(100, 90, (60, 40, 140, 200))], CODEC, reader=Pictures(), visible_score=0.2)[0][
            "score"
        ]
        == 0
    )


@pytest.mark.parametrize("skeleton", [COCO17, MPII16])
def test_suppression_by_hand(skeleton: Skeleton) -> None:
    """OKS of a uniform shift d is the mean of exp(-d^2 / (2 area (2 sigma)^2)); each image is its own."""
    area, joints = 10_000.0, len(skeleton)
    base = np.tile((50.0, 50.0), (joints, 1))

    def result(shift: float, score: float, image_id: int = 1) -> dict[str, Any]:
        keypoints = np.column_stack([base + np.array((shift, 0)), np.ones(joints)]).ravel().tolist()
        return {"image_id": image_id, "keypoints": keypoints, "score": score, "area": area}

    def oks(shift: float) -> float:
        return float(np.exp(-(shift**2) / (2 * area * (2 * np.array(skeleton.sigmas)) ** 2)).mean())

    near = next(d for d in np.arange(0.1, 20, 0.1) if oks(d) < 0.9)
    results = [result(0, 0.5), result(near - 0.1, 0.9), result(2 * near + 1, 0.4), result(0, 0.3, image_id=2)]
    kept = suppress_poses(results, skeleton=skeleton)
    assert [(r["image_id"], r["score"]) for r in kept] == [(1, 0.9), (1, 0.4), (2, 0.3)]
    for shift, count in ((near - 0.1, 1), (near, 2)):  # the area is the mean of both
        pair = [result(0, 0.5) | {"area": 0.5 * area}, result(shift, 0.9) | {"area": 1.5 * area}]
        assert len(suppress_poses(pair, skeleton=skeleton)) == count
    chain = [result(0, 0.9), result(near - 0.1, 0.5), result(near + 0.1, 0.3)]  # the third repeats only who is dropped
    assert [r["score"] for r in suppress_poses(chain, skeleton=skeleton)] == [0.9, 0.3]
    assert suppress_poses([]) == []


def write_images(tmp_path: Path) -> tuple[Path, list[list[int]]]:
    boxes = [[20, 30, 120, 200], [100, 10, 160, 90]]
    images = []
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        image = np.zeros((240, 200 + 100 * i, 3), np.uint8)
        image[y0:y1, x0:x1] = 255
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        images.append({"id": i, "file_name": f"{i}.png", "width": image.shape[1], "height": 240})
    path = tmp_path / "ann.json"
    path.write_text(json.dumps({"images": images, "annotations": []}))
    return path, boxes


def find_rectangle(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = np.nonzero(image[..., 0] > 127)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return np.array([box, box, [0, 0, 5, 5]], float), np.array([0.9, 0.8, 0.001])


def test_boxes_return_to_image_pixels(tmp_path: Path) -> None:
    path, boxes = write_images(tmp_path)

    def batched(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found = [find_rectangle(image) for image in images]
        return np.stack([boxes for boxes, _ in found]), np.stack([scores for _, scores in found])

    results = predict_boxes(batched, path, (160, 128), batch_size=1)
    assert [r["image_id"] for r in results] == [0, 1]  # the double and the unlikely are gone
    for result, (x0, y0, x1, y1) in zip(results, boxes, strict=True):
        np.testing.assert_allclose(result["bbox"], [x0, y0, x1 - x0, y1 - y0], atol=1.6)  # a pixel of the input is 1.9
        assert result["score"] == 0.9

    def too_large(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.tile([-9.0, -9, 999, 999], (len(images), 1, 1)), np.full((len(images), 1), 0.02)

    done: list[int] = []
    clipped = predict_boxes(too_large, path, (160, 128), advance=done.append)
    assert [r["bbox"] for r in clipped] == [[0, 0, 200, 240], [0, 0, 300, 240]]
    assert done == [2]
    far = tmp_path / "elsewhere" / "labels" / "set"
    far.mkdir(parents=True)
    assert predict_boxes(too_large, path.rename(far / path.name), (160, 128), images=tmp_path) == clipped
    made = {"id": 7, "file_name": "100-90", "width": 320, "height": 240}
    path.write_text(json.dumps({"images": [made], "annotations": []}))
    (drawn,) = predict_boxes(too_large, path, (160, 128), reader=Pictures())  # no such file
    assert (drawn["image_id"], drawn["bbox"]) == (7, [0, 0, 320, 240])


def test_images_of_any_size_go_to_a_detector_as_they_are(tmp_path: Path) -> None:
    path, boxes = write_images(tmp_path)
    done: list[int] = []
    results = detect_images(find_rectangle, path, advance=done.append)
    assert sum(done) == 2
    assert [r["bbox"] for r in results if r["score"] == 0.9] == [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes]
    far = tmp_path / "elsewhere" / "labels" / "set"
    far.mkdir(parents=True)
    assert detect_images(find_rectangle, path.rename(far / path.name), images=tmp_path) == results


def test_boxes_without_area_or_likelihood_and_repeated_ones_are_no_results(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(
        json.dumps({"images": [{"id": 3, "file_name": "9-9", "width": 320, "height": 240}], "annotations": []})
    )
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 7], [20, 0, 20, 9], [30, 0, 40, 10]], float)

    def detect(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return boxes[None], np.array([[0.5, 0.4, 0.9, 0.8, 0.005]])

    # 10x7 against 10x10: IoU 0.7; against 10x5: 5/7; the fourth has no area; the fifth is too unlikely.
    results = predict_boxes(detect, path, (320, 240), reader=Pictures())
    assert results == [{"image_id": 3, "category_id": 1, "bbox": [0.0, 0.0, 10.0, 7.0], "score": 0.9}]
    results = predict_boxes(detect, path, (320, 240), reader=Pictures(), min_score=0.001)
    assert [result["score"] for result in results] == [0.9, 0.005]
