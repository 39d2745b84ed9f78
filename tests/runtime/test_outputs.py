"""Every output read back by what its users read it with."""

import csv
import itertools
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autopose.affine import warp_shrunk
from autopose.drawing import LEFT, MIDDLE, RIGHT
from autopose.errors import DataError, MediaError, UsageError
from autopose.poses import Poses
from autopose.results import load_results
from autopose.runtime.outputs import FORMATS, Format, open_sink, parse_formats
from autopose.runtime.picture_sinks import person_cell
from autopose.runtime.sinks import SinkContext
from autopose.runtime.source_names import OUTPUT_MARKS, unique_stem
from autopose.runtime.sources import SourceSpec
from autopose.runtime.video import Frame
from autopose.skeleton import COCO17, SKELETONS, Skeleton

RATE = Fraction(25)


def _poses(figures: Any, t: int) -> Poses:
    """Person 1 in every frame, person 2 in frames 2, 3 and 6 only."""
    present = [(20 + t, 30)] + ([(200, 40 + t)] if t in (2, 3, 6) else [])
    joints = np.array([figures.at(*corner) for corner in present], np.float32)
    boxes = np.concatenate([joints.min(1), joints.max(1)], -1)
    scores = np.full((len(present), 17), 0.75, np.float32)
    scores[0, 3] = 0.05  # an ear that is not seen
    return Poses(
        boxes, np.full(len(present), 0.9), joints, scores, ids=np.arange(1, len(present) + 1), image_size_wh=(320, 240)
    )


def _frame(figures: Any, t: int) -> Frame:
    poses = _poses(figures, t)
    return Frame(figures.paint((320, 240), *poses.keypoints), t, t / 25, t, 1 / RATE)


def _run(figures: Any, out: Path, formats: Sequence[Format], close: bool = True, frames: int = 8) -> list[Path]:
    spec = SourceSpec("clip", "video", "clip.mp4", (Path("clip.mp4"),))
    context = SinkContext(spec, out, COCO17, RATE, model={"name": "toy"})
    sinks = [open_sink(name, context) for name in formats]
    for t in range(frames):
        frame, poses = _frame(figures, t), _poses(figures, t)
        for sink in sinks:
            sink.write(frame, poses, poses.plot(frame.image) if sink.needs_drawing else None)
    if not close:  # what a kill would leave, set aside
        for part in [*out.glob("*.part.*"), *out.glob("*.trc")]:
            shutil.copy(part, out / f"killed-{part.name}")
    return [path for sink in sinks for path in sink.close()]


def test_json_roundtrip(figures: Any, tmp_path: Path) -> None:
    (path,) = _run(figures, tmp_path, ["json"])
    content = json.loads(path.read_text())
    assert (content["format"], content["version"]) == ("autopose-results", 1)
    assert content["skeleton"]["joints"] == list(COCO17.joints)
    assert content["skeleton"]["limbs"] == [list(limb) for limb in COCO17.limbs]
    assert content["model"] == {"name": "toy"}
    assert content["source"] == {"kind": "video", "path": str(Path("clip.mp4").absolute()), "fps": 25.0}
    results = load_results(path)
    assert results.complete
    assert [entry.frame for entry in results.frames] == list(range(8))
    for t, entry in enumerate(results.frames):
        expected = _poses(figures, t)
        assert entry.time_s == pytest.approx(t / 25)
        np.testing.assert_array_equal(entry.poses.ids, expected.ids)
        np.testing.assert_allclose(entry.poses.keypoints, expected.keypoints, atol=0.006)
        np.testing.assert_allclose(entry.poses.boxes, expected.boxes, atol=0.006)
        np.testing.assert_allclose(entry.poses.box_scores, expected.box_scores)
        np.testing.assert_allclose(entry.poses.keypoint_scores, expected.keypoint_scores)
        assert entry.poses.image_size_wh == (320, 240)
    assert list(tmp_path.iterdir()) == [path]


def test_json_of_a_killed_run_is_readable(figures: Any, tmp_path: Path) -> None:
    _run(figures, tmp_path, ["json"], close=False)
    part = tmp_path / "killed-clip.part.jsonl"
    part.write_bytes(part.read_bytes()[:-40])  # the last line broken off
    results = load_results(part)
    assert not results.complete
    assert len(results.frames) == 7
    header, *lines = part.read_text().splitlines(keepends=True)
    part.write_text("".join([header, *lines[:-1], "{\n", lines[-1]]))
    with pytest.raises(DataError, match="is no results file"):  # only a last line may be broken off
        load_results(part)


@pytest.mark.parametrize("version", [{}, {"version": 2}])
def test_refuses_results_of_another_version(tmp_path: Path, version: dict[str, int]) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"format": "autopose-results", **version}))
    with pytest.raises(DataError, match=r"r\.json: results version (None|2); this autopose reads version 1"):
        load_results(tmp_path / "r.json")


def test_against_pycocotools(figures: Any, tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    (path,) = _run(figures, tmp_path, ["coco"])
    annotations, identifier = [], 0
    for t in range(8):
        for person in _poses(figures, t):
            identifier += 1
            x0, y0, x1, y1 = (float(v) for v in person.boxes[0])
            triples = np.concatenate([person.keypoints[0], np.full((17, 1), 2)], -1)
            annotations.append(
                {"id": identifier, "image_id": t, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
                 "area": (x1 - x0) * (y1 - y0), "bbox": [x0, y0, x1 - x0, y1 - y0],
                 "keypoints": triples.ravel().tolist()}
            )  # fmt: skip
    truth = {"images": [{"id": t} for t in range(8)], "categories": [{"id": 1}], "annotations": annotations, "info": {}}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    coco = coco_module.COCO(str(tmp_path / "truth.json"))
    evaluator = evaluation.COCOeval(coco, coco.loadRes(str(path)), "keypoints")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert evaluator.stats[0] == pytest.approx(1.0)
    assert {entry["track_id"] for entry in json.loads(path.read_text())} == {1, 2}
    assert not list(tmp_path.glob("*.part.*"))


def test_openpose_files(figures: Any, tmp_path: Path) -> None:
    (folder,) = _run(figures, tmp_path, ["openpose"])
    files = sorted(folder.iterdir())
    assert [file.name for file in files][2] == "clip_000000000002_keypoints.json"
    people = json.loads(files[2].read_text())["people"]
    assert [person["person_id"] for person in people] == [[1], [2]]
    body = np.array(people[0]["pose_keypoints_2d"]).reshape(25, 3)
    joints = _poses(figures, 2).keypoints[0]
    np.testing.assert_allclose(body[0, :2], joints[0], atol=0.01)  # nose
    np.testing.assert_allclose(body[4, :2], joints[COCO17.index("right_wrist")], atol=0.01)
    np.testing.assert_allclose(body[1, :2], joints[5:7].mean(0), atol=0.01)  # neck, between the shoulders
    assert not body[19:].any()  # feet, which COCO has not


def test_table_by_csv_and_pandas(figures: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    arrow = pytest.importorskip("pyarrow.parquet")
    table_csv, table_parquet = _run(figures, tmp_path, ["csv", "parquet"])
    with table_csv.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == (8 + 3) * 17
    assert rows[0]["joint"] == "nose"
    assert {row["source"] for row in rows} == {"clip.mp4"}
    assert {(row["frame"], row["time_s"]) for row in rows} == {(str(t), str(t / 25)) for t in range(8)}
    frame = pandas.read_parquet(table_parquet)
    pandas.testing.assert_frame_equal(pandas.read_csv(table_csv), frame, check_dtype=False, atol=1e-3)
    person = frame[(frame.id == 2) & (frame.joint == "left_knee")]
    assert person.frame.tolist() == [2, 3, 6]
    np.testing.assert_allclose(person.y, [figures.at(200, 40 + t)[13, 1] for t in (2, 3, 6)], atol=0.01)
    assert arrow.read_schema(table_parquet).field("time_s").type == "double"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.csv", "clip.parquet"]


def test_table_of_angles(figures: Any, tmp_path: Path) -> None:
    (path,) = _run(figures, tmp_path, ["angles"])
    assert path.name == "clip-angles.csv"
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == [
        "source", "frame", "time_s", "id", "person", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_hip", "right_hip", "left_knee", "right_knee",
    ]  # fmt: skip
    assert [(row["frame"], row["id"], row["person"]) for row in rows if row["id"] == "2"] == [
        ("2", "2", "1"), ("3", "2", "1"), ("6", "2", "1"),
    ]  # fmt: skip
    shoulder, elbow, wrist = figures.at(20, 30)[[5, 7, 9]]
    upper, lower = (np.degrees(np.arctan2(*(end - elbow)[::-1])) for end in (shoulder, wrist))
    between = abs((upper - lower + 180) % 360 - 180)
    assert all(float(row["left_elbow"]) == pytest.approx(between, abs=0.06) for row in rows)
    own = Skeleton("dog", ("nose", "left_ear", "right_ear"), (), (0.03,) * 3)
    with pytest.raises(UsageError, match="the joints of dog make none of the known angles"):
        open_sink("angles", SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, own, RATE))


def test_separate_images_are_named(figures: Any, tmp_path: Path) -> None:
    context = SinkContext(SourceSpec("photos", "images", "photos"), tmp_path, COCO17)
    frame = replace(_frame(figures, 0), name="a/x.jpg", stem="x-2", time_s=None)
    table, openpose = open_sink("csv", context), open_sink("openpose", context)
    for sink in (table, openpose):
        sink.write(frame, _poses(figures, 0), None)
    with table.close()[0].open() as lines:
        assert {(row["source"], row["time_s"]) for row in csv.DictReader(lines)} == {("a/x.jpg", "")}
    assert [path.name for path in openpose.close()[0].iterdir()] == ["x-2_keypoints.json"]


def _read_trc(path: Path) -> tuple[dict[str, str], list[str], Any, Any]:
    """Read a .trc as OpenSim's format description has it: five header lines, a blank line, then tab-separated data."""
    lines = path.read_text().split("\n")
    assert lines[0].split("\t")[:3] == ["PathFileType", "4", "(X/Y/Z)"]
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    count = int(header["NumMarkers"])
    names = lines[3].split("\t")
    assert names[:2] == ["Frame#", "Time"]
    markers = names[2::3][:count]
    assert lines[4].split("\t")[2 : 2 + 3 * count] == [f"{axis}{k}" for k in range(1, count + 1) for axis in "XYZ"]
    assert lines[5] == ""
    times, data = [], []
    for number, line in enumerate(lines[6 : 6 + int(header["NumFrames"])], start=1):
        cells = line.split("\t")
        assert int(cells[0]) == number
        times.append(float(cells[1]))
        values = [float(cell) if cell else np.nan for cell in cells[2 : 2 + 3 * count]]
        data.append(np.array(values).reshape(count, 3))
    assert lines[6 + int(header["NumFrames"]) :] == [""]
    return header, markers, np.array(times), np.array(data)


@pytest.mark.parametrize("close", [True, False])
def test_trc_by_the_format_description(figures: Any, tmp_path: Path, close: bool) -> None:
    _run(figures, tmp_path, ["trc"], close=close)  # whole after every frame: closing adds nothing
    before = "" if close else "killed-"
    header, markers, times, data = _read_trc(tmp_path / f"{before}clip_id1.trc")
    assert (header["Units"], float(header["DataRate"]), int(header["NumFrames"])) == ("mm", 25.0, 8)
    assert markers == list(COCO17.joints)
    np.testing.assert_allclose(times, np.arange(8) / 25)
    expected = np.array([_poses(figures, t).keypoints[0] for t in range(8)])
    # Joints count from the middle of the first pixel; the frames are 240 pixels high.
    np.testing.assert_allclose(data[:, 0, 0], expected[:, 0, 0] + 0.5, atol=0.01)
    np.testing.assert_allclose(data[:, 0, 1], 239.5 - expected[:, 0, 1], atol=0.01)
    assert np.isnan(data[:, 3]).all()  # the ear that is not seen
    _, _, times, data = _read_trc(tmp_path / f"{before}clip_id2.trc")
    np.testing.assert_allclose(times, np.array([2, 3, 4, 5, 6]) / 25, atol=1e-6)
    assert np.isnan(data[2:4]).all()
    assert not np.isnan(data[4, 0]).any()


def test_trc_counts_the_lines_between_by_the_clock(figures: Any, tmp_path: Path) -> None:
    """Two frames that follow one another, but 0.21 s apart: of a video whose rate is not constant."""
    sink = open_sink("trc", SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, COCO17, RATE))
    for t, time_s in enumerate((0.0, 0.21)):
        sink.write(replace(_frame(figures, t), time_s=time_s), _poses(figures, t), None)
    header, _, times, data = _read_trc(sink.close()[0])
    assert int(header["NumFrames"]) == 6
    np.testing.assert_allclose(times, np.linspace(0, 0.21, 6), atol=1e-6)
    assert np.isnan(data[1:5]).all()


def test_trc_of_separate_images_counts_one_a_second(figures: Any, tmp_path: Path) -> None:
    sink = open_sink("trc", SinkContext(SourceSpec("photos", "images", "photos"), tmp_path, COCO17))
    for t in (3, 6):
        sink.write(replace(_frame(figures, t), time_s=None), _poses(figures, t), None)
    header, _, times, data = _read_trc(sink.close()[0])
    assert (float(header["DataRate"]), int(header["OrigDataStartFrame"])) == (1.0, 3)
    assert times.tolist() == [3, 4, 5, 6]
    assert np.isnan(data[:, 0, 0]).tolist() == [False, True, True, False]


def test_trc_of_a_name_beyond_ascii(figures: Any, tmp_path: Path) -> None:
    sink = open_sink("trc", SinkContext(SourceSpec("vidéo", "video", "vidéo.mp4"), tmp_path, COCO17, RATE))
    for t in range(2):
        sink.write(_frame(figures, t), _poses(figures, t), None)
    (path,) = sink.close()
    assert _read_trc(path)[0]["NumFrames"].strip() == "2"
    assert "vidéo_id1.trc" in path.read_text(encoding="utf-8").splitlines()[0]


def test_pictures(figures: Any, tmp_path: Path) -> None:
    video, folder, sheet, crops = _run(figures, tmp_path, ["video", "images", "sheet", "crops"])
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    capture.release()
    assert len(list(folder.iterdir())) == 8
    assert sorted(path.name for path in crops.iterdir())[:2] == ["000000_id1.jpg", "000001_id1.jpg"]
    assert len(list(crops.iterdir())) == 11
    page = cv2.imread(str(sheet))
    assert page is not None
    assert page.shape == (2 * 196 + 4, 8 * 148 + 4, 3)
    drawn, plain = cv2.imread(str(folder / "000000.jpg")), _frame(figures, 0).image
    assert drawn is not None
    assert np.abs(drawn.astype(int) - plain).mean() > 0.5  # something was drawn


def test_a_run_that_finds_nobody_leaves_none_of_an_earlier_one(figures: Any, tmp_path: Path) -> None:
    kinds: list[Format] = ["crops", "sheet", "trc", "openpose"]
    _run(figures, tmp_path, kinds)
    context = SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, COCO17, RATE)
    for name in kinds:
        sink = open_sink(name, context)
        sink.write(_frame(figures, 0), Poses.empty(), None)
        sink.close()
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["clip-openpose/clip_000000000000_keypoints.json"]


def test_sheet_stays_small(figures: Any, tmp_path: Path) -> None:
    (sheet,) = _run(figures, tmp_path, ["sheet"], frames=150)
    page = cv2.imread(str(sheet))
    assert page is not None
    assert page.shape[0] <= 5 * 196 + 4


def test_sheet_shows_everybody_in_order(figures: Any, tmp_path: Path) -> None:
    """Two persons in every frame, the first on blue, the second on red ground, which grow brighter with time."""
    joints = np.array([figures.at(20, 30), figures.at(200, 40)], np.float32)
    boxes = np.concatenate([joints.min(1), joints.max(1)], -1)
    poses = Poses(boxes, np.full(2, 0.9), joints, np.zeros((2, 17), np.float32), image_size_wh=(320, 240))
    spec = SourceSpec("clip", "video", "clip.mp4", (Path("clip.mp4"),))
    sink = open_sink("sheet", SinkContext(spec, tmp_path, COCO17, RATE))
    for t in range(200):
        image = np.zeros((240, 320, 3), np.uint8)
        image[:, :160, 0] = image[:, 160:, 2] = 40 + t
        sink.write(Frame(image, t, t / 25, t, 1 / RATE), poses, None)
    (path,) = sink.close()
    page = cv2.imread(str(path))
    assert page is not None
    cells = [page[4 + 98 + 196 * (i // 8), 4 + 72 + 148 * (i % 8)].astype(int) for i in range(40)]
    blue = [cell[0] > cell[2] for cell in cells]
    assert 10 < sum(blue) < 30
    times = [cell.max() for cell in cells]
    assert all(later > earlier - 12 for earlier, later in itertools.pairwise(times))  # JPEG is lossy
    assert times[0] < 80
    assert times[-1] > 200


def test_a_persons_cell_holds_the_whole_person_in_its_middle(figures: Any) -> None:
    joints = np.array([figures.at(20, 30)], np.float32)
    boxes = np.concatenate([joints.min(1), joints.max(1)], -1)
    poses = Poses(boxes, np.ones(1, np.float32), joints, np.ones((1, 17), np.float32))
    cell = person_cell(figures.paint((320, 240)), poses, 0, (144, 192))
    scale = 192 / (0.96 * 110) / 1.15  # the height is what fills the cell
    for name in ("nose", "left_wrist", "right_ankle"):
        x, y = np.round((joints[0, COCO17.index(name)] - (50, 85)) * scale + (72, 96)).astype(int)
        side = {"left": LEFT, "right": RIGHT}.get(name.partition("_")[0], MIDDLE)
        assert tuple(cell[y, x]) == side, name


def test_a_large_person_is_shrunk_by_the_mean_of_areas() -> None:
    image = np.zeros((1920, 33_000, 3), np.uint8)  # OpenCV 4 itself warps no side above 32,766
    image[:, ::7] = 255
    boxes = np.array([[0, 0, 1440, 1920]], np.float32)
    nothing = np.zeros((1, 17, 2), np.float32)
    poses = Poses(boxes, np.ones(1, np.float32), nothing, nothing[..., 0])
    inside = person_cell(image, poses, 0, (144, 192))[30:160, 30:110]
    assert inside.mean() == pytest.approx(255 / 7, abs=2)
    assert inside.std() < 20  # of samples it is 75


@pytest.mark.parametrize("box", [(900, 40, 1300, 640), (-20, -30, 50, 90), (1900, 900, 1990, 1100)])
def test_a_cell_is_cut_out_before_it_is_shrunk(box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To shrink the whole of a 24-megapixel picture took 0.2 s for each person."""
    seen: list[int] = []

    def shrunk(image: Any, *rest: Any, **border: Any) -> Any:
        seen.append(image.size)
        return warp_shrunk(image, *rest, **border)

    monkeypatch.setattr("autopose.runtime.picture_sinks.warp_shrunk", shrunk)
    image: Any = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8), (0, 0), 9)
    corners, nothing = np.array([box], np.float32), np.full((1, 17, 2), -9999, np.float32)
    cell = person_cell(image, Poses(corners, np.ones(1, np.float32), nothing, nothing[..., 0] * 0), 0, (144, 192))
    scale = min(144 / (box[2] - box[0]), 192 / (box[3] - box[1])) / 1.15
    assert seen[0] < 1.2 * 3 * 144 * 192 / scale**2
    shift = np.array([144, 192]) / 2 - scale * (np.array(box[:2]) + box[2:]) / 2
    whole = warp_shrunk(image, np.column_stack([np.eye(2) * scale, shift]), (144, 192), border=(40, 40, 40))
    assert np.abs(cell[3:-3, 3:-3].astype(float) - whole[3:-3, 3:-3]).mean() < 1.5


def test_every_mark_behind_a_sources_name_is_kept_free(tmp_path: Path) -> None:
    context = SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, COCO17, RATE)
    stems = {open_sink(name, context).destination.name.partition(".")[0].removeprefix("clip") for name in FORMATS}
    assert stems - {""} <= set(OUTPUT_MARKS)


def test_no_frames_no_files(tmp_path: Path) -> None:
    context = SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, COCO17, RATE)
    assert [path for name in FORMATS for path in open_sink(name, context).close()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_names_that_are_no_utf8(figures: Any, tmp_path: Path, kind: Format) -> None:
    name = os.fsdecode(b"caf\xe9")  # Latin-1, from an old disk
    try:
        (tmp_path / f"{name}.mp4").touch()
    except OSError as error:
        pytest.skip(f"this file system takes no such names: {error}")
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    spec = SourceSpec(name, "video", f"{name}.mp4", (tmp_path / f"{name}.mp4",))
    sink = open_sink(kind, SinkContext(spec, tmp_path / "out", COCO17, RATE, model={"name": "toy"}))
    frame, poses = _frame(figures, 0), _poses(figures, 0)
    sink.write(frame, poses, poses.plot(frame.image) if sink.needs_drawing else None)
    paths = sink.close()
    assert paths
    for path in paths:
        assert os.fsencode(path.name).startswith(b"caf\xe9")
        if path.suffix in {".csv", ".trc", ".json"}:
            assert "caf" in path.read_text(encoding="utf-8") or kind == "coco"


@pytest.mark.parametrize("kind", ["csv", "parquet", "trc"])
def test_names_with_line_ends_stay_on_one_line(figures: Any, tmp_path: Path, kind: Format) -> None:
    pandas = pytest.importorskip("pandas")
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    name = "a\rb\nc\td"
    sink = open_sink(kind, SinkContext(SourceSpec(name, "video", f"{name}.mp4"), tmp_path, COCO17, RATE))
    for t in range(2):
        sink.write(_frame(figures, t), _poses(figures, t), None)
    path = sink.close()[0]
    shown = "a\\x0db\\x0ac\\x09d"
    if kind == "trc":
        text = path.read_bytes().decode()
        assert text.split("\n")[0] == f"PathFileType\t4\t(X/Y/Z)\t{shown}_id1.trc"
        return
    table = pandas.read_csv(path) if kind == "csv" else pandas.read_parquet(path)
    assert set(table["source"]) == {f"{shown}.mp4"}
    assert len(table) == 2 * 17 * len(_poses(figures, 0))


def test_save_values() -> None:
    assert parse_formats("video, JSON,video") == ("video", "json")
    with pytest.raises(UsageError, match="bvh"):
        parse_formats("json,bvh")


def test_poses_save_and_convert(figures: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    poses = replace(_poses(figures, 2), image=_frame(figures, 2).image, source="photo.jpg")
    poses.save(tmp_path / "one.json")
    (entry,) = load_results(tmp_path / "one.json").frames
    np.testing.assert_allclose(entry.poses.keypoints, poses.keypoints, atol=0.006)
    assert entry.poses.source == "photo.jpg"
    poses.save(tmp_path / "one.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "one.png")), poses.plot())
    replace(poses, source='in Rome, at "home".jpg').save(tmp_path / "one.csv")
    table = pandas.read_csv(tmp_path / "one.csv")
    assert len(table) == 34
    assert set(table.source) == {'in Rome, at "home".jpg'}
    with pytest.raises(MediaError, match="docx"):
        poses.save(tmp_path / "one.docx")
    table = poses.to_df(frame=2, time_s=0.08)
    assert poses[:0].to_df(frame=2).dtypes.equals(table.dtypes)
    assert table[table.id == 2].joint.tolist() == list(COCO17.joints)
    unspeakable = replace(poses, source=os.fsdecode(b"caf\xe9.jpg"))  # a name that is no UTF-8
    assert set(unspeakable.to_df().source) == {"caf\\udce9.jpg"}
    assert table[["frame", "time_s"]].drop_duplicates().to_numpy().tolist() == [[2, 0.08]]
    assert [(entry["image_id"], entry["track_id"]) for entry in poses.to_coco(5)] == [(5, 1), (5, 2)]
    first, second = poses.crop(margin=0)
    x0, y0, _, y1 = poses.boxes[1].astype(int)
    assert second.shape[0] == pytest.approx(y1 - y0, abs=2)
    assert first.shape[1] == pytest.approx(poses.boxes[0, 2] - poses.boxes[0, 0], abs=2)
    np.testing.assert_array_equal(second[5, 5], poses.image[y0 + 5, x0 + 5])  # type: ignore[index]
    with pytest.raises(ValueError, match="no image"):
        _poses(figures, 0).crop()


def test_to_supervision(figures: Any) -> None:
    pytest.importorskip("supervision")
    poses = _poses(figures, 2)
    points = poses.to_supervision()
    np.testing.assert_array_equal(points.xy, poses.keypoints)
    assert points.data["tracker_id"].tolist() == [1, 2]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_joint_has_the_colour_of_its_side(skeleton: Skeleton) -> None:
    count = len(skeleton)
    at = np.array([(20 + 40 * (k % 6), 20 + 40 * (k // 6)) for k in range(count)], np.float32)
    scores = np.ones((1, count), np.float32)
    scores[0, 0] = 0.1  # not seen: left as it was
    poses = Poses(np.array([[0, 0, 260, 200]], np.float32), np.ones(1, np.float32), at[None], scores, skeleton=skeleton)
    drawn = poses.plot(np.full((200, 260, 3), 128, np.uint8))
    assert tuple(drawn[0, 0]) == (128, 128, 128)  # no limb goes to a joint that is not seen, wherever that is put
    for k, (name, (x, y)) in enumerate(zip(skeleton.joints, at.astype(int), strict=True)):
        side = {"left": LEFT, "right": RIGHT}.get(name.partition("_")[0], MIDDLE)
        assert tuple(drawn[y, x]) == (side if k else (128, 128, 128)), name


def test_limbs_are_as_thick_as_the_person_is_large() -> None:
    joints, scores = np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32)
    thigh = [COCO17.index("left_hip"), COCO17.index("left_knee")]
    joints[0, thigh], scores[0, thigh] = [(60, 20), (60, 180)], 1
    widths = []
    for side in (80, 800):
        poses = Poses(np.array([[0, 0, side, side]], np.float32), np.ones(1, np.float32), joints, scores)
        drawn = poses.plot(np.zeros((200, 120, 3), np.uint8))
        widths.append(int((drawn[100] == LEFT).all(-1).sum()))
    assert widths[0] < 3
    assert widths[1] == pytest.approx(800 * 2**0.5 / 130, abs=3)  # with its soft edges


def test_nobody_and_joints_outside_of_anything_can_be_drawn(figures: Any) -> None:
    empty = Poses.empty(image_size_wh=(320, 240))
    image = np.full((240, 320, 3), 128, np.uint8)
    np.testing.assert_array_equal(empty.plot(image), image)
    wild = _poses(figures, 2)
    wild.keypoints[0, 0] = (np.nan, 1e9)  # outside of anything, as a bad network may say
    assert wild.plot(image, boxes=True).shape == image.shape


def test_images_with_the_same_number_are_named(
    figures: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    sink = open_sink("coco", SinkContext(SourceSpec("photos", "images", "photos"), tmp_path, COCO17, None))
    for name in ("cam1_0001.jpg", "cam2_0001.jpg", "cam2_0001.jpg", "cam3_0001.jpg"):
        sink.write(replace(_frame(figures, 0), name=name), _poses(figures, 0), None)
    sink.close()
    assert caplog.text.count("image_id 1") == 1
    assert "cam1_0001.jpg and cam2_0001.jpg" in caplog.text


def test_names_that_macos_takes_for_one_are_numbered() -> None:
    taken: set[str] = set()
    assert unique_stem("caf\u00e9", taken) == "caf\u00e9"
    assert unique_stem("cafe\u0301", taken) == "cafe\u0301-2"
    assert unique_stem("CAF\u00c9", taken) == "CAF\u00c9-3"


def test_trc_writes_no_lines_where_the_clock_jumps(figures: Any, tmp_path: Path) -> None:
    sink = open_sink("trc", SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, COCO17, RATE))
    for t, time_s in enumerate((0.0, 0.04, 1000.0, 1000.04)):  # it was set while the recorder ran
        sink.write(replace(_frame(figures, t), time_s=time_s), _poses(figures, 0), None)
    _, _, times, _ = _read_trc(sink.close()[0])
    assert times.tolist() == pytest.approx([0, 0.04, 1000, 1000.04])


def test_trc_has_all_lines_of_a_long_absence(figures: Any, tmp_path: Path) -> None:
    """Its format wants a constant rate: only where no frame came at all for long are there none."""
    sink = open_sink("trc", SinkContext(SourceSpec("clip", "video", "clip.mp4"), tmp_path, COCO17, Fraction(1000)))
    for t, time_s in enumerate((0.0, 6.0, 12.0)):  # nobody in the middle: 12,000 frames of a fast camera
        poses = _poses(figures, 0)
        sink.write(replace(_frame(figures, t), time_s=time_s), poses[:0] if t == 1 else poses, None)
    header, _, times, _ = _read_trc(sink.close()[0])
    assert int(header["NumFrames"]) == 12_001
    np.testing.assert_allclose(np.diff(times), 0.001, atol=1e-6)


def test_thousands_of_sources_of_one_name_are_numbered_as_few_are() -> None:
    """Remembered numbers give the same names, without counting up from the first each time."""
    rng = np.random.default_rng(0)
    stems = [["a", "A", "a-2", "b", "b-2-2", "b-2"][i] for i in rng.integers(6, size=200)]
    slow: set[str] = set()
    quick: set[str] = set()
    counts: dict[str, int] = {}
    assert [unique_stem(stem, slow) for stem in stems] == [unique_stem(stem, quick, (), counts) for stem in stems]
    names = [unique_stem("frame", quick, (), counts) for _ in range(20_000)]
    assert (names[0], names[-1]) == ("frame", "frame-20000")
