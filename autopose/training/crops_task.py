"""Pose training from a folder of ``autopose data crops``: no annotation file and no photograph is read."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autopose.data.crop_set import read_both
from autopose.data.pose_dataset import PoseDataset
from autopose.data.skeletons import open_skeleton
from autopose.errors import DataError
from autopose.files import write_atomic
from autopose.training.config import TrainConfig
from autopose.training.data_checksum import data_checksum
from autopose.training.distill import load_teacher
from autopose.training.resident import DrawSource, Resident, collate_rows
from autopose.training.tasks import Batch, PoseTask, pose_loss


class CropsTask(PoseTask):
    """The pose task, its pictures in memory."""

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device) -> None:
        assert config.data.crops is not None
        self.config, self.device = config, device
        self.skeleton = open_skeleton(config.skeleton)
        self.crops, self.tune_crops = read_both(Path(config.data.crops), self.skeleton, config.codec.input_size_wh)
        self.tune_reader = self.tune_crops
        self.held_out = list(self.tune_crops.persons)
        self.tune = folder / "tune.json"
        write_atomic(self.tune, self.tune_crops.coco.decode())
        self.source = PoseDataset(self.crops.persons, config.codec, config.augment, self.crops)
        self.weights = np.array([person.weight_sample for person in self.crops.persons])
        self.teacher = load_teacher(config, device)
        # Pictures have no names here: those that they had are in the set's.
        self.data = zlib.crc32(self.crops.set.encode(), data_checksum(self.crops.persons, ())) or 1

    def results(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return COCO results of the held-out persons, moved from their cut pictures into the photographs."""
        results = super().results(network)
        for number, result in enumerate(results):
            joints = np.reshape(result["keypoints"], (-1, 3))
            joints[:, :2] = self.tune_crops.in_photograph(number, joints[:, :2])
            result["keypoints"] = joints.ravel().tolist()
        return results


class ResidentTask(CropsTask):
    """The same on a GPU: the pictures lie on it, and the crops are painted there."""

    collate = staticmethod(collate_rows)  # type: ignore[assignment]

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device) -> None:
        super().__init__(config, folder, device)
        try:
            self.resident = Resident(self.crops, device)
        except torch.OutOfMemoryError:
            raise DataError(
                f"{config.data.crops}: its {len(self.crops.persons):,} training pictures take "
                f"{self.crops.pixels.nbytes / 1e9:.1f} GB decoded, which do not fit into the memory of {device}.\n"
                "Write crops of fewer persons or for a smaller input, or train from photographs, without data.crops."
            ) from None
        persons = self.crops.persons
        del self.crops  # with its pictures, which are the device's now
        self.source = DrawSource(PoseDataset(persons, config.codec, config.augment))

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the weighted mean squared error of the heatmaps."""
        painted = self.resident.paint(batch, self.config.codec.input_size_wh)
        return pose_loss(network, painted, self.config, self.device, self.teacher)
