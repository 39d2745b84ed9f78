"""The tune split: found where the training images are, and only of files that can be split."""

import json
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.errors import ConfigError, DataError
from autopose.evaluation.coco import evaluate_boxes
from autopose.skeleton import COCO17
from autopose.training.config import Source, TrainConfig
from autopose.training.sources import (
    _asked_for,
    detector_scenes,
    find_annotations,
    in_tune,
    name_for_split,
    persons_of_scenes,
    pose_persons,
    with_ignored_regions,
    write_detector_tune_split,
    write_tune_split,
)


def _config(annotations: Path, *more: str) -> TrainConfig:
    settings = [f'data.sources=[{{annotations="{annotations}"}}]', "data.tune_share=0.3", *more]
    return load_config(TrainConfig, None, settings)


def _figures_and_boxes(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Return annotations of 24 drawn pictures, those without the joints, and what the former hold."""
    made = write_synthetic(folder / "made", images=24, seed=0, size_wh=(64, 64))
    content = json.loads(made.read_text())
    boxes = [{key: record[key] for key in ("id", "image_id", "bbox")} for record in content["annotations"]]
    alone = made.parent / "boxes.json"
    alone.write_text(json.dumps(content | {"annotations": boxes}))
    return made, alone, content


@pytest.mark.parametrize("pictures", ["train2017", "images/train2017", "images"])
def test_the_tune_split_finds_pictures_where_training_does(tmp_path: Path, pictures: str) -> None:
    made = write_synthetic(tmp_path / "made", images=12, seed=0, size_wh=(64, 64))
    content = json.loads(made.read_text())
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / pictures).mkdir(parents=True)
    for image in content["images"]:
        source = made.parent / image["file_name"]
        image["file_name"] = source.name
        source.rename(tmp_path / "coco" / pictures / source.name)
    annotations = tmp_path / "coco" / "annotations" / "person_keypoints_train2017.json"
    annotations.write_text(json.dumps(content))
    config = _config(annotations)
    trained = {person.image_path for person in pose_persons(config, COCO17, tmp_path)}
    tune = json.loads(write_tune_split(config, tmp_path).read_text())
    held_out = {Path(image["file_name"]) for image in tune["images"]}
    assert held_out
    assert all(path.is_file() for path in held_out)
    assert not held_out & trained
    assert {record["image_id"] for record in tune["annotations"]} <= {image["id"] for image in tune["images"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("joints.mat", ""),
        ("ochuman.json", '{"keypoint_names": [], "keypoint_visible": []}'),
        ("train.json", '[{"joints'),
    ],
)
def test_other_formats_are_converted_first(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"autopose data convert .*{name}"):
        write_tune_split(_config(tmp_path / name), tmp_path)


def test_a_namesake_in_the_current_folder_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("data", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.json").write_text("{}")
    monkeypatch.setenv("AUTOPOSE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path / "here")
    for _ in range(3):
        assert find_annotations("mine.json", 0, tmp_path) == tmp_path / "data" / "mine.json"
    assert len(caplog.messages) == 1
    assert "AUTOPOSE_DATA goes first" in caplog.text
    monkeypatch.setenv("AUTOPOSE_DATA", ".")
    assert find_annotations("mine.json", 0, tmp_path).samefile("mine.json")
    assert len(caplog.messages) == 1


def test_frames_of_one_video_stay_together(tmp_path: Path) -> None:
    """Neighbouring frames resemble each other: with some in either part the tune figure would be of what was learnt."""
    made = write_synthetic(tmp_path / "made", images=24, seed=0, size_wh=(64, 64))
    content = json.loads(made.read_text())
    for number, image in enumerate(content["images"]):
        name = f"clip{number // 3}/{number % 3:06d}.jpg"
        (made.parent / name).parent.mkdir(exist_ok=True)
        (made.parent / image["file_name"]).rename(made.parent / name)
        image["file_name"] = name
    made.write_text(json.dumps(content))
    config = _config(made)
    trained = {person.image_path.parent.name for person in pose_persons(config, COCO17, tmp_path)}
    tune = json.loads(write_tune_split(config, tmp_path).read_text())
    held_out = {Path(image["file_name"]).parent.name for image in tune["images"]}
    assert held_out
    assert trained
    assert not held_out & trained
    assert len(tune["images"]) == 3 * len(held_out)


def test_several_persons_in_a_picture_are_no_video() -> None:
    group = [Path(f"images/{number}.jpg") for number in range(3)]
    assert name_for_split(group * 2)(group[0]) == "0.jpg"
    assert name_for_split([*group, *(Path("b") / path.name for path in group)])(group[0]) == "images"


def test_a_source_keeps_who_it_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, content = _figures_and_boxes(tmp_path)
    for record in content["annotations"]:
        record["pseudo"] = [0]
    (made.parent / "images").rename(made.parent / "pictures")
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    made.write_text(json.dumps(content))
    monkeypatch.setenv("AUTOPOSE_DATA", str(tmp_path))
    monkeypatch.chdir(made.parent)

    def sources(*more: str) -> TrainConfig:
        fields = ", ".join(['annotations="made/annotations.json"', 'images="made/pictures"', *more])
        return load_config(
            TrainConfig, None, [f"data.sources=[{{{fields}}}]", "data.tune_share=0.3", "data.pseudo_weight=0.5"]
        )

    everybody = pose_persons(sources(), COCO17, tmp_path)
    assert all(person.image_path.is_file() for person in everybody)
    assert {float(person.weight[0]) for person in everybody} == {0.5}
    counts = sorted(int((person.weight > 0).sum()) for person in everybody)
    middle = counts[len(counts) // 2]
    assert counts[0] < middle
    some = pose_persons(sources(f"min_keypoints={middle}"), COCO17, tmp_path)
    assert len(some) == sum(count >= middle for count in counts)
    named = 'contains="1.jpg"'
    for found in (pose_persons(sources(named), COCO17, tmp_path), detector_scenes(sources(named), tmp_path)):
        assert 0 < len(found) < len(counts)
        assert all(str(each.image_path).endswith("1.jpg") for each in found)


def test_a_source_of_boxes_that_show_nobody(tmp_path: Path) -> None:
    made, boxes, _ = _figures_and_boxes(tmp_path)
    sources = f'[{{annotations="{made}"}}, {{annotations="{boxes}", nobody=true, repeat=2}}]'
    config = load_config(TrainConfig, None, [f"data.sources={sources}", "data.tune_share=0.3"])
    persons = pose_persons(config, COCO17, tmp_path)
    nobody = [person for person in persons if np.isnan(person.keypoints).any()]
    assert len(nobody) == len(persons) - len(nobody)  # nobody is labelled twice, and the same images are held out
    assert {person.image_path for person in nobody} == {person.image_path for person in persons}
    assert {person.weight_sample for person in nobody} == {2}


def test_a_detector_gets_persons_to_paint_from_its_own_photographs(tmp_path: Path) -> None:
    """Those of the pictures that are learnt from, as often as their source says; a source of boxes has none."""
    made, boxes, content = _figures_and_boxes(tmp_path)
    sources = f'[{{annotations="{boxes}"}}, {{annotations="{made}", repeat=2}}]'
    config = load_config(TrainConfig, None, ["task=detector", f"data.sources={sources}", "data.tune_share=0.3"])
    scenes = detector_scenes(config, tmp_path)
    persons = persons_of_scenes(config, scenes, tmp_path)
    held = {path for path in (made.parent / "images").iterdir() if in_tune(path.name, 0.3)}
    assert held
    assert {person.image_path for person in persons} == {scene.image_path for scene in scenes if len(scene.boxes)}
    assert not held & {person.image_path for person in persons}
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    assert len(persons) == sum(not in_tune(names[each["image_id"]], 0.3) for each in content["annotations"])
    assert {person.weight_sample for person in persons} == {2}


def test_a_detector_has_no_use_for_boxes_that_show_nobody() -> None:
    sources = '[{annotations="a.json"}, {annotations="nobody.json", nobody=true}]'
    settings = ["task=detector", f"data.sources={sources}"]
    with pytest.raises(ConfigError, match=r"^configuration: source 'nobody\.json' has nobody = true, which"):
        load_config(TrainConfig, None, settings)


def test_a_packaged_recipe_takes_other_files(tmp_path: Path) -> None:
    made = write_synthetic(tmp_path / "made", images=40, seed=0, size_wh=(64, 64))
    config = load_config(TrainConfig, "small", [f'data.sources=[{{annotations="{made}"}}]'], group="train")
    assert pose_persons(config, COCO17, tmp_path)
    assert json.loads(write_tune_split(config, tmp_path).read_text())["images"]


def test_unlabelled_frames_count_for_both_parts(tmp_path: Path) -> None:
    """Whether names or folders tell pictures apart is decided by all of them, not by the labelled ones of one part."""
    made = write_synthetic(tmp_path / "made", images=40, seed=0, size_wh=(64, 64))
    content = json.loads(made.read_text())
    images = []
    for number, image in enumerate(content["images"]):  # one labelled frame of each clip, each of another number
        folder = made.parent / f"clip{number}"
        folder.mkdir()
        pixels = (made.parent / image["file_name"]).read_bytes()
        image["file_name"] = f"clip{number}/{100 + number:06d}.jpg"
        (made.parent / image["file_name"]).write_bytes(pixels)
        images.append(image)
        for frame in range(5):
            name = f"clip{number}/{frame:06d}.jpg"
            images.append({**image, "id": 1000 + 10 * number + frame, "file_name": name})
    made.write_text(json.dumps(content | {"images": images}))
    config = _config(made)
    trained = {person.image_path.parent.name for person in pose_persons(config, COCO17, tmp_path)}
    tune = json.loads(write_tune_split(config, tmp_path).read_text())
    held_out = {Path(image["file_name"]).parent.name for image in tune["images"]}
    assert len(trained) + len(held_out) == 40
    assert not trained & held_out


def test_the_tune_split_shows_persons(tmp_path: Path) -> None:
    made = write_synthetic(tmp_path / "made", images=24, seed=0, size_wh=(64, 64))
    sources = f'[{{annotations="nobody.json", nobody=true}}, {{annotations="{made}"}}]'
    config = load_config(TrainConfig, None, [f"data.sources={sources}", "data.tune_share=0.3"])
    assert json.loads(write_tune_split(config, tmp_path).read_text())["annotations"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.sources=[]", r"data\.sources.*at least 1"),
        ('data.sources=[{annotations="a.json", nobody=true}]', "nobody to learn from"),
        ("train.betas=[1.5,0.9]", r"train\.betas"),
        ("train.milestones=[170, 200]", r"train\.milestones"),  # they are fractions, no epochs
        ("train.gamma=-0.1", r"train\.gamma"),
        ('data.sources=[{annotations="a.json", repeat=inf}]', r"data\.sources\.0\.repeat.* finite number"),
        ("train.gamma=nan", r"train\.gamma.* finite number"),
        ("train.milestones=[0.5, inf]", r"train\.milestones.* finite number"),
        ("augment.rotation_deg=inf", r"augment\.rotation_deg.* finite number"),
        ("scene_augment.stretch=inf", r"scene_augment\.stretch.* finite number"),
    ],
)
def test_refuses_what_cannot_be_trained(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_config(TrainConfig, None, [setting])


def test_a_detectors_tune_split_ignores_what_training_ignores(tmp_path: Path) -> None:
    """A detector that finds every box that is learnt, and persons where nothing is known, is perfect."""
    boxes: list[tuple[list[int], dict[str, Any]]] = [
        ([10, 10, 20, 40], {"score": 0.9}),
        ([60, 10, 10, 30], {"score": 0.1}),
        ([40, 10, 10, 30], {"iscrowd": 1}),
    ]
    content = {
        "images": [
            {"id": 1, "file_name": "1.png", "width": 100, "height": 80},
            {"id": 2, "file_name": "2.png", "width": 100, "height": 80, "complete": False},
        ],
        "annotations": [
            {"id": n, "image_id": 1 + n // 3, "category_id": 1, "bbox": box, **fields}
            for n, (box, fields) in enumerate([*boxes, ([10, 10, 20, 40], {})])
        ],
    }
    (split := tmp_path / "split.json").write_text(json.dumps(content))
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((80, 100, 3), np.uint8))
    (tune := tmp_path / "tune.json").write_text(json.dumps(with_ignored_regions(split)))
    found = [(1, [10, 10, 20, 40]), (1, [60, 10, 10, 30]), (2, [10, 10, 20, 40]), (2, [70, 10, 20, 40])]
    results = [{"image_id": image, "score": 0.9, "bbox": box} for image, box in found]
    assert evaluate_boxes(results, tune)["AP50"] == pytest.approx(1)
    assert evaluate_boxes([*results, {"image_id": 1, "score": 0.95, "bbox": [0, 60, 20, 20]}], tune)["AP50"] < 1


def test_a_process_that_is_a_step_behind_does_not_disturb_the_tune_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, boxes, _ = _figures_and_boxes(tmp_path)
    config, run = _config(boxes, "task=detector"), tmp_path / "run"
    alone = write_detector_tune_split(config, tmp_path / "other").read_text()

    def behind(split: Path) -> dict[str, Any]:
        monkeypatch.undo()
        write_detector_tune_split(config, run)
        return with_ignored_regions(split)

    monkeypatch.setattr("autopose.training.sources.with_ignored_regions", behind)
    assert write_detector_tune_split(config, run).read_text() == alone
    assert [path.name for path in run.iterdir()] == ["tune.json"]


def test_frames_that_nobody_annotated_are_in_neither_part(tmp_path: Path) -> None:
    """And yet they decide with the others whether pictures are told apart by their folders."""
    made, _, content = _figures_and_boxes(tmp_path)
    for number, image in enumerate(content["images"]):
        name = f"clip{number // 3}/{number % 3:06d}.jpg"
        (made.parent / name).parent.mkdir(exist_ok=True)
        (made.parent / image["file_name"]).rename(made.parent / name)
        image.update(file_name=name, is_labeled=number % 3 == number // 3 % 3)  # one of three, of different numbers
    made.write_text(json.dumps(content))
    config = _config(made, "task=detector")
    trained = [scene.image_path for scene in detector_scenes(config, tmp_path)]
    held_out = [
        Path(image["file_name"]) for image in json.loads(write_tune_split(config, tmp_path).read_text())["images"]
    ]
    assert len(trained) + len(held_out) == 8
    assert {path.parent.name for path in held_out} == {f"clip{n}" for n in range(8) if in_tune(f"clip{n}", 0.3)}
    assert held_out
    assert not {path.parent.name for path in held_out} & {path.parent.name for path in trained}


def test_paths_of_windows_are_filtered_by_slashes() -> None:
    where: Any = SimpleNamespace(image_path=PureWindowsPath(r"D:\data\coco\train2017\1.jpg"), weight=np.ones(17))
    assert _asked_for(where, Source(annotations="a.json", contains="coco/train2017"))
    assert not _asked_for(where, Source(annotations="a.json", contains="coco/val2017"))
