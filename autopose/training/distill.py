"""Learning from a trained network besides the labels: heatmap distillation (as Zhang et al., CVPR 2019, for pose)."""

import torch
from torch import Tensor, nn

from autopose.data.skeletons import open_skeleton
from autopose.errors import ConfigError
from autopose.training.config import TrainConfig
from autopose.training.loss import heatmap_loss
from autopose.training.weights import initial_weights


def load_teacher(config: TrainConfig, device: torch.device) -> nn.Module | None:
    """Return the network that the recipe learns from, frozen and in evaluation mode; None if there is none.

    Raises:
        ConfigError: it does not make the maps that the student makes.
        ModelError: there is none of that name.
    """
    if config.distill is None:
        return None
    name = config.distill.teacher
    checkpoint = initial_weights(name)
    if checkpoint.task != "pose" or checkpoint.skeleton.joints != open_skeleton(config.skeleton).joints:
        kind = "a detector" if checkpoint.task != "pose" else f"made for the skeleton {checkpoint.skeleton.name}"
        raise ConfigError(f"distill.teacher {name!r} is {kind}; the recipe trains a pose network of {config.skeleton}.")
    theirs, ours = checkpoint.codec, config.codec
    if (theirs.convention, theirs.sigma) != (ours.convention, ours.sigma):
        raise ConfigError(
            f"distill.teacher {name!r} makes maps of codec.convention {theirs.convention!r} and codec.sigma "
            f"{theirs.sigma:g}; the recipe's are {ours.convention!r} and {ours.sigma:g}. Set them alike."
        )
    network = checkpoint.build().requires_grad_(False).to(device)
    if config.train.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    width, height = config.codec.input_size_wh
    with torch.inference_mode():
        maps = network(torch.zeros(1, 3, height, width, device=device))
    wanted = config.codec.heatmap_size_wh
    if (maps.shape[-1], maps.shape[-2]) != wanted:
        raise ConfigError(
            f"distill.teacher {name!r} makes maps of {maps.shape[-1]}x{maps.shape[-2]} from inputs of "
            f"{width}x{height}; the recipe's are {wanted[0]}x{wanted[1]}. Choose a teacher of the same stride."
        )
    return torch.compile(network) if config.train.compile else network  # type: ignore[return-value]


def distilled(loss: Tensor, maps: Tensor, taught: Tensor, xy: Tensor, share: float) -> Tensor:
    """Return the loss of the labels with a share of it replaced by the distance to the teacher's maps.

    Args:
        loss: of the labels.
        maps: ``(N, K, h, w)`` of the student.
        taught: ``(N, K, h, w)`` of the teacher for the same crops. All of its joints count, labelled or not.
        xy: ``(N, K, 2)`` labelled joints; of crops that show nobody (NaN) the teacher is not asked.
        share: of the teacher.
    """
    somebody = (~xy.isnan().any(-1)).float()
    return (1 - share) * loss + share * heatmap_loss(maps, taught.float(), somebody)
