"""``autopose infer`` and ``Estimator.track`` on painted walkers: the right joints and ids, and honest failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from autopose.cli import app
from autopose.errors import AutoposeError, BackendError, MediaError, UsageError
from autopose.results import load_results
from autopose.runtime.estimator import Estimator
from autopose.runtime.sources import Selection, find_sources


@pytest.fixture(scope="module")
def estimator(models: Path) -> Any:
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu", threads=1) as opened:
        yield opened


def _infer(models: Path, *arguments: str | Path) -> Any:
    chosen = ["--model", str(models / "pose-flip.onnx"), "--detector", str(models / "detector.onnx"), "--device", "cpu"]
    return CliRunner().invoke(app, ["infer", *map(str, arguments), *chosen])


def _truth(figures: Any, t: int) -> list[Any]:
    return [figures.at(10 + 3 * t, 60), figures.at(245 - 3 * t, 70)]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_track_follows_the_walkers(estimator: Estimator, walk: Path, figures: Any, every: int) -> None:
    results = list(estimator.track(walk, every=every, smooth="none"))
    assert [frame.index for frame, _ in results] == list(range(24))
    for frame, poses in results:
        # 17 px apart at the end: both within their halves, so that the toy detector sees both
        assert poses.ids is not None
        assert sorted(poses.ids.tolist()) == [1, 2]
        for track, joints in zip(np.argsort(results[0][1].boxes[:, 0]) + 1, _truth(figures, frame.index), strict=True):
            found = poses.keypoints[poses.ids.tolist().index(int(track))]
            assert np.abs(found - joints).mean() < 2.5


def test_smoothing_stays_close(estimator: Estimator, walk: Path, figures: Any) -> None:
    for kind in ("online", "offline"):
        results = list(estimator.track(walk, every=1, smooth=kind))
        assert [frame.index for frame, _ in results] == list(range(24))
        error = [
            np.abs(np.sort(p.keypoints[:, 0, 0]) - [40 + 3 * f.index, 275 - 3 * f.index]).mean() for f, p in results
        ]
        assert np.mean(error) < 4


def test_track_may_be_left_early(estimator: Estimator, walk: Path) -> None:
    for frame, _ in estimator.track(walk):
        if frame.index == 3:
            break
    assert len(list(estimator.track(walk, max_frames=4, start_s=0.5))) == 4


def test_images_are_not_tracked_unless_asked(estimator: Estimator, tmp_path: Path, figures: Any) -> None:
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"{t}.png"), figures.paint((320, 240), *_truth(figures, t)))
    assert all(poses.ids is None for _, poses in estimator.track(tmp_path))
    assert all(poses.ids is not None for _, poses in estimator.track(tmp_path, tracking=True))


def test_infer_writes_video_and_json(models: Path, walk: Path, tmp_path: Path) -> None:
    result = _infer(models, walk, "-o", tmp_path, "--every", "1")
    assert result.exit_code == 0, result.output
    assert "24 frames, 48 persons" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.json", "walk.mp4"]
    with av.open(str(tmp_path / "walk.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(24) / 12, atol=1e-6)
    results = load_results(tmp_path / "walk.json")
    assert len(results.frames) == 24
    assert results.header["model"]["flip"] is True


def test_infer_images(models: Path, tmp_path: Path, figures: Any) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        cv2.imwrite(str(folder / name), figures.paint((320, 240), *_truth(figures, 1)))
    (folder / "notes.txt").write_text("not an image")
    out = tmp_path / "out"
    result = _infer(models, folder, "-o", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg", "photos.json"]
    names = [Path(entry.poses.source or "").name for entry in load_results(out / "photos.json").frames]
    assert names == ["a.jpg", "a.png", "b.png"]


def test_infer_goes_on_past_a_damaged_image_and_says_so(models: Path, tmp_path: Path, figures: Any) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), figures.paint((320, 240), *_truth(figures, 1)))
    (folder / "b.png").write_bytes(b"no image")
    result = _infer(models, folder, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "b.png" in result.output
    assert len(load_results(tmp_path / "out" / "photos.json").frames) == 1


def test_infer_keeps_what_came_before_a_break(models: Path, walk: Path, tmp_path: Path) -> None:
    content = walk.read_bytes()
    start = content.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: start + (len(content) - start) // 2])
    result = _infer(models, cut, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "warning: " in result.output
    assert 0 < len(load_results(tmp_path / "out" / "cut.json").frames) < 24


def test_boxes_from_a_file(models: Path, walk: Path, tmp_path: Path) -> None:
    assert _infer(models, walk, "-o", tmp_path, "--save", "json", "--every", "1").exit_code == 0
    again = tmp_path / "again"
    result = _infer(models, walk, "-o", again, "--boxes", tmp_path / "walk.json", "--save", "json", "--smooth", "none")
    assert result.exit_code == 0, result.output
    first, second = load_results(tmp_path / "walk.json"), load_results(again / "walk.json")
    for a, b in zip(first.frames, second.frames, strict=True):
        np.testing.assert_allclose(np.sort(a.poses.boxes, 0), np.sort(b.poses.boxes, 0), atol=0.01)
    detections = [{"image_id": 3, "category_id": 1, "bbox": [10, 50, 90, 130], "score": 0.8}]
    (tmp_path / "coco.json").write_text(json.dumps(detections))
    result = _infer(models, walk, "-o", again, "--boxes", tmp_path / "coco.json", "--save", "json")
    assert [len(entry.poses) for entry in load_results(again / "walk.json").frames] == [0] * 3 + [1] + [0] * 20


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (["missing.mp4"], MediaError, "missing"),
        (["walk", "--every", "3", "--no-track"], UsageError, "tracking"),
        (["walk", "--smooth", "online", "--no-track"], UsageError, "tracking"),
        (["walk", "--start", "3", "--end", "2"], UsageError, "start"),
        (["walk", "--stride", "0"], UsageError, "stride"),
        (["walk", "--save", "bvh"], UsageError, "bvh"),
        (["walk", "--boxes", "missing.json"], AutoposeError, "missing.json"),
        (["walk", "--no-flip"], AutoposeError, "export"),
    ],
)
def test_refuses(models: Path, walk: Path, tmp_path: Path, arguments: list[str], error: type, named: str) -> None:
    result = _infer(models, *(walk if word == "walk" else word for word in arguments), "-o", tmp_path)
    assert isinstance(result.exception, error), result.output
    assert named in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_refuses_show_without_a_display(models: Path, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        assert isinstance(_infer(models, walk, "--show").exception, MediaError)


def test_a_failing_detector_is_named(models: Path, walk: Path) -> None:
    def broken(image: Any) -> Any:
        raise ZeroDivisionError("by purpose")

    with (
        Estimator(models / "pose-flip.onnx", broken, device="cpu") as estimator,
        pytest.raises(BackendError, match="'detect' failed"),
    ):
        list(estimator.track(walk))


def test_a_killed_run_leaves_readable_files(models: Path, tmp_path: Path, figures: Any) -> None:
    from fractions import Fraction

    from autopose.runtime.video_writer import VideoWriter

    long = VideoWriter(tmp_path / "long.mp4", (320, 240), fps=Fraction(25), time_base=Fraction(1, 25))
    picture = figures.paint((320, 240), *_truth(figures, 2))
    for t in range(1000):
        long.write(picture, t)
    long.close()
    out = tmp_path / "out"
    command = [sys.executable, "-m", "autopose", "infer", str(tmp_path / "long.mp4"), "-o", str(out), "--device", "cpu",
               "--model", str(models / "pose-flip.onnx"), "--detector", str(models / "detector.onnx"),
               "--save", "video,json,csv"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part = out / "long.part.jsonl"
    deadline = time.monotonic() + 120
    while not (part.exists() and part.read_bytes().count(b"\n") > 80) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if (out / "long.json").exists():
        pytest.skip("the run was over before it could be killed")
    results = load_results(part)
    assert len(results.frames) >= 80
    assert len((out / "long.part.csv").read_text().splitlines()) > 100
    with av.open(str(out / "long.part.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 50


def test_sources_by_name(tmp_path: Path, walk: Path, figures: Any) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.jpg", "sub/a.png"):
        cv2.imwrite(str(tmp_path / name), figures.paint((64, 64)))
    (tmp_path / "clip.mp4").write_bytes(walk.read_bytes())
    (tmp_path / "list.txt").write_text("# comment\nsub/a.png\n\nclip.mp4\nrtsp://user:secret@camera/stream1\n")
    found = find_sources([tmp_path])
    assert [(spec.kind, len(spec.files)) for spec in found] == [("images", 2), ("video", 1)]
    assert [len(spec.files) for spec in find_sources([f"{tmp_path}/**/*.png"])] == [2]
    listed = find_sources([tmp_path / "list.txt"])
    assert [spec.kind for spec in listed] == ["images", "video", "live"]
    assert listed[2].name == "camera-stream1"  # no password in a file name
    assert [spec.name for spec in find_sources([tmp_path / "a.png", tmp_path / "sub" / "a.png"])] == ["a", "a-2"]
    assert find_sources(["0"])[0].kind == "live"
    (tmp_path / "nothing").mkdir()
    for word, named in ((tmp_path / "nothing", "no images"), ("*.none", "holds no"), (tmp_path / "none", "No source")):
        with pytest.raises(MediaError, match=named):
            find_sources([word])


def test_selection_refuses_nonsense() -> None:
    for wrong in ({"start_s": -1.0}, {"start_s": 2.0, "end_s": 1.0}, {"stride": 0}, {"max_frames": 0}):
        with pytest.raises(UsageError):
            Selection(**wrong)
