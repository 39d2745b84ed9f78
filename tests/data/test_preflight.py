import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from autopose.cli import app
from autopose.data.coco import load_coco
from autopose.data.preflight import check_folder
from autopose.errors import DataError

PERSON = {"keypoints": [30.0, 40.0, 2.0] * 17}


def test_a_sound_set_has_no_faults(write_coco: Any, tmp_path: Path) -> None:
    write_coco(PERSON, {**PERSON, "iscrowd": 1})
    (tmp_path / "notes.json").write_text('{"some": "settings"}')
    seen: list[None] = []
    (report,), absent = check_folder(tmp_path, on_image=lambda: seen.append(None))
    assert (report.kind, report.skeleton, report.images, report.persons) == ("COCO", "coco17", 2, 1)
    assert not report.faults
    assert len(seen) == 2
    assert len(absent) == 4
    assert all("{root}" in step for published in absent for step in published.steps)


def test_a_file_is_read_once_and_its_pictures_counted_before_they_are_looked_at(
    write_coco: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_coco(PERSON)
    read: list[int] = []
    original = json.loads

    def counted(text: bytes) -> Any:
        read.append(len(text))
        return original(text)

    monkeypatch.setattr("json.loads", counted)
    said: list[int | None] = []
    check_folder(path, on_start=said.append, on_image=lambda: said.append(None))
    assert read == [path.stat().st_size]
    assert said == [2, None, None]


def test_finds_what_is_wrong_and_counts_it(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco(PERSON, {**PERSON, "bbox": [1, 1, 0, 5]}, {"keypoints": [1, 2]}, images=5)
    pictures = sorted((tmp_path / "images").iterdir())
    pictures[1].unlink()
    pictures[2].write_bytes(b"")
    whole = cv2.imencode(".jpg", np.zeros((80, 100, 3), np.uint8))[1].tobytes()
    pictures[3].write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(pictures[4]), np.zeros((40, 50, 3), np.uint8))
    (report,), _ = check_folder(tmp_path)
    assert dict(report.faults) == {"annotation": 2, "missing image": 1, "broken image": 2, "image size": 1}
    assert pictures[1].name in report.examples["missing image"][0]
    assert "annotations[1]: bbox" in report.examples["annotation"][0]
    assert "is 50x40, annotated as 100x80" in report.examples["image size"][0]
    (quick,), _ = check_folder(tmp_path, decode=False)
    assert dict(quick.faults) == {"annotation": 2, "missing image": 1}
    assert path.is_file()


@pytest.mark.parametrize("wrong", [{"pseudo": [17]}, {"weight": "high"}])
def test_finds_weights_that_training_refuses(wrong: dict[str, Any], write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({**PERSON, **wrong}, PERSON)
    with pytest.raises(DataError) as refused:
        load_coco(path)
    (report,), _ = check_folder(tmp_path)
    assert (report.persons, report.examples) == (1, {"annotation": [str(refused.value)]})


def test_one_file_and_folders_of_runs(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco(PERSON)
    (report,), absent = check_folder(path)
    assert (report.images, report.persons, absent) == (2, 1, [])
    run = tmp_path / "runs" / "mine"
    (run / "synthetic-8").mkdir(parents=True)
    for name in ("config.toml", "log.jsonl"):
        (run / name).touch()
    for copy in (run / "tune.json", run / "synthetic-8" / "annotations.json"):
        copy.write_bytes(path.read_bytes())
    reports, _ = check_folder(tmp_path)
    assert [report.annotations for report in reports] == [path]
    reports, _ = check_folder(run)  # asked for by name
    assert [report.annotations.name for report in reports] == ["tune.json", "annotations.json"]


def test_keeps_five_examples_of_a_fault(write_coco: Any, tmp_path: Path) -> None:
    write_coco(PERSON, images=12)
    for picture in sorted((tmp_path / "images").iterdir())[1:]:
        picture.unlink()
    (report,), _ = check_folder(tmp_path)
    assert report.faults["missing image"] == 11
    assert len(report.examples["missing image"]) == 5


def test_recognises_cocos_layout_and_detections(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco(PERSON, name="person_keypoints_val2017.json")
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / path.name).write_text(json.dumps(content))
    path.unlink()
    (tmp_path / "images").rename(tmp_path / "val2017")
    detections = [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}] * 3
    (tmp_path / "COCO_val2017_detections_AP_H_56_person.json").write_text(json.dumps(detections))
    (tmp_path / "instances_val2017.json").write_text("never read: {")
    reports, absent = check_folder(tmp_path)
    assert [(r.kind, r.images, r.persons) for r in reports] == [("detections", 1, 3), ("COCO", 2, 1)]
    assert not any(r.faults for r in reports)
    assert [published.name.split()[0] for published in absent] == ["COCO", "MPII"]  # train2017 and MPII


def test_recognises_mpii_and_lsp(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="MATLAB files need SciPy")
    for folder, name in (("mpii/images", "a.jpg"), ("lsp/images", "im00001.jpg")):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / name), np.zeros((200, 200, 3), np.uint8))
    joints = np.random.default_rng(0).uniform(20, 150, (16, 2)).tolist()
    person = {"image": "a.jpg", "joints": joints, "joints_vis": [1] * 16, "center": [90, 90], "scale": 1.0}
    (tmp_path / "mpii" / "train.json").write_text(json.dumps([person, {**person, "image": "gone.jpg"}]))
    scipy_io.savemat(tmp_path / "lsp" / "joints.mat", {"joints": np.ones((14, 3, 1)) * 50})
    lsp, mpii = check_folder(tmp_path)[0]
    assert (lsp.kind, lsp.skeleton, lsp.persons, dict(lsp.faults)) == ("LSP", "lsp14", 1, {})
    assert (mpii.kind, mpii.skeleton, mpii.persons, mpii.images) == ("MPII", "mpii16", 2, 2)
    assert dict(mpii.faults) == {"missing image": 1}


def test_unreadable_files_are_findings_not_crashes(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"images": [')
    (tmp_path / "alone.json").write_text('{"images": [{"id": 1}], "annotations": []}')
    reports, _ = check_folder(tmp_path)
    assert [dict(report.faults) for report in reports] == [{"unreadable": 1}, {"unreadable": 1}]
    with pytest.raises(DataError, match="No folder"):
        check_folder(tmp_path / "nowhere")


def test_command_says_what_to_download_and_exits_with_1_on_faults(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco(PERSON)
    run = CliRunner().invoke
    result = run(app, ["data", "check", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert f"{path}: COCO, 2 images, 1 person of coco17" in result.output
    assert f"-> {tmp_path}/coco/train2017/" in result.output
    next((tmp_path / "images").iterdir()).unlink()
    found = tmp_path / "out" / "findings.json"
    result = run(app, ["data", "check", str(tmp_path), "--quick", "--json", str(found)])
    assert result.exit_code == 1
    assert "1 x missing image" in result.output
    assert json.loads(found.read_text())["sets"][0]["faults"] == {"missing image": 1}
    (tmp_path / "nothing").mkdir()
    assert run(app, ["data", "check", str(tmp_path / "nothing")]).exit_code == 1


def test_command_converts(write_coco: Any, tmp_path: Path) -> None:
    out = tmp_path / "crowd.json"
    result = CliRunner().invoke(
        app, ["data", "convert", str(write_coco(PERSON)), "--to", "crowdpose14", "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "1 person with crowdpose14" in result.output
    (record,) = json.loads(out.read_text())["annotations"]
    assert (len(record["keypoints"]), record["num_keypoints"]) == (42, 12)  # no head and neck in COCO


def test_converting_a_coco_file_keeps_pictures_crowds_and_ids(write_coco: Any, tmp_path: Path) -> None:
    source = write_coco(
        {"keypoints": [n for k in range(17) for n in (20 + k, 30 + k, 2)], "pseudo": [0, 5], "score": 0.9},
        {"image_id": 2, "bbox": [1, 1, 9, 9]},
        {"image_id": 2, "iscrowd": 1, "bbox": [0, 0, 50, 50], "segmentation": {"counts": [1], "size": [1, 1]}},
        {"image_id": 2, "category_id": 3, "bbox": [0, 0, 50, 50]},
        images=3,
        complete=True,
    )
    out = tmp_path / "deep" / "out.json"
    result = CliRunner().invoke(app, ["data", "convert", str(source), "--to", "crowdpose14", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "3 pictures, 1 person with" in result.output
    before, after = json.loads(source.read_text()), json.loads(out.read_text())
    assert [(i["id"], i["complete"]) for i in after["images"]] == [(i["id"], True) for i in before["images"]]
    assert all((out.parent / image["file_name"]).resolve().is_file() for image in after["images"])
    person, nobody, crowd = after["annotations"]
    assert [r["id"] for r in (person, nobody, crowd)] == [r["id"] for r in before["annotations"][:3]]
    assert person["pseudo"] == [0]  # the left shoulder; the nose is none of CrowdPose's
    assert person["keypoints"][:6] == [25, 35, 2, 26, 36, 2]
    assert (nobody["num_keypoints"], crowd["num_keypoints"], crowd["iscrowd"]) == (0, 0, 1)
    assert crowd["segmentation"] == before["annotations"][2]["segmentation"]
    assert person["score"] == 0.9


def test_pictures_may_lie_elsewhere(write_coco: Any, tmp_path: Path) -> None:
    source = write_coco(PERSON)
    content = json.loads(source.read_text())
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "mine.json").write_text(json.dumps(content))
    command = ["data", "check", str(tmp_path / "sets")]
    assert CliRunner().invoke(app, command).exit_code == 1
    assert CliRunner().invoke(app, [*command, "--images", str(tmp_path / "elsewhere")]).exit_code == 0


def test_pictures_are_named_through_links(write_coco: Any, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    out = tmp_path / "link" / "out.json"
    result = CliRunner().invoke(app, ["data", "convert", str(write_coco(PERSON)), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "deep" / "er" / json.loads(out.read_text())["images"][0]["file_name"]).resolve().is_file()


def test_finds_joints_in_other_units_than_the_boxes(write_coco: Any, tmp_path: Path) -> None:
    shares = {"keypoints": [0.3, 0.4, 2.0] * 17}
    write_coco(shares, shares, PERSON)
    (report,), _ = check_folder(tmp_path)
    assert dict(report.faults) == {"joints outside": 1}
    assert "of 2 of 3 persons no labelled joint lies in the box" in report.examples["joints outside"][0]
    write_coco(shares, PERSON)  # a slip of one record is none of the file
    assert not check_folder(tmp_path)[0][0].faults


def test_finds_a_file_whose_persons_are_of_another_category(write_coco: Any, tmp_path: Path) -> None:
    write_coco({**PERSON, "category_id": "1"})
    (report,), _ = check_folder(tmp_path)
    assert dict(report.faults) == {"nobody": 1}
    assert "Persons are those with category_id 1, as a number" in report.examples["nobody"][0]
    write_coco({"category_id": 1}, {"category_id": 2})  # boxes alone, for detectors
    assert not check_folder(tmp_path)[0][0].faults


@pytest.mark.parametrize(
    ("keypoints", "named"),
    [
        ([[30, 40, 2]] * 17, "is a list of lists; expected"),
        ([30, None, 2] * 17, "holds null"),
        ([30, 40, 2] * 16, "has 48 numbers; expected 51 finite ones"),
    ],
)
def test_says_what_is_wrong_with_keypoints(keypoints: Any, named: str, write_coco: Any, tmp_path: Path) -> None:
    write_coco(PERSON, {"keypoints": keypoints})
    (report,), _ = check_folder(tmp_path)
    assert f"'keypoints' {named}" in report.examples["annotation"][0]


def test_command_says_that_no_joints_change_places(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({"keypoints": [30.0, 40.0, 2.0] * 3})
    content = json.loads(path.read_text())
    remark = "None does: name left and right ones so"
    for names, said in (["1", "2", "3"], True), (["tip", "left_side", "right_side"], False):
        content["categories"][0]["keypoints"] = names
        path.write_text(json.dumps(content))
        result = CliRunner().invoke(app, ["data", "check", str(path)])
        assert (result.exit_code, remark in result.output) == (0, said), result.output
