"""Which skeleton recipes and annotation files mean."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from autopose.cli import app
from autopose.config import load_config
from autopose.data.coco import load_coco
from autopose.data.coco_file import read_coco
from autopose.data.conversion import load_native, write_coco
from autopose.data.preflight import check_folder
from autopose.data.skeletons import joints_to_resume, named_skeleton, open_skeleton, skeleton_of
from autopose.errors import DataError
from autopose.evaluation.coco import evaluate_keypoints
from autopose.genotype import Genotype
from autopose.skeleton import COCO17, MPII16
from autopose.training.config import TrainConfig
from autopose.training.dry_run import dry_run

JOINTS = ["Nose", "LWrist", "RWrist", "tail"]
CAT = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": [[1, 2], [1, 3]]}


@pytest.fixture
def cats(write_coco: Any) -> Path:
    """Annotations whose four joints no known skeleton has."""
    points = [20, 20, 2, 30, 40, 2, 50, 60, 1, 70, 50, 2]
    path: Path = write_coco({"keypoints": points}, {"keypoints": points, "image_id": 2})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": [CAT]}))
    return path.rename(path.with_name("cats.json"))


def test_a_name_a_description_or_annotations(cats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_skeleton("mpii16") is MPII16
    found = open_skeleton(str(cats))
    assert (found.name, found.joints) == ("cats", ("nose", "l_wrist", "r_wrist", "tail"))
    assert found.limbs == (("nose", "l_wrist"), ("nose", "r_wrist"))
    (tmp_path / "four.json").write_text(json.dumps({"joints": JOINTS, "sigmas": [0.1] * 4}))
    monkeypatch.setenv("AUTOPOSE_DATA", str(tmp_path))
    assert (open_skeleton("four.json").name, open_skeleton("four.json").sigmas) == ("four", (0.1,) * 4)
    with pytest.raises(DataError, match=r"Unknown skeleton 'five.json'. Known: coco17, .* JSON file"):
        open_skeleton("five.json")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"joints": ["a"]}')
    assert open_skeleton(str(path)).joints == ("a",)
    path.write_text('{"joints": ["a", "b"]}')
    assert open_skeleton(str(path)).joints == ("a", "b")
    before = joints_to_resume(str(path))
    path.write_text('{"joints": ["a", "b"], "pairs": [["a", "b"]]}')
    assert joints_to_resume(str(path)) != before
    assert not joints_to_resume("coco17")


def test_a_category_of_its_own_names_the_skeleton(cats: Path) -> None:
    content = json.loads(cats.read_text())
    cats.write_text(json.dumps(content | {"categories": [CAT | {"name": "Cat"}]}))
    skeleton = named_skeleton(cats)
    assert skeleton is not None
    assert skeleton.name == "cat"
    cats.write_text(json.dumps({"annotations": [], "categories": [{"id": 1, "keypoints": JOINTS}]}))
    assert open_skeleton(str(cats)).name == "cats"  # of a category without a name
    cats.write_text(json.dumps(content | {"categories": [CAT | {"keypoints": [*JOINTS, "neck"]}]}))
    with pytest.raises(DataError, match=r"cats.json: names 5 joints; .* have 12 numbers, expected 15"):
        named_skeleton(cats)
    cats.write_text(json.dumps(content | {"categories": []}))
    assert named_skeleton(cats) is None
    with pytest.raises(DataError, match=r"does not name its joints.\nList their names"):
        open_skeleton(str(cats))


def test_keypoints_of_another_category_do_not_count(cats: Path) -> None:
    content = json.loads(cats.read_text())
    hand = content["annotations"][0] | {"id": 9, "category_id": 2, "keypoints": [1, 1, 2] * 21}
    cats.write_text(json.dumps(content | {"annotations": [hand, *content["annotations"]]}))
    assert open_skeleton(str(cats)) == named_skeleton(cats) == skeleton_of(read_coco(cats))


def test_persons_are_read_written_and_scored(cats: Path, tmp_path: Path) -> None:
    skeleton = open_skeleton(str(cats))
    persons = load_native(cats)
    assert [person.skeleton for person in persons] == [skeleton] * 2
    np.testing.assert_array_equal(load_coco(cats, skeleton=skeleton)[0].keypoints, persons[0].keypoints)
    out = write_coco(persons, tmp_path / "again" / "other.json")
    assert named_skeleton(out) == skeleton
    cats.with_name("coco.json").write_text(
        json.dumps(json.loads(cats.read_text()) | {"categories": [CAT | {"keypoints": list(COCO17.joints)}]})
    )
    with pytest.raises(DataError, match=r"cats was asked for.\n.* --to SKELETON.json -o OUT.json"):
        load_coco(cats.with_name("coco.json"), skeleton=skeleton)
    with pytest.raises(DataError, match="its joint 1 is 'Nose'; mpii16 has 'right_ankle'"):
        load_coco(cats, skeleton=MPII16)
    with pytest.raises(DataError, match=r"cats.json: its joint 2 is 'LWrist'; coco17 has 'left_eye'"):
        load_coco(cats)
    results = [
        {"image_id": person.image_id, "category_id": 1, "score": 1.0,
         "keypoints": np.column_stack([person.keypoints, np.ones(4)]).ravel().tolist()}
        for person in persons
    ]  # fmt: skip
    assert evaluate_keypoints(results, cats, skeleton=skeleton)["AP"] == pytest.approx(1)


def test_files_of_a_folder_may_name_the_same_joints(cats: Path, tmp_path: Path) -> None:
    (cats.parent / "more.json").write_text(cats.read_text())
    persons = load_native(cats.parent)
    assert [person.skeleton.name for person in persons] == ["cats", "cats", "more", "more"]
    assert len(load_native(write_coco(persons, tmp_path / "again" / "all.json"))) == 4


def test_the_check_says_what_changes_places_in_a_mirror_image(cats: Path) -> None:
    (report,) = check_folder(cats, decode=False)[0]
    assert (report.skeleton, report.persons, dict(report.faults)) == ("cats", 2, {})
    assert report.joints == ("nose", "l_wrist/r_wrist", "tail")
    shown = CliRunner().invoke(app, ["data", "check", str(cats), "--quick"])
    assert shown.exit_code == 0, shown.output
    assert "mirror image: nose, l_wrist/r_wrist, tail" in shown.output


def test_a_recipe_learns_these_joints(cats: Path, tmp_path: Path) -> None:
    genotype = Genotype.load("small")
    sources = f'data.sources=[{{annotations="{cats}"}}]'
    settings = [f"skeleton={cats}", sources, "data.tune_share=0.9", "codec.input_size_wh=[64,64]", "codec.refine=oks"]
    config = load_config(TrainConfig, None, settings)
    assert config.codec.oks_sigmas == open_skeleton(str(cats)).sigmas
    figures = dry_run(genotype, config)
    assert (figures["skeleton"], figures["output"]) == ("cats", [4, 16, 16])
    checkpoint = Checkpoint(genotype, {}, skeleton=open_skeleton(str(cats)))
    save_checkpoint(tmp_path / "own.safetensors", checkpoint)
    assert load_checkpoint(tmp_path / "own.safetensors").skeleton == checkpoint.skeleton
    save_checkpoint(tmp_path / "coco.safetensors", Checkpoint(genotype, {}))
    assert load_checkpoint(tmp_path / "coco.safetensors").skeleton is COCO17
