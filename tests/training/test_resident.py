"""Crops painted by torch are those that OpenCV paints, for each thing that is varied."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autopose.affine import center_scale_from_box, crop_matrix, transform
from autopose.config import load_config
from autopose.data.augment import Augment
from autopose.data.crop_set import CropSet, read_crops
from autopose.data.pose_dataset import PoseDataset
from autopose.data.synthetic import write_synthetic
from autopose.errors import ConfigError, DataError, UsageError
from autopose.genotype import AutoPoseGenotype
from autopose.heatmap import Codec
from autopose.models.network import build_network
from autopose.poses import Person
from autopose.search.config import SearchConfig
from autopose.skeleton import COCO17
from autopose.training.config import TrainConfig
from autopose.training.crops_task import CropsTask, ResidentTask
from autopose.training.dry_run import dry_run
from autopose.training.loader import KeySampler, make_loader
from autopose.training.resident import DrawSource, Resident, collate_rows
from autopose.training.tasks import PoseTask, make_task
from autopose.training.trainer import train
from autopose.training.write_crops import write_crops_of

SIZE_WH = (64, 96)
COUNT = 24
#: Everything off but what moves the crop.
STILL = {"colour": 0, "grey": 0, "blur": 0, "jpeg": 0, "low_resolution": 0, "erase": 0, "neighbour": 0}
CPU = torch.device("cpu")


def recipe(annotations: Path, *more: str) -> TrainConfig:
    settings = (f'data.sources=[{{annotations="{annotations.as_posix()}"}}]', "data.tune_share=0.3", *more)
    return load_config(TrainConfig, None, [*settings, f"codec.input_size_wh=[{SIZE_WH[0]}, {SIZE_WH[1]}]"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("made"), images=24, seed=3, size_wh=(200, 160))


@pytest.fixture(scope="module")
def folder(made: Path) -> Path:
    write_crops_of(recipe(made), out := made.parent / "crops")
    return out


@pytest.fixture(scope="module")
def crops(folder: Path) -> CropSet:
    return read_crops(folder, "train", COCO17)


# The largest mean difference of a crop, and of the pixels that differ most. JPEG rounds to large steps: where a value
# lies between two, a thousandth decides.
@pytest.mark.parametrize(
    ("varied", "mean", "most"),
    [
        ({}, 0.05, 1),
        ({"low_resolution": 1}, 0.5, 2),
        ({"colour": 1, "grey": 0.2}, 1.0, 8),
        ({"blur": 1}, 0.3, 2),
        ({"jpeg": 1}, 2.5, 60),
        ({"neighbour": 1}, 0.1, 3),
        ({"low_resolution": 0.5, "colour": 0.5, "blur": 0.5, "neighbour": 0.5}, 1.0, 40),
    ],
    ids=str,
)
def test_painted_as_by_opencv(crops: CropSet, varied: dict[str, float], mean: float, most: int) -> None:
    codec, augment = Codec(input_size_wh=SIZE_WH), Augment.model_validate(STILL | varied)
    dataset = PoseDataset(crops.persons, codec, augment, crops)
    numbers = [number % len(dataset) for number in range(COUNT)]
    samples = [dataset.sample(i, np.random.default_rng([5, place])) for place, i in enumerate(numbers)]
    drawn = DrawSource(PoseDataset(crops.persons, codec, augment))  # without a reader of pictures
    rows = [drawn.sample(i, np.random.default_rng([5, place])) for place, i in enumerate(numbers)]
    painted, xy, weight = Resident(crops, CPU).paint(collate_rows(rows), SIZE_WH)
    np.testing.assert_array_equal(xy, np.stack([sample.xy for sample in samples]))
    np.testing.assert_array_equal(weight, np.stack([sample.weight for sample in samples]))
    difference = np.abs(painted.numpy().astype(int) - np.stack([sample.crop for sample in samples]))
    assert difference.mean((1, 2, 3)).max() < mean
    assert difference.max() <= most
    plain = PoseDataset(crops.persons, codec, Augment.model_validate(STILL), crops)
    if varied:  # or nothing was compared
        still = np.stack([plain.sample(i, np.random.default_rng([5, p])).crop for p, i in enumerate(numbers)])
        assert np.abs(painted.numpy().astype(int) - still).mean() > 2 * difference.mean()


def test_patches_hide_as_by_opencv(crops: CropSet) -> None:
    """Noise is noise of another kind, and so is what is copied from it: all else is equal."""
    codec, augment = Codec(input_size_wh=SIZE_WH), Augment.model_validate(STILL | {"erase": 1})
    dataset = PoseDataset(crops.persons, codec, augment, crops)
    resident, kinds = Resident(crops, CPU), set()
    for seed in range(40):
        look = dataset.draw(0, np.random.default_rng(seed)).look
        row = DrawSource(dataset).sample(0, np.random.default_rng(seed))
        painted = resident.paint(collate_rows([row]), SIZE_WH)[0][0].numpy().astype(int)
        expected = dataset.sample(0, np.random.default_rng(seed)).crop
        noise = [patch for patch in look.patches if patch.colour is None and patch.source_xy is None]
        kinds |= {(patch.colour is None, patch.source_xy is None) for patch in look.patches}
        if not noise:
            assert np.abs(painted - expected).max() <= 1
            continue
        last = noise[-1]
        if last is look.patches[-1] and last.w * last.h > 100:
            part = painted[last.y : last.y + last.h, last.x : last.x + last.w]
            assert abs(part.mean() - 127.5) < 25
            assert 60 < part.std() < 90  # of evenly spread numbers it is 73.9
            assert len(np.unique(part)) > 60
    assert len(kinds) == 3


def test_training_is_the_same_from_photographs_and_from_crops(
    made: Path, folder: Path, tiny: AutoPoseGenotype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same persons are drawn and held out, and the same mistakes score the same, in the photographs' frames."""
    whole = make_task(recipe(made), tiny, tmp_path, CPU)
    cut = make_task(recipe(made, f'data.crops="{folder.as_posix()}"'), tiny, tmp_path, CPU)
    assert type(cut) is CropsTask
    assert isinstance(whole, PoseTask)
    sets = []
    for task in (whole, cut):
        assert isinstance(task.source, PoseDataset)
        sets.append([{(p.image_id, p.annotation_id) for p in group} for group in (task.source.persons, task.held_out)])
    assert sets[0] == sets[1]
    assert whole.weights.sum() == cut.weights.sum()
    figures = []
    for task in (whole, cut):
        monkeypatch.setattr(task, "predictor", lambda _, persons=task.held_out: Told(persons))
        figures.append(task.evaluate(build_network(tiny, 17)))
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)
    assert 0 < figures[0]["AP"] < 1


class Told:
    """Finds the persons in their order, each with mistakes of its own, in pixels of the crop."""

    def __init__(self, persons: Sequence[Person]) -> None:
        self.persons = iter(persons)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found = []
        for _, person in zip(images, self.persons, strict=False):
            center, region = center_scale_from_box(person.box_xyxy, SIZE_WH[0] / SIZE_WH[1])
            wrong = np.random.default_rng(person.annotation_id).normal(0, 2, (17, 2))
            found.append(transform(person.keypoints, crop_matrix(center, region, SIZE_WH)) + wrong)
        return np.nan_to_num(np.stack(found)), np.ones((len(images), 17))


def test_resident_batches_give_the_loss_of_the_painted_ones(
    made: Path, folder: Path, tiny: AutoPoseGenotype, tmp_path: Path
) -> None:
    """Loader, collation, loss, and a step in half precision that must not reach the painting."""
    config = recipe(made, f'data.crops="{folder.as_posix()}"', "augment.colour=0", "augment.erase=0", "augment.jpeg=0")
    tasks = [CropsTask(config, tmp_path, CPU), ResidentTask(config, tmp_path, CPU)]
    network = build_network(tiny, 17).eval()
    losses = []
    for task in tasks:
        sampler = KeySampler(task.weights, 6, seed=1, start=0, stop=2)
        batches = list(make_loader(task.source, sampler, task.collate, workers=1))
        with torch.autocast("cpu", torch.bfloat16):
            losses.append([task.loss(network, batch).item() for batch in batches])
    np.testing.assert_allclose(losses[1], losses[0], rtol=5e-3)


def test_a_run_from_crops(made: Path, folder: Path, tiny: AutoPoseGenotype, tmp_path: Path) -> None:
    more = ("train.steps=2", "train.batch=4", "train.eval_every=2", f'data.crops="{folder.as_posix()}"')
    config = recipe(Path("nowhere.json"), *more)  # sources are not looked for
    assert train(tiny, config, tmp_path / "run").name == "best.safetensors"
    rehearsed = dry_run(tiny, config)
    assert rehearsed["problems"] == []
    assert rehearsed["samples"] == len(read_crops(folder, "train", COCO17).persons)
    missing = dry_run(tiny, recipe(made, 'data.crops="nowhere"'))
    assert "holds no train-00.safetensors" in missing["problems"][0]
    larger = dry_run(tiny, recipe(made, *more).model_copy(update={"codec": Codec(input_size_wh=(96, 128))}))
    assert "cut for inputs of 64x96; the recipe has 96x128" in larger["problems"][0]


@pytest.mark.parametrize("id_of", ["picture-{}".format, "{:06}".format, lambda number: 2**63 + number])
def test_pictures_may_be_known_by_any_id(
    made: Path, tiny: AutoPoseGenotype, tmp_path: Path, id_of: Callable[[int], str | int]
) -> None:
    """The regular training takes them, too. What is carried tells no folder of this machine."""
    content = json.loads(made.read_text())
    for image in content["images"]:
        image |= {"id": id_of(image["id"]), "file_name": str(made.parent / image["file_name"])}
    for record in content["annotations"]:
        record["image_id"] = id_of(record["image_id"])
    (tmp_path / "named.json").write_text(json.dumps(content))
    write_crops_of(recipe(tmp_path / "named.json"), tmp_path / "crops")
    task = make_task(recipe(made, f'data.crops="{(tmp_path / "crops").as_posix()}"'), tiny, tmp_path, CPU)
    assert isinstance(task, CropsTask)
    assert b"/" not in task.tune_crops.coco
    task.evaluate(build_network(tiny, 17))


def test_a_run_goes_on_with_its_own_crops_only(
    made: Path, folder: Path, tiny: AutoPoseGenotype, tmp_path: Path
) -> None:  # fmt: skip
    """As many other persons to be scored on are other data."""
    crops, more = tmp_path / "crops", ("train.steps=4", "train.batch=4", "train.eval_every=4", "train.save_every=2")
    shutil.copytree(folder, crops)
    config = recipe(made, *more, f'data.crops="{crops.as_posix()}"')
    train(tiny, config, tmp_path / "run", max_seconds=0)
    shutil.rmtree(crops)
    other = write_synthetic(tmp_path / "other", images=24, seed=4, size_wh=(200, 160))
    write_crops_of(recipe(made, f'data.tune_annotations="{other.as_posix()}"'), crops)
    with pytest.raises(UsageError, match="the data have changed"):
        train(tiny, config, tmp_path / "run", resume=True)


def test_a_gpu_too_small_for_them_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller batch, which what is said of a full GPU elsewhere advises, would not help."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("autopose.training.crops_task.Resident", full)
    config = recipe(Path("nowhere.json"), f'data.crops="{folder.as_posix()}"')
    with pytest.raises(DataError, match=r"training pictures take \d\.\d GB decoded, which do not fit .* of cpu"):
        ResidentTask(config, tmp_path, CPU)


def test_what_crops_are_not_for_is_told(made: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="holds crops already"):
        write_crops_of(recipe(made), folder)
    with pytest.raises(UsageError, match="Crops are of persons"):
        write_crops_of(recipe(made, "task=detector"), made.parent / "none")
    with pytest.raises(ConfigError, match="a detector learns from whole photographs"):
        recipe(made, "task=detector", "data.crops=crops")
    with pytest.raises(ConfigError, match="a search reads photographs"):
        load_config(SearchConfig, "smoke", ["data.crops=crops"], group="search")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        write_crops_of(recipe(Path("nowhere.json")), made.parent / "none")
