"""The tune split: found where the training images are, and only of files that can be split."""

import json
from pathlib import Path

import pytest

from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.errors import DataError
from autopose.skeleton import COCO17
from autopose.training.config import TrainConfig
from autopose.training.sources import pose_persons, write_tune_split


def _config(annotations: Path, *more: str) -> TrainConfig:
    settings = [f'data.sources=[{{annotations="{annotations}"}}]', "data.tune_share=0.3", *more]
    return load_config(TrainConfig, None, settings)


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
