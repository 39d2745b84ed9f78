"""``autopose infer`` and ``Estimator.track`` on painted walkers: the right joints and ids, and honest failures."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from autopose.cli import app
from autopose.console import progress
from autopose.errors import AutoposeError, BackendError, MediaError, UsageError
from autopose.image_files import read_image
from autopose.results import load_results
from autopose.runtime import feeds
from autopose.runtime.detector import SessionDetector, open_detector
from autopose.runtime.estimator import Estimator
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.picture_sinks import VideoSink
from autopose.runtime.pipeline import pipeline_for
from autopose.runtime.run import run_all, usual_detector
from autopose.runtime.smoother import open_smoother
from autopose.runtime.source_names import public_address
from autopose.runtime.sources import Selection, find_sources, open_source
from autopose.runtime.video import VideoReader
from autopose.runtime.video_writer import VideoWriter


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


def test_frames_of_ones_own_are_followed_as_those_of_a_video(estimator: Estimator, walk: Path) -> None:
    """A generator, an array, RGB, times of their own; the clip's persons, ids and smoothed joints each time."""
    options: dict[str, Any] = {"every": 2, "smooth": "online"}
    known = list(estimator.track(walk, **options))
    images = [frame.image for frame, _ in known]
    timed = ((frame.time_s, frame.image) for frame, _ in known)
    for source, fps, rgb in (
        ((image for image in images), 12, False),
        (np.stack(images)[..., ::-1], 12, True),
        (timed, 3, False),  # their own times count
    ):
        found = list(estimator.track(source, fps=fps, rgb=rgb, **options))
        assert [frame.index for frame, _ in found] == list(range(24))
        np.testing.assert_allclose([f.time_s or 0 for f, _ in found], [f.time_s or 0 for f, _ in known], atol=1e-6)
        for (_, poses), (_, expected) in zip(found, known, strict=True):
            assert expected.ids is not None
            np.testing.assert_array_equal(poses.ids, expected.ids)
            np.testing.assert_allclose(poses.keypoints, expected.keypoints, atol=1e-3)
    part = [f.index for f, _ in estimator.track(images, fps=12, start_s=0.5, end_s=1.5, stride=5, max_frames=2)]
    assert part == [10, 15]
    with pytest.raises(MediaError, match="Got int as an image"):
        list(estimator.track([1, 2]))


@pytest.mark.parametrize("every", [1, 2])
def test_who_is_overlooked_for_a_while_is_followed(models: Path, walk: Path, every: int) -> None:
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu") as seeing:
        seen = seeing.detector
        calls = 0

        def forgetful(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            nonlocal calls
            calls += 1
            boxes, scores = seen(image)
            kept = np.argsort(boxes[:, 0])[:1] if 4 < calls < 8 else np.arange(len(boxes))
            return boxes[kept], scores[kept]

        with Estimator(models / "pose-flip.onnx", forgetful, device="cpu") as opened:
            results = list(opened.track(walk, every=every, smooth="none"))
    assert [len(poses) for _, poses in results] == [2] * 24


def test_names_that_are_no_utf8(models: Path, walk: Path, figures: Any, tmp_path: Path) -> None:
    """A video, and an image known by its content only, named in Latin-1; standard output takes UTF-8 only."""
    video, image = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9.mp4", b"b\xfcro"))
    try:
        video.write_bytes(walk.read_bytes())
    except OSError as error:
        pytest.skip(f"this file system takes no such names: {error}")
    image.write_bytes(cv2.imencode(".png", figures.paint((320, 240), *_truth(figures, 2)))[1].tobytes())
    command: list[str | Path] = [
        sys.executable, "-m", "autopose", "infer", video, image, "-o", tmp_path / "out", "--device", "cpu",
        "--model", models / "pose-flip.onnx", "--detector", models / "detector.onnx",
        "--save", "json,csv,sheet", "--max-frames", "2",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "caf\\udce9.mp4: 2 frames" in done.stdout.decode()
    written = {os.fsencode(path.name) for path in (tmp_path / "out").iterdir()}
    assert written == {
        name + ending for name in (b"caf\xe9", b"b\xfcro") for ending in (b".json", b".csv", b"-sheet.jpg")
    }


@pytest.mark.parametrize(("kind", "stride"), [("online", 2), ("offline", 1)])
def test_smoothed_poses_reach_the_caller(estimator: Estimator, walk: Path, kind: Any, stride: int) -> None:
    raw = list(estimator.track(walk, every=1, smooth="none", stride=stride))
    smoother = open_smoother(kind, 12 / stride)  # the clip's rate is 12
    expected = [poses for frame, one in raw for _, poses in smoother.push(frame, one, frame.time_s or 0)]
    expected += [poses for _, poses in smoother.flush()]
    found = [poses for _, poses in estimator.track(walk, every=1, smooth=kind, stride=stride)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)
    moved = [np.abs(one.keypoints - other.keypoints).max() for one, (_, other) in zip(found, raw, strict=True)]
    assert max(moved) > 0.1


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
    for every in (None, 2):
        tracked = [poses for _, poses in estimator.track(tmp_path, tracking=True, every=every)]
        assert [poses.ids.tolist() for poses in tracked if poses.ids is not None] == [[1, 2]] * 3


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
    assert {key: results.header["model"][key] for key in ("flip", "every", "smooth")} == {
        "flip": True, "every": 1, "smooth": "online",
    }  # fmt: skip


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


def test_infer_hands_on_its_options_and_how_sure_of_a_person_it_has_to_be(
    models: Path, tmp_path: Path, figures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both figures have boxes of score 0.9 and joints of nearly 1."""
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), figures.paint((320, 240), *_truth(figures, 1)))
    opened: list[dict[str, Any]] = []

    def remembered(**settings: Any) -> Estimator:
        opened.append(settings)
        return Estimator(**settings)

    monkeypatch.setattr("autopose.runtime.run.Estimator", remembered)
    counts = []
    for options in ([], ["--evidence", "0.95"], ["--evidence", "0", "--threshold", "0.95"]):
        common = ["--save", "json", "--backend", "ort", "--threads", "3"]
        result = _infer(models, picture, "-o", tmp_path / "out", *common, *options)
        assert result.exit_code == 0, result.output
        counts.append(len(load_results(tmp_path / "out" / "a.json").frames[0].poses))
    assert counts == [2, 0, 0]
    assert [(given["backend"], given["threads"], given["device"]) for given in opened] == [("ort", 3, "cpu")] * 3


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
    other = {"images": [{"id": 100, "file_name": "other.jpg"}], "annotations": []}
    (tmp_path / "other.json").write_text(json.dumps(other))
    result = _infer(models, walk, "-o", again, "--boxes", tmp_path / "other.json", "--save", "json")
    assert result.exit_code == 1
    assert "none of the 24 frames or images stands in it" in " ".join(result.output.split())


def test_boxes_of_some_of_the_images_that_are_named_one_by_one(models: Path, tmp_path: Path, figures: Any) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        cv2.imwrite(str(path), figures.paint((320, 240), *_truth(figures, 1)))

    def infer(*known: str) -> Any:
        content = {"images": [{"id": i, "file_name": name} for i, name in enumerate(known)], "annotations": []}
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        return _infer(models, *paths, "-o", tmp_path / "out", "--save", "json", "--boxes", tmp_path / "boxes.json")

    some, none = infer("a.png"), infer("c.png")
    assert (some.exit_code, none.exit_code) == (0, 1)
    assert some.output.count("stands in it") == 1


def test_nobody_is_followed_from_one_photograph_into_the_next(
    estimator: Estimator, walk: Path, tmp_path: Path, figures: Any
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), figures.paint((320, 240), *_truth(figures, 1)))
    names = []
    for place in (tmp_path, walk):
        (spec,) = find_sources([place])
        source = open_source(spec, Selection())
        pipeline = pipeline_for(estimator, source, every=1, tracking=True, smooth="none")
        names.append([stage.name for stage in pipeline.stages()])
        source.close()
    assert names == [["detect", "crop", "pose", "track"], ["detect", "pose"]]


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
        (["walk", "--report", "--save", "csv"], UsageError, "--report is made from the JSON"),
        (["walk", "--hide", "heads", "--save", "json,csv"], UsageError, "--hide heads: is of pictures"),
        (["walk", "--region", "90", "0", "80", "20"], UsageError, "region 90 0 80 20: expected corners"),
        (["walk", "--region", "0", "0", "80", "80", "--boxes", "missing.json"], UsageError, "--region has no place"),
    ],
)
def test_refuses(models: Path, walk: Path, tmp_path: Path, arguments: list[str], error: type, named: str) -> None:
    result = _infer(models, *(walk if word == "walk" else word for word in arguments), "-o", tmp_path)
    assert isinstance(result.exception, error), result.output
    assert named in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tracking", ["--track", "--no-track"])
def test_every_given_box_counts(models: Path, walk: Path, tmp_path: Path, tracking: str) -> None:
    """Two walkers, one of them twice, and a place where nobody is, all with scores too low for a detector's boxes."""
    boxes = [
        {"image_id": t, "bbox": [x, y, 60, 110], "score": score}
        for t in range(12)
        for x, y, score in ((10 + 3 * t, 60, 0.2), (11 + 3 * t, 60, 0.2), (245 - 3 * t, 70, 0.24), (130, 5, 0.1))
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    smooth = ["--smooth", "none"] if tracking == "--no-track" else []
    common: list[str | Path] = [walk, "--boxes", tmp_path / "boxes.json", "--max-frames", "12", "--save", "json"]
    for threshold, expected in (([], 4), (["--threshold", "0.15"], 3)):
        result = _infer(models, *common, "-o", tmp_path / "out", tracking, *smooth, *threshold)
        assert result.exit_code == 0, result.output
        frames = load_results(tmp_path / "out" / "walk.json").frames
        assert [len(frame.poses) for frame in frames] == [expected] * 12
    refused = _infer(models, *common, "-o", tmp_path / "out", "--every", "3")
    assert isinstance(refused.exception, UsageError)
    assert "--every 3" in str(refused.exception)


def test_one_picture_that_cannot_be_written_does_not_stop_the_others(
    models: Path, tmp_path: Path, figures: Any
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a_tall.png"), np.zeros((66_000, 8, 3), np.uint8))  # JPEG ends at 65,500
    cv2.imwrite(str(folder / "b.png"), figures.paint((320, 240), *_truth(figures, 2)))
    result = _infer(models, folder, "-o", tmp_path / "out", "--save", "images,json")
    assert result.exit_code == 1
    assert "8x66000" in result.output
    assert (tmp_path / "out" / "b.jpg").is_file()
    assert not (tmp_path / "out" / "a_tall.jpg").exists()
    assert len(load_results(tmp_path / "out" / "pictures.json").frames) == 2


def test_one_source_too_large_for_a_video_does_not_stop_the_others(models: Path, tmp_path: Path, figures: Any) -> None:
    wide, plain = tmp_path / "wide.png", tmp_path / "plain.png"
    cv2.imwrite(str(wide), np.zeros((64, 20_000, 3), np.uint8))  # H.264 ends at 16,384
    cv2.imwrite(str(plain), figures.paint((320, 240), *_truth(figures, 2)))
    result = _infer(models, wide, plain, "-o", tmp_path / "out", "--save", "video")
    assert result.exit_code == 1
    assert "20000x64" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plain.mp4"]


def test_separate_images_are_looked_at_twice_and_videos_once(walk: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert usual_detector(find_sources([tmp_path])) == "default"
    assert usual_detector(find_sources([tmp_path, walk])) == usual_detector(find_sources([walk])) == "fast"
    for name, looks in (("default", 2), ("fast", 1), ("best", 4)):
        detector = open_detector(name, device="cpu", threads=1)
        assert isinstance(detector, SessionDetector)
        assert detector.session.manifest.looks == looks
        detector.close()


def test_hidden_files_of_a_folder_are_no_sources(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "._a.jpg").write_bytes(b"\0\5\x16\7")  # macOS leaves these on foreign disks
    assert [spec.files for spec in find_sources([tmp_path])] == [(tmp_path / "a.jpg",)]


def test_a_second_run_leaves_no_numbered_files_of_the_first(models: Path, walk: Path, tmp_path: Path) -> None:
    common: list[str | Path] = [walk, "-o", tmp_path, "--save", "images,openpose,crops,trc", "--every", "1"]
    assert _infer(models, *common).exit_code == 0
    (tmp_path / "walk-frames" / "notes.txt").write_text("mine")
    first = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert _infer(models, *common, "--max-frames", "3").exit_code == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left < first
    assert sorted(name for name in left if name.startswith("walk-frames/")) == [
        "walk-frames/000000.jpg", "walk-frames/000001.jpg", "walk-frames/000002.jpg", "walk-frames/notes.txt",
    ]  # fmt: skip
    assert len([name for name in left if name.startswith("walk-openpose/")]) == 3
    assert len([name for name in left if name.startswith("walk-crops/")]) == 6
    assert len([name for name in left if name.endswith(".trc")]) == 2


def test_options_that_contradict_each_other_leave_no_source_open(estimator: Estimator, walk: Path) -> None:
    with pytest.raises(UsageError) as refused:
        estimator.track(walk, every=2, tracking=False)
    held = [os.path.realpath(link) for link in Path("/proc/self/fd").glob("*")] if Path("/proc").is_dir() else []
    assert str(walk) not in held
    assert refused.value.exit_code == 2


def test_options_that_contradict_each_other_stop_a_run_of_several_sources(
    models: Path, walk: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(walk.read_bytes())
    result = _infer(models, walk, other, "-o", tmp_path / "out", "--no-track", "--every", "2")
    assert isinstance(result.exception, UsageError)


def test_nobody_vanishes_between_detections_that_are_far_apart(
    estimator: Estimator, tmp_path: Path, figures: Any
) -> None:
    """A frame every 1.5 s, as of a slow stream: a detection is good for a second only."""
    path = tmp_path / "slow.mp4"
    writer = VideoWriter(path, (320, 240), fps=Fraction(2, 3), time_base=Fraction(1, 2))
    for t in range(6):
        writer.write(figures.paint((320, 240), *_truth(figures, 0)), 3 * t)
    writer.close()
    assert [len(poses) for _, poses in estimator.track(path, every=5, smooth="none")] == [2] * 6


def test_options_of_videos_do_not_stop_at_the_pictures_among_them(
    models: Path, walk: Path, tmp_path: Path, figures: Any
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), figures.paint((320, 240), *_truth(figures, 1)))
    result = _infer(models, tmp_path / "a.png", walk, "-o", tmp_path / "out", "--every", "3", "--smooth", "offline")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "a.json", "walk.json", "walk.mp4"]
    assert load_results(tmp_path / "out" / "a.json").frames[0].poses.ids is None
    assert json.loads((tmp_path / "out" / "walk.json").read_text())["model"]["every"] == 3


@pytest.mark.parametrize("words", ["--start 1", "--end 2", "--every 3", "--smooth offline"])
def test_options_of_videos_are_refused_where_all_sources_are_images(
    models: Path, tmp_path: Path, figures: Any, words: str
) -> None:
    picture = str(tmp_path / "a.png")
    cv2.imwrite(picture, figures.paint((320, 240), *_truth(figures, 1)))
    refused = _infer(models, picture, "-o", tmp_path / "out", *words.split())
    assert isinstance(refused.exception, UsageError), refused.output
    assert str(refused.exception).startswith(f"{words}: is of")
    assert not (tmp_path / "out").exists()
    common: list[str | Path] = [picture, "-o", tmp_path / "out", "--save", "json"]
    for fits in ("--every 1 --smooth none", "--every 3 --smooth offline --track", "--stride 2 --max-frames 1"):
        assert _infer(models, *common, *fits.split()).exit_code == 0, fits


def test_ctrl_c_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("autopose.runtime.sources.find_sources", interrupted)
    result = CliRunner().invoke(app, ["infer", "video.mp4"])
    assert result.exit_code == 130
    assert result.output == "autopose: stopped.\n"


def test_refuses_show_without_a_display(models: Path, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        assert isinstance(_infer(models, walk, "--show").exception, MediaError)


def test_a_failing_detector_is_named_and_ends_a_run_of_several_sources(
    models: Path, walk: Path, tmp_path: Path
) -> None:
    def broken(image: Any) -> Any:
        raise ZeroDivisionError("by purpose")

    with Estimator(models / "pose-flip.onnx", broken, device="cpu") as estimator:
        with pytest.raises(BackendError, match="'detect' failed"):
            list(estimator.track(walk))
        with pytest.raises(BackendError, match="'detect' failed"):
            list(run_all(estimator, find_sources([walk, walk]), InferOptions(out=tmp_path)))


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
    while not (part.exists() and part.read_bytes().count(b"\n") > 80) and process.poll() is None:
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
    (tmp_path / "sub" / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert [spec.name for spec in find_sources([f"{tmp_path}/s?b*/*.png"])] == ["sb"]  # "?" stands in no file's name
    (tmp_path / "sub" / "c.png").unlink()
    listed = find_sources([tmp_path / "list.txt"])
    assert [spec.kind for spec in listed] == ["images", "video", "live"]
    assert listed[2].name == "camera-stream1"  # no password in a file name
    assert [spec.name for spec in find_sources([tmp_path / "a.png", tmp_path / "sub" / "a.png"])] == ["a", "a-2"]
    assert find_sources(["0"])[0].kind == "live"
    with pytest.raises(MediaError, match="No source"):
        find_sources(["20251130101500"])  # a recording's name without its ending, no webcam
    (signed,) = find_sources([f"https://store/clips/{'a' * 300}.mp4?signature={'b' * 300}"])
    assert len(signed.name) <= 200  # endings and a temporary file's random part must fit into 255 bytes
    assert "b" not in signed.name
    files = find_sources(["https://store/clips/walk.mp4?key=1", "rtsp://10.0.0.1:554/live.sdp", "http://10.0.0.1"])
    assert [spec.name for spec in files] == ["store-clips-walk", "10.0.0.1-554-live.sdp", "10.0.0.1"]
    assert find_sources([f"rtsp://user:se?cr@et@camera/{k}" for k in "12"])[1].name == "camera-2"
    assert public_address("rtsp://u:pa/ss@cam:554/live") == "rtsp://cam:554/live"
    (tmp_path / "nothing").mkdir()
    for word, named in ((tmp_path / "nothing", "no images"), ("*.none", "holds no"), (tmp_path / "none", "No source")):
        with pytest.raises(MediaError, match=named):
            find_sources([word])


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_sources_are_not_overwritten(
    models: Path, estimator: Estimator, walk: Path, tmp_path: Path, figures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "walk.mp4").write_bytes(walk.read_bytes())
    for name in ("photos/a.jpg", "photos/b.png"):
        cv2.imwrite(str(tmp_path / name), figures.paint((320, 240), *_truth(figures, 1)))
    before = _contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused: list[list[str | Path]] = [
        ["walk.mp4", "-o", "."],
        [walk, "walk.mp4", "-o", tmp_path / "photos" / ".."],  # the first one's video would be the second source
        ["photos", "-o", "photos"],
        ["photos/b.png", "photos/a.jpg", "-o", "photos", "--save", "images"],
        ["walk.mp4", "--ray", "-o", "."],
    ]
    for arguments in refused:
        result = _infer(models, *arguments)
        assert isinstance(result.exception, UsageError), result.output
        assert "another folder with -o" in str(result.exception)
        assert _contents(tmp_path) == before
    with pytest.raises(UsageError, match=r"walk\.mp4"):
        infer_source(estimator, find_sources(["walk.mp4"])[0], InferOptions(out=tmp_path))
    assert _infer(models, "walk.mp4", "-o", ".", "--save", "json", "--max-frames", "2").exit_code == 0


def test_a_source_without_frames_is_a_problem(
    models: Path, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dark:
        fps, finite = 25.0, False

        def __init__(self, location: str) -> None: ...

        def read(self) -> None: ...

        def close(self) -> None: ...

    for part in (["--start", "1000"], ["--start", "0.045", "--end", "0.07"]):
        result = _infer(models, walk, "-o", tmp_path, *part)
        assert result.exit_code == 1, result.output
        assert "no frame between --start" in result.output
        assert "the video lasts 2.0 s" in result.output
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(feeds, "open_feed", Dark)
    result = _infer(models, "rtsp://camera/dark", "-o", tmp_path, "--end", "0.05")
    assert result.exit_code == 1
    assert "gave no frame" in result.output


def test_pages_only_for_what_this_run_wrote(models: Path, walk: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    assert _infer(models, walk, "-o", out, "--save", "json", "--max-frames", "2").exit_code == 0
    (out / "walk.json").rename(out / "bad.json")  # of an earlier run, when the clip was whole
    result = _infer(models, tmp_path / "bad.mp4", walk, "-o", out, "--save", "json", "--max-frames", "2", "--report")
    assert result.exit_code == 1
    assert sorted(path.name for path in out.iterdir()) == ["bad.json", "walk.html", "walk.json"]


def test_a_full_disk_hides_no_error_and_spares_the_other_outputs(
    models: Path, estimator: Estimator, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: VideoSink) -> list[Path]:
        raise OSError(28, "No space left on device")

    def broken(image: Any) -> Any:
        raise ZeroDivisionError("by purpose")

    monkeypatch.setattr(VideoSink, "close", full)
    spec = find_sources([walk])[0]
    options = InferOptions(out=tmp_path, save=("video", "json"), selection=Selection(max_frames=4))
    with pytest.raises(MediaError, match=r"walk\.mp4.*No space left"):
        infer_source(estimator, spec, options)
    assert len(load_results(tmp_path / "walk.json").frames) == 4
    with (
        Estimator(models / "pose-flip.onnx", broken, device="cpu") as failing,
        pytest.raises(BackendError, match="'detect' failed"),
    ):
        infer_source(failing, spec, options)


def test_an_output_that_cannot_be_written_is_named(
    models: Path, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file").touch()
    result = _infer(models, walk, "-o", tmp_path / "file")
    assert isinstance(result.exception, UsageError)
    assert "is a file; expected a folder" in str(result.exception)
    result = _infer(models, walk, "-o", tmp_path / "skeletons.MP4")
    assert isinstance(result.exception, UsageError)
    assert "looks like a file; expected a folder" in str(result.exception)
    assert not (tmp_path / "skeletons.MP4").exists()
    monkeypatch.setattr(VideoSink, "_add", full)
    result = _infer(models, walk, "-o", tmp_path / "out", "--save", "video")
    assert isinstance(result.exception, MediaError)
    assert "walk.mp4: could not be written (No space left on device). Make room" in str(result.exception)


def test_images_of_equal_names_have_outputs_of_their_own(models: Path, tmp_path: Path, figures: Any) -> None:
    for name in ("one/a.png", "two/a.png", "two/b.png", "three/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), figures.paint((320, 240), *_truth(figures, 1)))
    out = tmp_path / "out"
    sources: list[str | Path] = [tmp_path / "one" / "a.png", f"{tmp_path}/t*/*.png"]
    result = _infer(models, *sources, "-o", out, "--save", "images,crops,openpose")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.glob("*.jpg")) == ["a-2.jpg", "a-3.jpg", "a.jpg", "b.jpg"]
    assert len(list(out.glob("*-crops/*.jpg"))) == 2 * 4
    assert sorted(path.name for path in out.glob("*-openpose/*")) == [
        f"{stem}_keypoints.json" for stem in ("a-2", "a-3", "a", "b")
    ]


@pytest.mark.parametrize("first", ["clip.part", "clip"])
def test_a_source_called_as_a_working_file(models: Path, walk: Path, tmp_path: Path, first: str) -> None:
    paths = [tmp_path / f"{name}.mp4" for name in ("clip.part", "clip")]  # what a killed run left is run again
    for path in paths:
        path.write_bytes(walk.read_bytes())
    paths.sort(key=lambda path: path.stem != first)
    result = _infer(models, *paths, "-o", tmp_path / "out", "--save", "video,csv", "--max-frames", "2")
    assert result.exit_code == 0, result.output
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".csv", ".mp4", ".mp4"]


@pytest.mark.parametrize("first", ["clip-coco", "clip"])
def test_a_source_called_as_an_output_of_another(models: Path, walk: Path, tmp_path: Path, first: str) -> None:
    paths = [tmp_path / f"{name}.mp4" for name in ("clip-coco", "clip")]
    for path in paths:
        path.write_bytes(walk.read_bytes())
    paths.sort(key=lambda path: path.stem != first)
    result = _infer(models, *paths, "-o", tmp_path / "out", "--save", "json,coco", "--max-frames", "1")
    assert result.exit_code == 0, result.output
    kinds = [type(json.loads(path.read_text())) for path in (tmp_path / "out").iterdir()]
    assert sorted(kind.__name__ for kind in kinds) == ["dict", "dict", "list", "list"]


def test_upper_and_lower_case_are_one_in_the_names_of_images(tmp_path: Path) -> None:
    (tmp_path / "Q").mkdir()
    for name in ("A.png", "Q/a.png", "Q/q-sheet.png"):
        (tmp_path / name).touch()
    _, folder = find_sources([tmp_path / "A.png", tmp_path / "Q"])
    assert folder.stems == ("a-2", "q-sheet-2")


def test_an_image_called_as_its_folders_sheet(models: Path, tmp_path: Path, figures: Any) -> None:
    (tmp_path / "p").mkdir()
    for name in ("p-sheet.png", "q.png"):
        cv2.imwrite(str(tmp_path / "p" / name), figures.paint((320, 240), *_truth(figures, 1)))
    result = _infer(models, tmp_path / "p", "-o", tmp_path / "out", "--save", "images,sheet")
    assert result.exit_code == 0, result.output
    written = {path.name: read_image(path).shape for path in (tmp_path / "out").glob("*.jpg")}
    assert sorted(written) == ["p-sheet-2.jpg", "p-sheet.jpg", "q.jpg"]
    assert written["p-sheet-2.jpg"] == written["q.jpg"] == (240, 320, 3)


def test_pages_of_a_run_that_escape_ended(
    models: Path, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: None)
    monkeypatch.setattr(cv2, "waitKey", lambda wait: 27)
    result = _infer(models, walk, walk, "-o", tmp_path, "--save", "json", "--show", "--report")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".html", ".json"]


def test_braces_and_brackets_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    for name in ("clip {1}.mp4", "x [/b].mp4"):
        with progress(2, name) as bar:
            bar(1, "note [/b]")
        assert name in shown.getvalue()


def test_passwords_are_not_shown(
    models: Path, estimator: Estimator, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "rtsp://user:secret@camera/stream?key=secret"
    asked = []

    class Camera:
        fps, finite = 12.0, False

        def __init__(self, location: str) -> None:
            asked.append(location)
            self._frames = itertools.cycle(list(VideoReader(walk)))  # it never ends: it would be asked for again

        def read(self) -> Any:
            time.sleep(0.01)
            return next(self._frames).image

        def close(self) -> None: ...

    monkeypatch.setattr(feeds, "open_feed", Camera)
    result = _infer(models, address, "-o", tmp_path, "--save", "json,csv", "--report", "--max-frames", "5")
    assert result.exit_code == 0, result.output
    assert asked == [address]
    assert "rtsp://camera/stream: " in result.output
    for text in (result.output, *(content.decode() for content in _contents(tmp_path).values())):
        assert "secret" not in text

    def refusing(location: str) -> Any:
        raise MediaError(f"{location}: the stream cannot be opened.")

    monkeypatch.setattr(feeds, "open_feed", refusing)
    refused = _infer(models, address, "-o", tmp_path)
    assert str(refused.exception) == "rtsp://camera/stream: the stream cannot be opened."
    reports = run_all(estimator, find_sources([address, address]), InferOptions(tmp_path))
    assert [report.source for report in reports] == ["rtsp://camera/stream"] * 2


def test_few_frames_of_a_camera_wait_for_a_slow_caller(
    models: Path, figures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Camera:
        fps, finite = 100.0, False

        def __init__(self, location: str) -> None:
            self._picture = figures.paint((320, 240), figures.at(10, 60))

        def read(self) -> Any:
            time.sleep(0.002)
            return self._picture

        def close(self) -> None: ...

    looks = 0

    def counted(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        nonlocal looks
        looks += 1
        return np.array([[10, 60, 70, 170]], np.float32), np.ones(1, np.float32)

    monkeypatch.setattr(feeds, "open_feed", Camera)
    with Estimator(models / "pose-flip.onnx", counted, device="cpu", threads=1) as opened:
        results = opened.track("rtsp://camera", every=1, smooth="none")
        next(results)
        time.sleep(0.2)
        assert looks <= 5  # one here, one in each queue behind the detector, and one on the way to each
        results.close()  # type: ignore[attr-defined]


def test_sound_stays_with_its_video_but_not_where_persons_are_hidden(models: Path, walk: Path, tmp_path: Path) -> None:
    loud = tmp_path / "loud.mp4"
    with av.open(str(walk)) as silent, av.open(str(loud), "w") as out:
        video = out.add_stream_from_template(silent.streams.video[0])
        audio: Any = out.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        out.mux([*audio.encode(sound), *audio.encode(None)])
        for packet in silent.demux(video=0):
            packet.stream = video
            if packet.dts is not None:
                out.mux(packet)
    for hidden, kinds in (([], ["video", "audio"]), (["--hide", "heads"], ["video"])):
        asked = ["--save", "video", "--max-frames", "3", *hidden]
        assert _infer(models, loud, "-o", tmp_path / "out", *asked).exit_code == 0
        with av.open(str(tmp_path / "out" / "loud.mp4")) as drawn:
            assert [stream.type for stream in drawn.streams] == kinds


def test_refuses_a_window_with_ray(models: Path, walk: Path, tmp_path: Path) -> None:
    result = _infer(models, walk, "-o", tmp_path, "--ray", "--show")
    assert isinstance(result.exception, UsageError)
    assert "--show" in str(result.exception)


def test_a_stride_thins_before_frames_are_counted(walk: Path, tmp_path: Path) -> None:
    for name in "abcde":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    for place, indices, fps in ((tmp_path, [0, 2], None), (walk, [0, 2], 6)):
        (spec,) = find_sources([place])
        source = open_source(spec, Selection(stride=2, max_frames=2))
        assert ([frame.index for frame in source], source.frame_count, source.fps) == (indices, 2, fps)


def test_files_are_known_by_their_content_and_come_before_webcams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0").write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    assert [(spec.kind, spec.name) for spec in find_sources(["0", "1"])] == [("images", "0"), ("live", "webcam-1")]


def test_selection_refuses_nonsense() -> None:
    nan = float("nan")
    for wrong in (
        {"start_s": -1.0},
        {"start_s": 2.0, "end_s": 1.0},
        {"start_s": nan},
        {"end_s": nan},
        {"start_s": 1e300},
        {"end_s": 1e300},
        {"stride": 0},
        {"max_frames": 0},
    ):
        with pytest.raises(UsageError):
            Selection(**wrong)
    assert Selection(end_s=float("inf")).end_s is None


def test_lists_and_empty_words(tmp_path: Path, walk: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(walk.read_bytes())
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbfwalk.mp4\r\n")  # as Windows' editor saves "UTF-8 with BOM"
    assert [spec.name for spec in find_sources([listed])] == ["walk"]
    listed.write_text("list.txt\nwalk.mp4\n")  # as "ls > list.txt" writes it
    with pytest.raises(MediaError, match=r"list\.txt: is a list of sources in a list"):
        find_sources([listed])
    with pytest.raises(MediaError, match="empty"):
        find_sources([""])


def test_boxes_are_not_written_over(models: Path, walk: Path, tmp_path: Path) -> None:
    assert _infer(models, walk, "-o", tmp_path, "--save", "json", "--max-frames", "3").exit_code == 0
    results = tmp_path / f"{walk.stem}.json"
    before = results.read_bytes()
    again = _infer(models, walk, "-o", tmp_path, "--save", "json", "--boxes", results)
    assert isinstance(again.exception, UsageError)
    assert "is read by this run" in str(again.exception)
    assert results.read_bytes() == before


def test_q_ends_all_sources(estimator: Estimator, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: None)
    monkeypatch.setattr(cv2, "waitKey", lambda wait: ord("q"))
    specs = find_sources([walk, walk, walk])
    reports = list(run_all(estimator, specs, InferOptions(tmp_path, save=("json",)), show=True))
    assert [report.frames for report in reports] == [1]
