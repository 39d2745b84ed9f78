"""Learning from a teacher's maps: the loss by hand, a student that becomes its teacher, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.errors import AutoposeError, ConfigError, ModelError
from autopose.genotype import AutoPoseGenotype
from autopose.heatmap import Codec
from autopose.models.network import build_network
from autopose.skeleton import MPII16
from autopose.training.config import TrainConfig
from autopose.training.distill import load_teacher
from autopose.training.dry_run import dry_run
from autopose.training.tasks import pose_loss
from autopose.training.trainer import train

CPU = torch.device("cpu")


def _config(*settings: str) -> TrainConfig:
    base = ["codec.input_size_wh=[64, 96]", "codec.sigma=1.5", "data.workers=0", "data.tune_share=0.3"]
    return load_config(TrainConfig, None, [*base, *settings])


def _teacher(genotype: AutoPoseGenotype, path: Path, seed: int = 5, joints: int = 17, **more: object) -> Checkpoint:
    torch.manual_seed(seed)
    network = build_network(genotype, joints)
    for parameter in network.parameters():  # a fresh network's maps are all but empty
        parameter.data += 0.1 * torch.randn_like(parameter)
    codec = Codec(input_size_wh=(64, 96), sigma=1.5)
    made = Checkpoint(genotype, network.state_dict(), **{"codec": codec, **more})  # type: ignore[arg-type]
    save_checkpoint(path, made)
    return made


class Constant(nn.Module):
    """Maps that are the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 17, 24, 16), self.value)


def test_loss_by_hand() -> None:
    config = _config("distill.teacher=default", "distill.share=0.25")
    crops = torch.zeros(2, 96, 64, 3, dtype=torch.uint8)
    xy = torch.zeros(2, 17, 2)
    xy[1] = float("nan")  # shows nobody: its maps are to be empty, whatever the teacher sees
    weight = torch.zeros(2, 17)
    weight[1] = 1
    loss = pose_loss(Constant(0.5), (crops, xy, weight), config, CPU, Constant(0.9))
    labels = 0.5 * 0.5**2 / 2  # of one of the two crops
    taught = 0.5 * 0.4**2 / 2  # of the other, though no joint of it is labelled
    assert loss.item() == pytest.approx(0.75 * labels + 0.25 * taught, rel=1e-5)
    assert pose_loss(Constant(0.5), (crops, xy, weight), config, CPU).item() == pytest.approx(labels, rel=1e-5)


def test_a_student_comes_near_its_teacher(tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    figures = write_synthetic(tmp_path / "figures", images=12, seed=3, size_wh=(128, 128))
    teacher = _teacher(tiny, tmp_path / "teacher.safetensors").build()
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 96, 64)).astype(np.float32))
    common = [
        f'data.sources=[{{annotations="{figures}"}}]', "train.batch=4", "train.steps=40", "train.lr=1e-2",
        "train.warmup_steps=2", "train.eval_every=40", "train.ema=0", "train.weight_decay=0",
    ]  # fmt: skip
    apart = {}
    for share in (0.0, 1.0):
        more = [f"distill.teacher={tmp_path / 'teacher.safetensors'}", f"distill.share={share}"] if share else []
        train(tiny, _config(*common, *more), tmp_path / f"student{share}")
        student = load_checkpoint(tmp_path / f"student{share}" / "last.safetensors").build()
        with torch.no_grad():
            apart[share] = float((student(inputs) - teacher(inputs)).square().mean() / teacher(inputs).square().mean())
    assert apart[1.0] < 0.5 * apart[0.0]


def test_the_teacher_stays_as_it_is(tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    made = _teacher(tiny, tmp_path / "teacher.safetensors")
    config = _config(f"distill.teacher={tmp_path / 'teacher.safetensors'}")
    teacher = load_teacher(config, CPU)
    assert teacher is not None
    assert not teacher.training
    batch = torch.zeros(2, 96, 64, 3, dtype=torch.uint8), torch.full((2, 17, 2), 30.0), torch.ones(2, 17)
    student = build_network(tiny, 17)
    pose_loss(student, batch, config, CPU, teacher).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, made.state[key]), key


def test_rehearses_with_a_teacher(tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    _teacher(tiny, tmp_path / "teacher.safetensors")
    settings = [f"distill.teacher={tmp_path / 'teacher.safetensors'}", "data.synthetic_images=8"]
    taught, alone = dry_run(tiny, _config(*settings)), dry_run(tiny, _config("data.synthetic_images=8"))
    assert taught["output"] == alone["output"]
    assert taught["step"]["loss"] != alone["step"]["loss"]


def test_refuses_teachers_of_something_else(tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    def refused(kind: type[AutoposeError], match: str, *settings: str) -> None:
        with pytest.raises(kind, match=match):
            load_teacher(_config(*settings), CPU)

    refused(ModelError, "no such checkpoint or run folder", "distill.teacher=nowhere")
    refused(ConfigError, "'detector-default' is a detector", "distill.teacher=detector-default")
    other = tmp_path / "mpii.safetensors"
    _teacher(tiny, other, joints=16, skeleton=MPII16)
    refused(ConfigError, "is made for the skeleton mpii16; the recipe trains .* of coco17", f"distill.teacher={other}")
    fine = tmp_path / "fine.safetensors"
    _teacher(tiny, fine)
    match = "makes maps of 16x24 from inputs of 64x96; the recipe's are 8x12"
    refused(ConfigError, match, f"distill.teacher={fine}", "codec.stride=8")
    for setting in ("codec.sigma=3", "codec.convention=hrnet"):  # the same joints elsewhere, or in other widths
        refused(ConfigError, "the recipe's are .* Set them alike", f"distill.teacher={fine}", setting)
    with pytest.raises(ConfigError, match=r"\[distill\] is for task = 'pose'"):
        _config("distill.teacher=default", "task=detector")
