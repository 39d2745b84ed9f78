"""ImageNet or COCO weights of a backbone from a local file, in the naming of torchvision and of HRNet's model files.

Nothing is downloaded, and a file is never unpickled as code: safetensors, or ``torch.load`` restricted to tensors.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from autopose.errors import ModelError


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read a state dictionary: ``.safetensors``, or a PyTorch file that holds tensors only.

    Raises:
        ModelError: no such file, or not a dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"No weights at {path}. Give a .safetensors file, or a .pth with a state dictionary.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return _plain_names(load_file(path))
        except SafetensorError as error:
            raise ModelError(f"{path}: not a safetensors file ({error}).") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (pickle, zip, runtime and end-of-file errors: whatever cannot be read)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: cannot be read as tensors only ({reason}).") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}.")
    return _plain_names(content)


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that they have without torch's ``DataParallel`` around the network."""
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def backbone_of(network: nn.Module) -> nn.Module:
    """Return the part of a network that published backbone weights describe: its backbone, or all of it."""
    backbone = getattr(network, "backbone", network)
    features = getattr(backbone, "features", backbone)
    # MobileNetV2 calls its own layers "features" too; Pyramid is the only one that wraps a whole backbone.
    return features if type(backbone).__name__ == "Pyramid" else backbone


def load_backbone(network: nn.Module, path: Path | str) -> int:
    """Copy a file's weights into the network's backbone; the file may hold more (a classifier, other stages).

    Returns:
        How many tensors were copied.

    Raises:
        ModelError: the file lacks a tensor of the backbone (heads excepted), or one has another shape.
    """
    target = backbone_of(network)
    state = read_weights(path)
    wanted = {
        name: value
        for name, value in target.state_dict().items()
        if not name.startswith(("final_layer.", "deconv_layers.")) and not name.endswith("num_batches_tracked")
    }
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ModelError(
            f"{path}: lacks {len(missing)} of the backbone's {len(wanted)} tensors, for instance {missing[0]!r}. "
            f"Expected the naming of torchvision (ResNet, MobileNetV2) or HRNet's own files."
        )
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            found, expected = tuple(state[name].shape), tuple(value.shape)
            raise ModelError(f"{path}: tensor {name!r} is {found}; the backbone has {expected}.")
    target.load_state_dict({name: state[name] for name in wanted}, strict=False)
    return len(wanted)
