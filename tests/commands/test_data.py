import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from autopose.cli import app
from autopose.data.images import PackedReader
from autopose.errors import UsageError
from autopose.results import load_results
from autopose.skeleton import MPII16


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def test_synthetic_then_pack_and_check(tmp_path: Path) -> None:
    result = run("synthetic", str(tmp_path / "set"), "--images", "3", "--size", "64x48", "--persons", "0-1")
    assert result.exit_code == 0, result.output
    annotations = tmp_path / "set" / "annotations.json"
    assert str(annotations) in result.output
    content = json.loads(annotations.read_text())
    assert [(i["width"], i["height"]) for i in content["images"]] == [(64, 48)] * 3
    assert 0 < len(content["annotations"]) < 3
    result = run("pack", str(annotations), "-o", str(tmp_path / "set.pack"))
    assert result.exit_code == 0, result.output
    assert "3 pictures" in result.output
    assert PackedReader(tmp_path / "set.pack").read(tmp_path / "set/images/000002.jpg").shape == (48, 64, 3)
    (tmp_path / "moved").mkdir()
    (tmp_path / "set" / "images").rename(tmp_path / "moved" / "images")
    result = run("pack", str(annotations), "-o", str(tmp_path / "moved.pack"), "--images", str(tmp_path / "moved"))
    assert result.exit_code == 0, result.exception
    picture = tmp_path / "moved" / "images" / "000002.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    look = ["check", str(annotations), "--images", str(tmp_path / "moved")]
    assert (run(*look, "--quick").exit_code, run(*look).exit_code) == (0, 1)


@pytest.mark.parametrize("given", ["figures", "figures/annotations.json"])  # a folder is read as other formats are
def test_convert_guesses_middles_where_asked(tmp_path: Path, given: str) -> None:
    run("synthetic", str(tmp_path / "figures"), "--images", "1", "--size", "64x48", "--persons", "1")
    (person,) = json.loads((tmp_path / "figures" / "annotations.json").read_text())["annotations"]
    (tmp_path / "moved").mkdir()
    (tmp_path / "figures" / "images").rename(tmp_path / "moved" / "images")
    hips = np.reshape(person["keypoints"], (17, 3))[11:13]
    for options, expected in ((["--middles"], [*hips[:, :2].mean(0), 2]), ([], [0, 0, 0])):
        out = tmp_path / "mpii.json"
        images = ["--images", str(tmp_path / "moved")]
        result = run("convert", str(tmp_path / given), "-o", str(out), "--to", "mpii16", *options, *images)
        assert result.exit_code == 0, result.exception
        content = json.loads(out.read_text())
        assert content["images"][0]["file_name"] == "moved/images/000001.jpg"
        pelvis = np.reshape(content["annotations"][0]["keypoints"], (16, 3))[MPII16.index("pelvis")]
        np.testing.assert_allclose(pelvis, expected, atol=0.01)


def test_another_seed_draws_other_pictures(tmp_path: Path) -> None:
    written = []
    for seed in ("0", "0", "1"):
        run("synthetic", str(tmp_path), "--images", "1", "--size", "64x48", "--seed", seed)
        picture = (tmp_path / "images" / "000001.jpg").read_bytes()
        run("synthetic", str(tmp_path), "--video", "--images", "1", "--size", "64x48", "--seed", seed)
        written.append((picture, load_results(tmp_path / "clip.json").frames[0].poses.to_json()))
    assert written[0] == written[1]
    assert all(one != other for one, other in zip(written[0], written[2], strict=True))


def test_synthetic_video_comes_with_its_truth(tmp_path: Path) -> None:
    import av

    result = run("synthetic", str(tmp_path), "--video", "--images", "5", "--size", "96x64", "--persons", "2")
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(96, 64)] * 5
    results = load_results(tmp_path / "clip.json")
    np.testing.assert_allclose([frame.time for frame in frames], [frame.time_s or 0 for frame in results.frames])
    assert [frame.frame for frame in results.frames] == list(range(5))
    assert results.frames[4].time_s == pytest.approx(4 / 25)


@pytest.mark.parametrize(
    "option",
    [
        ("--size", "64"),
        ("--persons", "a-b"),
        ("--persons", "3-1"),
        ("--size", "²x5"),
        ("--size", "99999x99999"),
        ("--size", "31x64"),
    ],
)
def test_refuses_wrong_numbers(tmp_path: Path, option: tuple[str, str]) -> None:
    result = run("synthetic", str(tmp_path / "set"), *option)
    assert isinstance(result.exception, UsageError)
    assert option[0] in str(result.exception)
    assert not (tmp_path / "set").exists()
