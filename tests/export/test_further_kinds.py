"""Fabric and reference networks export like any other: ONNX Runtime's maps against torch's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autopose.checkpoint import Checkpoint
from autopose.export.crops import synthetic_crops
from autopose.export.recipe import GraphOptions
from autopose.export.to_onnx import export_onnx
from autopose.fabric_genotype import Backbone, FabricGenotype, full_parts
from autopose.genotype import Genotype
from autopose.heatmap import Codec
from autopose.models.network import build_network
from autopose.reference_genotype import ReferenceGenotype
from autopose.runtime.session import open_session
from autopose.training.predictor import TorchPredictor

CODEC = Codec(input_size_wh=(64, 96))


def _fabric() -> FabricGenotype:
    """All operations; eight parts, so that joints which several share are summed; one cell per part."""
    fields: dict[str, Any] = {
        "backbone": Backbone(network="stem", width=4),
        "channels": (8, 8, 12, 16),
        "op_set": "all",
    }
    return FabricGenotype(parts=full_parts("coco17", 8, op_set="all", depth=1), depth=1, **fields)


def _checkpoint(genotype: Genotype) -> Checkpoint:
    torch.manual_seed(0)
    network = build_network(genotype)
    for name, value in network.named_parameters():
        if name.startswith(("heads", "final_layer")):
            nn.init.normal_(value, std=0.1)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 3, 96, 64))
    return Checkpoint(genotype, network.state_dict(), CODEC, name=genotype.kind, sha256="0" * 64)


@pytest.mark.parametrize(
    "genotype",
    [_fabric(), ReferenceGenotype(network="simplebaseline", width=4, depth=50)],
    ids=["fabric", "simplebaseline"],
)
def test_against_torch_heatmaps(genotype: Genotype, tmp_path: Path) -> None:
    checkpoint = _checkpoint(genotype)
    path = export_onnx(checkpoint, tmp_path / "model.onnx", GraphOptions(flip=False, decode=False), check=False)
    crops = synthetic_crops(2, CODEC.input_size_wh, seed=6)
    predictor = TorchPredictor(checkpoint.build(), checkpoint.codec, checkpoint.skeleton, flip=False)
    with open_session(path, device="cpu") as session:
        (maps,) = session.run(crops)
        assert session.manifest.fingerprint == genotype.fingerprint()
    expected = predictor.heatmaps(crops)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(maps, expected, atol=1e-4)
