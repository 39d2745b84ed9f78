"""The page of ``autopose view``: whole in itself, right in what it says, drawn by a real browser where there is one."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from autopose.cli import app
from autopose.errors import DataError
from autopose.runtime.estimator import Estimator
from autopose.runtime.inference import InferOptions, infer_source
from autopose.runtime.sources import find_sources
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


def test_page_holds_everything(results: Path, tmp_path: Path) -> None:
    page = write_viewer(results, tmp_path / "page.html")
    text = page.read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)  # nothing is fetched
    data = _data(page)
    assert len(data["frames"]) == 24
    assert data["tracked"] is True
    assert [len(frame["persons"]) for frame in data["frames"]] == [2] * 24
    (tmp_path / "inside.mp4").write_bytes(base64.b64decode(data["video"].partition(",")[2]))
    with av.open(str(tmp_path / "inside.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, [frame["t"] for frame in data["frames"]], atol=1e-5)


def test_page_without_the_source(results: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.json"
    moved.write_text(results.read_text().replace(json.loads(results.read_text())["source"]["path"], "gone.mp4"))
    data = _data(write_viewer(moved))
    assert "video" not in data
    assert "gone.mp4" in data["note"]
    assert len(data["frames"]) == 24


def test_page_of_images(models: Path, tmp_path: Path, figures: Any) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), figures.paint((320, 240), figures.at(30, 40)))
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu") as estimator:
        infer_source(estimator, find_sources([tmp_path])[0], InferOptions(out=tmp_path / "out"))
    (results,) = (tmp_path / "out").glob("*.json")
    data = _data(write_viewer(results))
    assert len(data["images"]) == len(data["frames"]) == 2
    assert data["tracked"] is False


def test_names_cannot_break_out_of_the_page(results: Path, tmp_path: Path) -> None:
    content = json.loads(results.read_text())
    content["source"]["path"] = "</script><script>alert(1)</script>.mp4"
    (tmp_path / "evil.json").write_text(json.dumps(content))
    text = write_viewer(tmp_path / "evil.json").read_text()
    assert "<script>alert" not in text


def test_view_command(results: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["view", str(results), "-o", str(tmp_path / "page.html"), "--no-pictures"])
    assert result.exit_code == 0, result.output
    assert "video" not in _data(tmp_path / "page.html")
    (tmp_path / "other.json").write_text("{}")
    refused = CliRunner().invoke(app, ["view", str(tmp_path / "other.json")])
    assert isinstance(refused.exception, DataError)


@pytest.mark.slow
def test_a_browser_draws_it(results: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    page = write_viewer(results, tmp_path / "page.html")
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
             "--window-size=1200,1400", "--virtual-time-budget=8000"]  # fmt: skip
    run = subprocess.run(
        [browser, *flags, f"--screenshot={picture}", f"file://{page}#12"],
        capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert picture.exists(), run.stderr[-2000:]
    image = cv2.imread(str(picture))
    assert image is not None
    # The left and right limbs' colours, which occur nowhere else in picture and page: the canvas was drawn.
    for bgr in ((0x50, 0xAF, 0xFF), (0xFF, 0x9D, 0x4F)):
        assert (np.abs(image.astype(int) - bgr).max(-1) < 12).sum() > 100
