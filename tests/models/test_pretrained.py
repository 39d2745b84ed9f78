"""Backbone weights from local files: names, what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autopose.errors import ModelError
from autopose.fabric_genotype import Backbone, FabricGenotype, full_parts
from autopose.models.hrnet import HRNet
from autopose.models.network import build_network
from autopose.models.pretrained import load_backbone
from autopose.models.resnet import SimpleBaseline


def _fabric(network: str, width: int = 0) -> torch.nn.Module:
    backbone = Backbone(network=network, width=width)
    genotype = FabricGenotype(backbone=backbone, channels=(4, 4, 4, 4), parts=full_parts("coco17", 1))
    return build_network(genotype, 17)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        # As in torchvision's resnet50 and mobilenet_v2, and HRNet's pose_hrnet_w32 files.
        ("resnet50", {"conv1.weight", "bn1.bias", "layer1.0.downsample.1.running_var", "layer4.2.conv3.weight"}),
        ("mobilenetv2", {"features.0.0.weight", "features.1.conv.1.weight", "features.16.conv.3.running_mean"}),
        (
            "hrnet",
            {
                "layer1.3.bn3.weight",
                "transition1.1.0.0.weight",
                "stage2.0.branches.1.3.conv2.weight",
                "stage3.3.fuse_layers.2.0.0.0.weight",
                "stage3.0.fuse_layers.0.2.1.bias",
                "transition3.3.0.0.weight",
            },
        ),
    ],
)
def test_names_are_those_of_the_published_files(network: str, names: set[str]) -> None:
    with torch.device("meta"):
        keys = {name.removeprefix("backbone.features.") for name in _fabric(network).state_dict()}
    assert names - keys == set()


def test_a_file_may_hold_more_than_the_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = HRNet(17, width=4)
    save_file(whole.state_dict(), tmp_path / "hrnet.safetensors")
    fabric = _fabric("hrnet", width=4)
    copied = load_backbone(fabric, tmp_path / "hrnet.safetensors")
    target = fabric.get_submodule("backbone.features").state_dict()
    assert copied == sum(not name.endswith("num_batches_tracked") for name in target)
    torch.testing.assert_close(
        target["stage3.0.branches.0.0.conv1.weight"], whole.state_dict()["stage3.0.branches.0.0.conv1.weight"]
    )


def test_reads_wrapped_pytorch_files_of_tensors_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, target = SimpleBaseline(17, 50, width=4), SimpleBaseline(17, 50, width=4)
    state = {f"module.{name}": value for name, value in source.backbone.state_dict().items()}
    torch.save({"state_dict": state | {"module.fc.weight": torch.zeros(3, 3)}}, tmp_path / "resnet.pth")
    save_file(state, tmp_path / "resnet.safetensors")
    for name in ("resnet.pth", "resnet.safetensors"):
        nn.init.zeros_(target.backbone.conv1.weight)
        load_backbone(target, tmp_path / name)
        torch.testing.assert_close(target.backbone.conv1.weight, source.backbone.conv1.weight)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("a pickle ran code",))


def test_refuses_what_is_no_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = SimpleBaseline(17, 50, width=4)
    with pytest.raises(ModelError, match="No weights at"):
        load_backbone(target, tmp_path / "none.pth")
    torch.save({"state_dict": _Payload()}, tmp_path / "code.pth")
    with pytest.raises(ModelError, match="tensors only"):
        load_backbone(target, tmp_path / "code.pth")
    assert "ran code" not in capsys.readouterr().out
    (tmp_path / "damaged.safetensors").write_bytes(b"123456789")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_backbone(target, tmp_path / "damaged.safetensors")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"lacks \d+ of the backbone's"):
        load_backbone(target, tmp_path / "part.pth")
    torch.save(SimpleBaseline(17, 50, width=8).backbone.state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ModelError, match=r"'conv1.weight' is \(8, 3, 7, 7\)"):
        load_backbone(target, tmp_path / "wide.pth")
