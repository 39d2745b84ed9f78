"""The page of ``autopose view``: whole in itself, right in what it says, drawn by a real browser where there is one."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from autopose.cli import app
from autopose.drawing import TRACK_COLOURS
from autopose.errors import DataError, UsageError
from autopose.poses import Poses
from autopose.results import frame_record, results_header
from autopose.runtime.estimator import Estimator
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.preview import SPARSE_FRAME, _located, limit_of
from autopose.runtime.sources import find_sources
from autopose.runtime.video_writer import VideoWriter
from autopose.runtime.viewer import write_viewer


@pytest.fixture(scope="module")
def results(models: Path, walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu", threads=1) as estimator:
        infer_source(estimator, find_sources([walk])[0], InferOptions(out=out, save=("json",)))
    return out / "walk.json"


def _data(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_page_holds_everything(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopose.runtime.viewer.PREVIEW_SIDE", 160)
    page = write_viewer(results, tmp_path / "page.html")
    text = page.read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)  # nothing is fetched
    data = _data(page)
    assert len(data["frames"]) == 24
    assert data["tracked"] is True
    assert [bytes.fromhex(colour[1:])[::-1] for colour in data["colours"]] == [*map(bytes, TRACK_COLOURS)]
    assert text.count("#e6194b") == 1  # the page has no colours of tracks of its own
    assert [len(frame["persons"]) for frame in data["frames"]] == [2] * 24
    (tmp_path / "inside.mp4").write_bytes(base64.b64decode(data["video"].partition(",")[2]))
    with av.open(str(tmp_path / "inside.mp4")) as container:
        frames = list(container.decode(video=0))
    np.testing.assert_allclose([f.time for f in frames], [frame["t"] for frame in data["frames"]], atol=1e-5)
    assert {(frame.width, frame.height) for frame in frames} == {(160, 120)}


def test_the_video_of_a_page_holds_the_frames_of_the_results_and_starts_with_the_first(
    results: Path, tmp_path: Path
) -> None:
    """Of a run with ``--start`` and ``--stride``: times are the source's, those of the video start at 0."""
    content = json.loads(results.read_text())
    content["frames"] = content["frames"][6::3]
    (tmp_path / "part.json").write_text(json.dumps(content))
    data = _data(write_viewer(tmp_path / "part.json"))
    (tmp_path / "inside.mp4").write_bytes(base64.b64decode(data["video"].partition(",")[2]))
    with av.open(str(tmp_path / "inside.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert data["offset"] == pytest.approx(0.5)
    np.testing.assert_allclose(times, [frame["t"] - data["offset"] for frame in data["frames"]], atol=1e-5)


def test_embedded_pictures_are_made_smaller(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((500, 1500, 3), np.uint8))
    Poses.empty(image_size_wh=(1500, 500), source=str(tmp_path / "large.png")).save(tmp_path / "large.json")
    (picture,) = _data(write_viewer(tmp_path / "large.json"))["images"]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(picture.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (320, 960, 3)


def test_page_without_the_source(results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = tmp_path / "moved.json"
    moved.write_text(results.read_text().replace(json.loads(results.read_text())["source"]["path"], "gone.mp4"))
    data = _data(write_viewer(moved))
    assert "video" not in data
    assert "gone.mp4" in data["note"]
    assert "no pictures, but skeletons on black: gone.mp4" in caplog.text
    assert len(data["frames"]) == 24


def test_page_of_images(models: Path, tmp_path: Path, figures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), figures.paint((320, 240), figures.at(30, 40)))
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu") as estimator:
        infer_source(estimator, find_sources([tmp_path])[0], InferOptions(out=tmp_path / "out"))
    (results,) = (tmp_path / "out").glob("*.json")
    data = _data(write_viewer(results))
    assert len(data["images"]) == len(data["frames"]) == 2
    assert data["tracked"] is False
    assert [frame["name"] for frame in data["frames"]] == ["a.png", "b.png"]
    monkeypatch.setattr("autopose.runtime.viewer.PAGE_SIZE", 0)
    many = _data(write_viewer(results))
    assert "images" not in many
    assert "1 picture: more than it holds. 'autopose view --stride N' keeps every n-th" in many["note"]
    assert len(_data(write_viewer(results, stride=1))["images"]) == 2


def test_a_page_of_a_long_video_keeps_every_nth_frame(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As many as it has room for; which, is said on it and in a warning. Asked for, it keeps more."""
    whole = write_viewer(results, tmp_path / "whole.html", pictures=False)
    poses = [len(json.dumps(frame, separators=(",", ":"))) + 1 for frame in _data(whole)["frames"]]
    rest = len((resources.files("autopose.runtime") / "viewer.html").read_text(encoding="utf-8"))
    monkeypatch.setattr("autopose.runtime.viewer.PAGE_SIZE", rest + sum(poses[::3]) + 8 * SPARSE_FRAME)
    page = write_viewer(results, tmp_path / "page.html")
    data = _data(page)
    assert [frame["f"] for frame in data["frames"]] == list(range(0, 24, 3))
    assert (data["stride"], len(data["frames"])) == (3, 8)
    assert data["note"].endswith("every 3rd of 24 frames, pictures of at most 640 pixels")
    assert "'autopose view --stride 1' keeps all" in caplog.text
    assert len(page.read_text()) < rest + sum(poses[::3]) + 8 * SPARSE_FRAME + 1000
    (tmp_path / "inside.mp4").write_bytes(base64.b64decode(data["video"].partition(",")[2]))
    with av.open(str(tmp_path / "inside.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, [frame["t"] for frame in data["frames"]], atol=1e-5)
    caplog.clear()
    for stride, count in ((1, 24), (5, 5)):
        chosen = tmp_path / f"{stride}.html"
        result = CliRunner().invoke(app, ["view", str(results), "-o", str(chosen), "--stride", str(stride)])
        assert result.exit_code == 0, result.output
        assert len(_data(chosen)["frames"]) == count
    assert not caplog.text


@pytest.mark.parametrize(("most", "frames", "seconds"), [(1_000_000, 500, 20.0), (50_000, 8, 2.0), (90_000, 1, 0.0)])
def test_pictures_take_no_more_than_there_is_room_for(most: int, frames: int, seconds: float) -> None:
    rate, at_once = limit_of(most, frames, seconds)
    assert 0.9 * most < (rate * max(seconds, 0.04) + at_once) / 8 < 1.01 * most


def test_names_cannot_break_out_of_the_page(results: Path, tmp_path: Path) -> None:
    content = json.loads(results.read_text())
    content["source"]["path"] = "</script><script>alert(1)</script><script>alert(2).mp4"
    (tmp_path / "evil.json").write_text(json.dumps(content))
    text = write_viewer(tmp_path / "evil.json").read_text()
    assert "<script>alert" not in text
    content["source"]["path"] = "a {{data}} {{title}}.mp4"
    (tmp_path / "braces.json").write_text(json.dumps(content))
    text = write_viewer(tmp_path / "braces.json").read_text()
    assert "<h1>a {{data}} {{title}}.mp4</h1>" in text
    assert len(_data(tmp_path / "braces.html")["frames"]) == 24


def test_view_command(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    page = str(tmp_path / "page.html")
    for options, launched in ([], []), (["--open"], [page]):
        result = CliRunner().invoke(app, ["view", str(results), "-o", page, "--no-pictures", *options])
        assert result.exit_code == 0, result.output
        assert (result.stdout, opened) == (page + "\n", launched)
    assert "video" not in _data(tmp_path / "page.html")
    nothing = '{"format": "autopose-results", "version": 1, "frames": null}'
    header = '{"format": "autopose-results", "version": 1, "frames": [], '
    for text in (
        "{}",
        '[{"image_id": 1}]',
        nothing,
        header + '"source": "v.mp4"}',
        header + '"model": "m"}',
    ):  # a list is what NAME-coco.json beside the results holds
        (tmp_path / "other.json").write_text(text)
        refused = CliRunner().invoke(app, ["view", str(tmp_path / "other.json")])
        assert isinstance(refused.exception, DataError), text


def test_a_page_never_takes_the_place_of_the_results(results: Path) -> None:
    before = results.read_bytes()
    refused = CliRunner().invoke(app, ["view", str(results), "-o", str(results)])
    assert isinstance(refused.exception, UsageError)
    assert results.read_bytes() == before


def test_pages_of_names_with_dots(results: Path, tmp_path: Path) -> None:
    for name in ("a.1.json", "a.2.json", "a.2.part.jsonl"):
        (tmp_path / name).write_text(_lines_of(results) if name.endswith("l") else results.read_text())
        page = write_viewer(tmp_path / name, pictures=False)
        assert page.name == name[:3] + ".html"


def _lines_of(results: Path) -> str:
    content = json.loads(results.read_text())
    frames = content.pop("frames")
    return "\n".join(json.dumps(line) for line in (content, *frames))


def test_the_annotated_output_is_not_taken_for_the_source(
    results: Path, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(results.read_text())["source"]["path"] == str(walk)
    content = json.loads(results.read_text())
    (tmp_path / "walk.mp4").write_bytes(walk.read_bytes())  # as the run writes it, beside the JSON
    monkeypatch.chdir(tmp_path)
    for name in ("walk.mp4", "/gone/walk.mp4"):
        content["source"]["path"] = name
        (tmp_path / "walk.json").write_text(json.dumps(content))
        assert "video" not in _data(write_viewer(tmp_path / "walk.json"))
    content["source"]["path"] = str(tmp_path / "walk.mp4")  # the run read it here, so it cannot have written it
    (tmp_path / "walk.json").write_text(json.dumps(content))
    assert "video" in _data(write_viewer(tmp_path / "walk.json"))


def test_results_say_where_a_source_is(
    models: Path, tmp_path: Path, figures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), figures.paint((320, 240), figures.at(30, 40)))
    monkeypatch.chdir(tmp_path)
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu") as estimator:
        infer_source(estimator, find_sources(["a.jpg"])[0], InferOptions(out=tmp_path / "out"))
    (frame,) = json.loads((tmp_path / "out" / "a.json").read_text())["frames"]
    assert frame["image"] == str(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").unlink()  # what is left is the annotated image of the same name
    assert "images" not in _data(write_viewer(tmp_path / "out" / "a.json"))


@pytest.fixture
def two_sizes(models: Path, tmp_path: Path, figures: Any) -> Path:
    """Return the page of two photographs, one lying and one standing."""
    for name, size_wh in (("a.png", (320, 160)), ("b.png", (160, 320))):
        cv2.imwrite(str(tmp_path / name), figures.paint(size_wh, figures.at(30, 40, 60, 100)))
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu") as estimator:
        report = infer_source(estimator, find_sources([tmp_path])[0], InferOptions(out=tmp_path / "out"))
    (results,) = (path for path in report.files if path.suffix == ".json")
    return write_viewer(results, tmp_path / "page.html")


def test_every_image_has_its_size(two_sizes: Path) -> None:
    assert [frame["size"] for frame in _data(two_sizes)["frames"]] == [[320, 160], [160, 320]]


@pytest.mark.slow
def test_a_browser_shows_no_charts_of_nobody(results: Path, tmp_path: Path) -> None:
    content = json.loads(results.read_text())
    content["frames"] = [{**content["frames"][0], "persons": []}]
    (tmp_path / "nobody.json").write_text(json.dumps(content))
    page = _browse(write_viewer(tmp_path / "nobody.json"), tmp_path, "0", "--dump-dom").decode()
    assert 'data-ready="yes"' in page
    assert ">Nobody was found.</ul>" in page
    assert page.count('<section class="wide charts" hidden="">') == 2


@pytest.mark.slow
def test_a_browser_fits_the_stage_to_each_image(two_sizes: Path, tmp_path: Path) -> None:
    page = _browse(two_sizes, tmp_path, "1", "--dump-dom").decode()
    stage = re.search(r'<div id="stage" style="([^"]*)"', page)
    assert stage is not None
    assert "aspect-ratio: 160 / 320" in stage[1]
    canvas = re.search(r'<canvas width="(\d+)" height="(\d+)"', page)
    assert canvas is not None
    assert int(canvas[2]) / int(canvas[1]) == pytest.approx(2, abs=0.02)
    assert '<h2 id="tracks-title">Persons of each picture' in page
    assert re.search(r'id="speed-title"[^>]*></h2>', page)  # between separate pictures nobody moves


def _browse(page: Path, folder: Path, frame: str, *action: str) -> bytes:
    """Open a page in Chromium at a frame and return what it prints."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}",
             "--window-size=1200,1400", "--virtual-time-budget=8000"]  # fmt: skip
    run = subprocess.run(
        [browser, *flags, *action, f"file://{page}#{frame}"], capture_output=True, timeout=240, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.mark.slow
def test_a_browser_draws_it(results: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    _browse(write_viewer(results, tmp_path / "page.html"), tmp_path, "12", f"--screenshot={picture}")
    image = cv2.imread(str(picture))
    assert image is not None
    # The left and right limbs' colours, which occur nowhere else in picture and page: the canvas was drawn.
    for bgr in ((0x50, 0xAF, 0xFF), (0xFF, 0x9D, 0x4F)):
        assert (np.abs(image.astype(int) - bgr).max(-1) < 12).sum() > 100
    page = _browse(tmp_path / "page.html", tmp_path, "12", "--dump-dom").decode()
    assert '<h2 id="tracks-title">Tracks over time' in page
    assert re.search(r'id="speed-title"[^>]*>Speed of the \w+, pixels per second</h2>', page)


def test_a_video_without_a_name_is_shown_without_pictures(results: Path, tmp_path: Path) -> None:
    content = json.loads(results.read_text())
    content["source"] = {"kind": "video"}
    (tmp_path / "nameless.json").write_text(json.dumps(content))
    data = _data(write_viewer(tmp_path / "nameless.json"))
    assert "video" not in data
    assert "do not name their video" in data["note"]


@pytest.mark.parametrize(
    "changes",
    [
        {"time_s": "soon"},
        {"time_s": float("nan")},
        {"image_size_wh": ["a", "b"]},
        {"image_size_wh": [320]},
        {"persons": [{"box": [0, 0, 1, 1], "box_score": 1, "keypoints": [[float("nan"), 0, 1]] * 17}]},
        {"persons": [{"box": [0, float("nan"), 1, 1], "box_score": 1, "keypoints": [[0, 0, 1]] * 17}]},
        {"persons": [{"box": [0, 0, 1, 1], "box_score": float("inf"), "keypoints": [[0, 0, 1]] * 17}]},
        {"image": 5, "persons": []},
        {"persons": [{"id": 2**70, "box": [0, 0, 1, 1], "box_score": 1, "keypoints": [[0, 0, 1]] * 17}]},
    ],
    ids=str,
)
def test_refuses_results_of_which_no_page_can_be_made(results: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(results.read_text())
    content["frames"][0] |= changes
    (tmp_path / "odd.json").write_text(json.dumps(content))
    refused = CliRunner().invoke(app, ["view", str(tmp_path / "odd.json")])
    assert isinstance(refused.exception, DataError)


def test_a_browser_that_cannot_be_started_is_told(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.launch", lambda page: 1)
    result = CliRunner().invoke(app, ["view", str(results), "-o", str(tmp_path / "p.html"), "--no-pictures", "--open"])
    assert "no browser could be started" in result.stderr


def test_results_from_windows_find_their_source_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert _located(r"C:\photos\a.png", tmp_path / "a.json") == tmp_path / "a.png"


@pytest.mark.parametrize("gap", [1, 45])
def test_a_video_with_a_limit_keeps_to_it_however_far_its_frames_lie_apart(tmp_path: Path, gap: int) -> None:
    rng, most, frames = np.random.default_rng(0), 60_000, 100
    bits = limit_of(most, frames, (frames - 1) * gap / 25)
    sizes = {}
    for name, limit in (("free", None), ("held", bits)):
        writer = VideoWriter(
            tmp_path / f"{name}.mp4", (128, 96), fps=Fraction(25), time_base=Fraction(1, 25), crf=27, limit=limit
        )
        for number in range(frames):
            writer.write(rng.integers(0, 255, (96, 128, 3), np.uint8), number * gap)
        path = writer.close()
        assert path is not None
        sizes[name] = path.stat().st_size
    assert sizes["free"] > 3 * most  # noise takes all that it can get
    assert sizes["held"] < 1.2 * most


def test_many_pictures_become_smaller_until_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    record = Poses.empty(image_size_wh=(900, 600))
    frames = []
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (600, 900, 3), np.uint8))
        frames.append(frame_record(replace(record, source=str(tmp_path / f"{number}.png")), number))
    content = {**results_header(record.skeleton, {"kind": "images", "path": str(tmp_path)}), "frames": frames}
    (tmp_path / "r.json").write_text(json.dumps(content))
    monkeypatch.setattr("autopose.runtime.viewer.PAGE_SIZE", 400_000)
    page = write_viewer(tmp_path / "r.json")
    assert page.stat().st_size <= 400_000
    data = _data(page)
    assert len(data["images"]) == 4
    assert "pictures of at most" in data["note"]
    assert "pictures of at most" in caplog.text
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data["images"][0].partition(",")[2]), np.uint8), 1)
    assert shown is not None
    assert 200 <= shown.shape[1] < 900
