"""What ``--init`` may name."""

from pathlib import Path

import pytest
import torch

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from autopose.errors import ModelError
from autopose.models.network import build_network
from autopose.models.resnet import ResNet
from autopose.reference_genotype import ReferenceGenotype
from autopose.training.weights import initial_weights
from autopose.zoo import bundled_weights

GENOTYPE = ReferenceGenotype(network="simplebaseline", width=4, depth=50)


def test_a_checkpoint(tmp_path: Path) -> None:
    network = build_network(GENOTYPE)
    save_checkpoint(tmp_path / "last.safetensors", Checkpoint(GENOTYPE, network.state_dict(), name="mine"))
    assert initial_weights(str(tmp_path), GENOTYPE).name == "mine"


def test_published_weights_of_the_backbone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    resnet = ResNet(50, width=4)
    torch.save(resnet.state_dict() | {"fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth")
    found = initial_weights(str(tmp_path / "resnet.pth"), GENOTYPE, 17)
    again = initial_weights(str(tmp_path / "resnet.pth"), GENOTYPE, 17)
    torch.testing.assert_close(found.state["backbone.conv1.weight"], resnet.conv1.weight.detach())
    assert all(torch.equal(value, again.state[name]) for name, value in found.state.items())
    build_network(GENOTYPE).load_state_dict(dict(found.state))


def test_refuses_what_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exported graph"):
        initial_weights("model.onnx", GENOTYPE)
    with pytest.raises(ModelError, match="No weights at"):
        initial_weights(str(tmp_path / "none.pth"), GENOTYPE)


@pytest.mark.parametrize("name", bundled_weights())
def test_bundled_weights_name_no_folder_of_the_machine_they_were_made_on(name: str) -> None:
    config = load_checkpoint(bundled_weights()[name]).config
    names = [value for source in config["data"]["sources"] for value in source.values() if isinstance(value, str)]
    names += [value for value in config["data"].values() if isinstance(value, str)]
    assert names
    assert not [value for value in names if Path(value).is_absolute()]
