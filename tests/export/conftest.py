"""Small networks with statistics that make their outputs differ from place to place, as trained ones do."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from autopose.checkpoint import Checkpoint
from autopose.genotype import PAPER_OPS, AutoPoseGenotype
from autopose.heatmap import Codec
from autopose.models.network import build_network


def small_genotype(head: str = "concat", seed: int = 0, *, among: Sequence[str] = PAPER_OPS) -> AutoPoseGenotype:
    rng = np.random.default_rng(seed)

    def ops(count: int) -> tuple[str, ...]:
        return tuple(str(op) for op in rng.choice(among, count))

    return AutoPoseGenotype.model_validate(
        {
            "individual": [ops(10) for _ in range(4)],
            "aggregation": [ops(9) for _ in range(4)],
            "scales": [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
            "channels": [8, 8, 16, 16],
            "modules_per_stage": 1,
            "stem_channels": 8,
            "stem_expansion": 2,
            "head": head,
            "head_channels": 8,
        }
    )


def settled(network: nn.Module, size_wh: tuple[int, int]) -> nn.Module:
    """Fill the running statistics from noise and give the head weights that make peaks of about 1."""
    torch.manual_seed(0)
    width, height = size_wh
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # cumulative average: a few batches are enough
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 3, height, width))
        for name, parameter in network.named_parameters():
            if name.startswith("head") and name.endswith("predict.weight"):
                parameter.normal_(0, 0.01)
            if name == "head.predict.bias" and len(parameter) == 5:
                parameter[0] = -0.5  # a detector that finds a few persons in anything
    return network.eval()


def small_checkpoint(task: str = "pose", **changes: object) -> Checkpoint:
    # The pose network has all operations; a detector is traced once for each of its looks, so that few have to do.
    genotype = (
        small_genotype("center", among=("conv1", "skip", "skip", "skip")) if task == "detector" else small_genotype()
    )
    codec = Codec(input_size_wh=(64, 96) if task == "pose" else (96, 64))
    torch.manual_seed(1)  # the same network whichever tests ran before
    network = settled(build_network(genotype), codec.input_size_wh)
    checkpoint = Checkpoint(genotype, network.state_dict(), codec, task, name="small", sha256="0" * 64)  # type: ignore[arg-type]
    return replace(checkpoint, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def pose_checkpoint() -> Checkpoint:
    return small_checkpoint()


@pytest.fixture(scope="session")
def pose_onnx(pose_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported pose network: uint8 in, flip averaging, keypoints out."""
    from autopose.export.to_onnx import export_onnx

    return export_onnx(pose_checkpoint, tmp_path_factory.mktemp("pose") / "model.onnx")


@pytest.fixture(scope="session")
def detector_checkpoint() -> Checkpoint:
    return small_checkpoint("detector")
