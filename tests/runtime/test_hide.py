"""``infer --hide``: no picture that a run writes shows the heads, whether somebody is believed in or not."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from autopose.cli import app
from autopose.image_files import read_image
from autopose.results import load_results
from autopose.runtime.estimator import Estimator
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.sources import find_sources
from autopose.runtime.video import VideoReader

#: Where the head of a toy figure lies in its box of 60 x 110: within reach of its five joints.
HEAD = np.s_[0:10, 17:44]


def _infer(models: Path, *arguments: str | Path) -> Any:
    chosen = ["--model", str(models / "pose-flip.onnx"), "--detector", str(models / "detector.onnx"), "--device", "cpu"]
    return CliRunner().invoke(app, ["infer", *map(str, arguments), *chosen])


def _saturation(image: NDArray[np.uint8]) -> float:
    """Return how far the most colourful pixel is from grey: discs of joints, and skeletons, are colourful."""
    return float(np.ptp(image.astype(int), axis=-1).max())


def test_heads_are_in_no_picture(models: Path, walk: Path, tmp_path: Path) -> None:
    plain, hidden = tmp_path / "plain", tmp_path / "hidden"
    asked = ["--save", "video,crops,sheet,json", "--max-frames", "4", "--every", "1"]
    for out, option in ((plain, []), (hidden, ["--hide", "heads"])):
        result = _infer(models, walk, "-o", out, *asked, *option)
        assert result.exit_code == 0, result.output
    names = [sorted(str(path.relative_to(out)) for path in out.rglob("*.jpg")) for out in (plain, hidden)]
    assert names[0] == names[1]
    assert len(names[0]) == 9
    for name in (name for name in names[0] if "crops" in name):
        before, after = read_image(plain / name), read_image(hidden / name)
        top = round(0.1 * len(before))  # of the margin around the box
        assert _saturation(before[top : top + 12]) > 150 > 60 > _saturation(after[: top + 8])
        np.testing.assert_allclose(before[50:].astype(int), after[50:], atol=30)  # JPEG
    one, other = (load_results(out / "walk.json") for out in (plain, hidden))
    for entry, expected in zip(other.frames, one.frames, strict=True):  # the numbers are those of the whole picture
        np.testing.assert_array_equal(entry.poses.keypoints, expected.poses.keypoints)


@pytest.mark.parametrize("tracking", [True, False])
def test_who_is_not_believed_in_yet_is_hidden_as_well(models: Path, walk: Path, tmp_path: Path, tracking: bool) -> None:
    """Boxes of 0.3 make an id at the third sighting, and no person of a separate image: no head is seen before."""
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu", threads=1) as seeing:

        def doubtful(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            boxes, scores = seeing.detector(image)
            return boxes, np.full_like(scores, 0.3)

        with Estimator(models / "pose-flip.onnx", doubtful, device="cpu", threads=1, least_evidence=0.9) as estimator:
            (spec,) = find_sources([walk])
            options = InferOptions(tmp_path, ("images", "json"), every=1, tracking=tracking, hide="heads")
            infer_source(estimator, spec, options)
    results = load_results(tmp_path / "walk.json").frames
    counts = [len(entry.poses) for entry in results]
    assert counts[:2] == [0, 0]
    assert (max(counts) > 0) == tracking
    for index, (frame, count) in enumerate(zip(VideoReader(walk), counts, strict=True)):
        if count:  # skeletons are drawn there
            continue
        written = read_image(tmp_path / "walk-frames" / f"{index:06d}.jpg")
        for x, y in ((10 + 3 * index, 60), (245 - 3 * index, 70)):
            part = np.s_[y : y + 110, x : x + 60]
            assert _saturation(frame.image[part][HEAD]) > 150 > 90 > _saturation(written[part][HEAD])
            assert _saturation(written[part][50:]) > 150  # the other joints are as they were


def test_a_hidden_picture_holds_skeletons_alone(models: Path, tmp_path: Path, figures: Any) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), figures.paint((320, 240), figures.at(30, 40)))
    cv2.imwrite(str(photos / "nobody.png"), figures.paint((320, 240)))
    out = tmp_path / "out"
    result = _infer(models, photos, "-o", out, "--hide", "picture", "--report", "--save", "images,json")
    assert result.exit_code == 0, result.output
    assert not read_image(out / "nobody.jpg").any()
    drawn = read_image(out / "a.jpg")
    assert (drawn.max(-1) < 16).mean() > 0.85
    assert _saturation(drawn[40:150, 30:90]) > 100
    assert not drawn[:, 120:].any()  # no grey ground
    assert "data:image" not in (out / "photos.html").read_text(encoding="utf-8")
