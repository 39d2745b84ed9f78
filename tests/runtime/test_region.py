"""A part of the picture in which persons are looked for: seen alone by the detector, in coordinates of the whole."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from autopose.cli import app
from autopose.errors import DataError
from autopose.results import load_results
from autopose.runtime.estimator import Estimator


def test_the_detector_sees_the_part_and_a_margin_and_poses_are_of_the_whole(models: Path, figures: Any) -> None:
    picture = figures.paint((320, 240), figures.at(30, 40), figures.at(200, 60))
    seen: list[NDArray[np.uint8]] = []

    def detector(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen.append(image)
        boxes = [[45, 54, 115, 176], [0, 0, 58, 40], [0, 0, 62, 108], [140, 0, 164, 240], [140, 100, 164, 240]]
        return np.array(boxes, np.float32), np.ones(5, np.float32)

    part = (180, 60, 300, 240)  # with a quarter of its sides around: 150 to 330, 15 to 285
    with Estimator(models / "pose-flip.onnx", detector, device="cpu", threads=1, region=part) as opened:
        poses, (boxes, _) = opened.predict(picture), opened.detect(picture)
    np.testing.assert_array_equal(seen[0], picture[15:, 150:])
    # Centres by hand: (230, 130); (179, 35) left and above; (181, 69); (302, 135) right; (302, 185).
    np.testing.assert_allclose(boxes, [[195, 69, 265, 191], [150, 15, 212, 123]])
    (index,) = np.flatnonzero(poses.boxes[:, 0] == 195)
    assert np.abs(poses.keypoints[index] - figures.at(200, 60)).max() < 2.5
    assert poses.image_size_wh == (320, 240)


def test_a_part_that_is_a_persons_box(models: Path, figures: Any) -> None:
    picture = figures.paint((320, 240), figures.at(30, 40), figures.at(200, 60))
    part = (195, 55, 265, 176)
    with Estimator(models / "pose-flip.onnx", "full-frame", device="cpu", threads=1, region=part) as opened:
        poses = opened.predict(picture)
    np.testing.assert_array_equal(poses.boxes, [part])
    assert np.abs(poses.keypoints[0] - figures.at(200, 60)).max() < 3


@pytest.mark.parametrize("every", [1, 4])
def test_who_leaves_the_part_is_not_followed(models: Path, walk: Path, every: int) -> None:
    """The left walker's middle is at 40 + 3 t: in a part from 40 to 70 up to frame 10, the other one's never."""
    with Estimator(
        models / "pose-flip.onnx", models / "detector.onnx", device="cpu", threads=1, region=(10, 60, 70, 240)
    ) as opened:
        results = [poses for _, poses in opened.track(walk, every=every, smooth="none")]
    assert [len(poses) for poses in results[:10]] == [1] * 10
    assert [len(poses) for poses in results[17:]] == [0] * 7  # what the detector sees ends at 85, and so do boxes
    assert {int(poses.ids[0]) for poses in results[:10] if poses.ids is not None} == {1}


def test_infer_takes_a_part(models: Path, tmp_path: Path, figures: Any) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), figures.paint((320, 240), figures.at(30, 40), figures.at(200, 60)))

    def infer(*corners: str) -> Any:
        chosen = ["--model", str(models / "pose-flip.onnx"), "--detector", str(models / "detector.onnx")]
        words = ["infer", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--save", "json", "--region", *corners]
        return CliRunner().invoke(app, [*words, *chosen, "--device", "cpu"])

    # As large as the picture or larger: both; the right half: one.
    for corners, count in (("0 0 320 240", 2), ("0 0 9999 9999", 2), ("160 0 320 240", 1)):
        result = infer(*corners.split())
        assert result.exit_code == 0, result.output
        poses = load_results(tmp_path / "out" / "a.json").frames[0].poses
        assert len(poses) == count
    assert np.abs(poses.keypoints[0] - figures.at(200, 60)).max() < 2.5
    for corners in ("320 0 500 100", "0 240 500 300"):
        beside = infer(*corners.split())
        assert isinstance(beside.exception, DataError), beside.output
        assert f"The region {corners} lies outside of an image of 320x240 pixels" in str(beside.exception)


@pytest.mark.parametrize(
    ("region", "error"),
    [
        ((10, 10, 5, 20), ValueError),
        ((-1, 0, 5, 20), ValueError),
        ((0, 0, 0, 0), ValueError),
        ((0.1, 0.1, 0.5, 0.5), TypeError),
        ((1, 2, 3), TypeError),
    ],
)
def test_refuses_what_is_no_part(models: Path, region: Any, error: type) -> None:
    with pytest.raises(error, match="region"):
        Estimator(models / "pose-flip.onnx", "full-frame", device="cpu", region=region)
