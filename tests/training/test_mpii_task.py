"""Training and scoring on MPII's formats: a network is transferred, held-out persons are scored by PCKh."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from autopose.checkpoint import load_checkpoint
from autopose.cli import app
from autopose.config import load_config
from autopose.data.images import DiskReader
from autopose.data.mpii import load_mpii
from autopose.errors import DataError
from autopose.genotype import AutoPoseGenotype
from autopose.training.config import TrainConfig
from autopose.training.sources import pose_persons
from autopose.training.trainer import train

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The common JSON with pictures in ``images`` above, as HRNet lays MPII out."""
    folder = tmp_path_factory.mktemp("mpii")
    (folder / "annot").mkdir()
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    records = []
    for number in range(12):
        cv2.imwrite(str(folder / f"images/{number}.png"), rng.integers(0, 255, (120, 160, 3), np.uint8))
        records.append(
            {
                "image": f"{number}.png", "joints": rng.uniform(20, 100, (16, 2)).round(1).tolist(),
                "joints_vis": [1] * 16, "center": [60.0, 60.0], "scale": 0.5,
            }
        )  # fmt: skip
    path = folder / "annot" / "train.json"
    path.write_text(json.dumps(records))
    return path


def _config(path: Path, *more: str) -> TrainConfig:
    base = [
        f'data.sources=[{{annotations="{path}"}}]', "skeleton=mpii16", "data.workers=0", "data.tune_share=0.3",
        "codec.input_size_wh=[64, 64]", "codec.sigma=1.5", "train.batch=4", "train.steps=2", "train.warmup_steps=1",
        "train.eval_every=2", "train.save_every=2",
    ]  # fmt: skip
    return load_config(TrainConfig, None, [*base, *more])


def test_a_genotype_is_trained_on_mpii_and_scored_by_pckh(common: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    best = load_checkpoint(train(tiny, _config(common), tmp_path / "run"))
    assert best.skeleton.name == "mpii16"
    assert len(best.metrics) == 2 * 8 + 1  # two rows of the published table, and the step
    assert 0 <= best.metrics["PCKh-segment@0.5"] <= 100
    out = tmp_path / "figures.json"
    result = CliRunner().invoke(app, ["eval", str(tmp_path / "run"), str(common), "--task", "pck", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "Shoulder" in result.output
    assert 0 <= json.loads(out.read_text())["PCKh-segment@0.5"] <= 100


def test_tune_persons_are_not_trained_on(common: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    from autopose.skeleton import MPII16
    from autopose.training.mpii_task import MpiiTask
    from autopose.training.tasks import make_task

    config = _config(common)
    import torch

    task = make_task(config, tiny, tmp_path, torch.device("cpu"))
    assert isinstance(task, MpiiTask)
    trained = {person.image_path for person in pose_persons(config, MPII16, tmp_path)}
    held_out = {person.image_path for person in task.held_out}
    assert trained
    assert held_out
    assert not trained & held_out
    assert len(trained | held_out) == 12


def test_relative_paths_are_looked_up_in_the_data_folder(common: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autopose.skeleton import MPII16

    monkeypatch.setenv("AUTOPOSE_DATA", str(common.parent.parent))
    config = _config(Path("annot/train.json"))
    source = config.data.sources[0].model_copy(update={"images": "images"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"sources": (source,)})})
    persons = pose_persons(config, MPII16, common.parent)
    assert DiskReader().read(persons[0].image_path).shape == (120, 160, 3)


def _results(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "image_id": person.image_id,
            "score": 1.0,
            "keypoints": np.column_stack([person.keypoints, np.ones(16)]).ravel().tolist(),
        }
        for person in load_mpii(path)
    ]


def test_results_of_the_truth_are_100_on_the_command_line(common: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(_results(common)))
    out = tmp_path / "figures.json"
    arguments = ["eval", str(tmp_path / "results.json"), str(common), "--task", "pck", "--json", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert set(json.loads(out.read_text()).values()) == {100.0}
    assert result.output.count("100.0") == 16


def test_refuses_oks_on_mpii_and_coco_joints(common: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    (tmp_path / "results.json").write_text("[]")
    result = CliRunner().invoke(app, ["eval", str(tmp_path / "results.json"), str(common)])
    assert result.exit_code != 0
    assert "--task pck" in str(result.exception) + result.output
    with pytest.raises(DataError, match="mpii16"):
        train(tiny, _config(common, "skeleton=coco17"), tmp_path / "run")
