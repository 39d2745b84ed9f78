"""A tune split that cannot be scored is found before the first step, not at the first evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autopose.config import load_config
from autopose.data.coco_file import read_coco
from autopose.data.conversion import convert_coco
from autopose.data.detection_dataset import DetectionSample
from autopose.data.images import DiskReader, PackedReader, pack_images
from autopose.data.synthetic import write_synthetic
from autopose.errors import DataError
from autopose.genotype import AutoPoseGenotype
from autopose.models.network import build_network
from autopose.skeleton import CROWDPOSE14
from autopose.training.config import TrainConfig
from autopose.training.sources import image_reader, in_tune, tune_reader
from autopose.training.tasks import DetectorTask, PoseTask, Task, make_task


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write_synthetic(tmp_path / "made", images=24, seed=3, size_wh=(64, 64))


@pytest.fixture
def detector(tiny: AutoPoseGenotype) -> AutoPoseGenotype:
    return tiny.model_copy(update={"head": "center", "head_channels": 8, "head_stride": 8})


def task_of(made: Path, genotype: AutoPoseGenotype, tune: Path | None = None, *more: str) -> Task:
    """Return the task of the drawn figures, scored on a file of their pictures."""
    settings = [f'data.sources=[{{annotations="{made}"}}]', "data.tune_share=0.3", *more]
    settings += [] if tune is None else [f"data.tune_annotations={tune}"]
    settings += ["task=detector"] if genotype.is_detector else []
    config = load_config(TrainConfig, None, settings)
    (made.parent / "run").mkdir(exist_ok=True)
    return make_task(config, genotype, made.parent / "run", torch.device("cpu"))


def changed(made: Path, **fields: Any) -> Path:
    path = made.parent / "tune-of-mine.json"
    path.write_text(json.dumps(json.loads(made.read_text()) | fields))
    return path


def test_refuses_to_be_scored_on_nobody(made: Path, tiny: AutoPoseGenotype, detector: AutoPoseGenotype) -> None:
    tune = changed(made, annotations=[])
    with pytest.raises(DataError, match=r"tune-of-mine\.json: no person with joints is in the tune split, and none"):
        task_of(made, tiny, tune)
    with pytest.raises(DataError, match=r"tune-of-mine\.json: no person's box is in the tune split, and none"):
        task_of(made, detector, tune)


def test_errors_name_the_users_file(made: Path, tiny: AutoPoseGenotype) -> None:
    content = json.loads(made.read_text())
    for record in content["annotations"]:
        record["keypoints"] = record["keypoints"][:42]
    category = {"id": 1, "name": "person", "keypoints": list(CROWDPOSE14.joints)}
    for categories, message in (([category], "has the joints of crowdpose14"), ([], "has 42 numbers; expected 51")):
        tune = changed(made, annotations=content["annotations"], categories=categories)
        with pytest.raises(DataError, match=rf"tune-of-mine\.json: .*{message}"):
            task_of(made, tiny, tune)


@pytest.mark.parametrize("kind", ["pose", "detector"])
def test_refuses_missing_tune_pictures(
    made: Path, tiny: AutoPoseGenotype, detector: AutoPoseGenotype, kind: str
) -> None:
    genotype = tiny if kind == "pose" else detector
    task = task_of(made, genotype)
    assert isinstance(task, PoseTask | DetectorTask)
    assert isinstance(task.tune_reader, DiskReader)
    held_out = [path for path in sorted((made.parent / "images").iterdir()) if in_tune(path.name, 0.3)]
    for path in held_out[-2:]:
        path.unlink()
    message = r"annotations\.json: {} of the tune split's pictures are missing, .*{}"
    with pytest.raises(DataError, match=message.format(2, held_out[-2].name)):
        task_of(made, genotype)
    for path in held_out[:-2]:
        path.unlink()
    with pytest.raises(DataError, match=message.format(len(held_out), held_out[0].name)):
        task_of(made, genotype)


def test_tune_pictures_may_be_in_the_pack(made: Path, tmp_path: Path) -> None:
    pictures = sorted((made.parent / "images").iterdir())
    reader = PackedReader(pack_images(pictures, tmp_path / "all.pack"))
    pictures[-1].unlink()
    config = load_config(TrainConfig, None, [f'data.sources=[{{annotations="{made}"}}]'])
    assert tune_reader(config, reader, pictures) is reader
    # A pack that training made holds the pictures that it learns from: the others are read from their files.
    part = PackedReader(pack_images(pictures[:5], tmp_path / "part.pack"))
    assert isinstance(tune_reader(config, part, pictures[5:-1]), DiskReader)
    with pytest.raises(DataError, match="1 of the tune split's pictures are missing"):
        tune_reader(config, part, pictures)


def test_of_two_processes_the_second_waits_for_the_firsts_pack(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = sorted((made.parent / "images").iterdir())
    pack = tmp_path / "both.pack"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("autopose.training.sources.pack_images", None)  # the first one's to call
    monkeypatch.setattr("autopose.training.sources.wait", lambda: pack_images(pictures, pack))
    reader = image_reader(str(pack), pictures)
    assert isinstance(reader, PackedReader)
    assert all(picture in reader for picture in pictures)


def test_scores_are_computed_as_the_recipe_says(
    made: Path, tiny: AutoPoseGenotype, detector: AutoPoseGenotype
) -> None:  # fmt: skip
    def kinds(genotype: AutoPoseGenotype, *more: str) -> list[torch.dtype]:
        network, found = build_network(genotype, 17), []
        network.register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
        task_of(made, genotype, None, "codec.input_size_wh=[96, 96]", *more).evaluate(network)
        return found

    for genotype, passes in ((tiny, 2), (detector, 1)):
        plain = kinds(genotype)
        assert set(plain) == {torch.float32}
        mirrored = kinds(genotype, "train.amp=bf16", "train.flip_eval=true")
        assert mirrored == [torch.bfloat16] * passes * len(plain)


def test_scores_are_of_the_recipes_skeleton(made: Path, tiny: AutoPoseGenotype) -> None:
    other = made.with_name("crowdpose.json")
    convert_coco(read_coco(made), CROWDPOSE14, other)
    task = task_of(other, tiny, None, "skeleton=crowdpose14", "codec.input_size_wh=[64, 64]")
    assert 0 <= task.evaluate(build_network(tiny, 14))["AP"] <= 1


def test_sources_are_drawn_as_often_as_they_say(
    made: Path, tiny: AutoPoseGenotype, detector: AutoPoseGenotype
) -> None:  # fmt: skip
    (made.parent / "b").mkdir()
    other = write_synthetic(made.parent / "b", images=24, seed=4, size_wh=(64, 64))
    sources = f'data.sources=[{{annotations="{made}", repeat=0.5}}, {{annotations="{other}", repeat=3}}]'
    for genotype in (tiny, detector):
        weights = task_of(made, genotype, None, sources).weights.tolist()
        assert weights == sorted(weights)
        assert set(weights) == {0.5, 3}


def test_the_checksum_is_of_both_parts(made: Path, tiny: AutoPoseGenotype, detector: AutoPoseGenotype) -> None:
    content = json.loads(made.read_text())
    held_out = {image["id"] for image in content["images"] if in_tune(image["file_name"], 0.3)}
    shown = {record["image_id"] for record in content["annotations"]}
    for genotype in (tiny, detector):
        known = task_of(made, genotype).data
        assert task_of(made, genotype).data == known
        for part in (held_out, shown - held_out):
            gone = max(part & shown)
            tune = changed(
                made,
                images=[image for image in content["images"] if image["id"] != gone],
                annotations=[record for record in content["annotations"] if record["image_id"] != gone],
            )
            assert task_of(tune, genotype).data != known
    pasting = task_of(made, detector, None, "scene_augment.paste=0.5").data
    for record in content["annotations"]:
        record["pseudo"] = [0]  # which is nothing to a detector, but to the persons who are painted
    made.write_text(json.dumps(content))
    assert task_of(made, detector, None, "scene_augment.paste=0.5").data != pasting


def test_a_detectors_batch_has_one_tensor() -> None:
    """Each that comes from a loader process takes a file handle, of which 1024 are usual."""
    boxes = np.zeros((2, 4), np.float32)
    sample = DetectionSample(np.zeros((8, 8, 3), np.uint8), boxes, boxes[:, 0], boxes[:0])
    _, *lists = DetectorTask.collate([sample] * 3)
    assert [[type(item) for item in items] for items in lists] == [[np.ndarray] * 3] * 3
