"""What differs between training a pose network and a detector: samples, loss, evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autopose.data.coco import persons_from_coco
from autopose.data.coco_file import read_coco, reading_once
from autopose.data.detection_dataset import DetectionDataset, DetectionSample
from autopose.data.mpii import is_mpii
from autopose.data.pose_dataset import PoseDataset, PoseSample
from autopose.data.skeletons import open_skeleton
from autopose.genotype import Genotype
from autopose.models.center import center_loss, center_targets, head_stride
from autopose.training.config import TrainConfig
from autopose.training.data_checksum import data_checksum
from autopose.training.distill import distilled, load_teacher
from autopose.training.loader import SampleSource
from autopose.training.loss import heatmap_loss, heatmap_targets
from autopose.training.normalize import normalize
from autopose.training.predictor import TorchDetector, TorchPredictor
from autopose.training.sources import (
    detector_scenes,
    find_annotations,
    image_reader,
    persons_of_scenes,
    pose_persons,
    tune_reader,
    tune_source,
    write_detector_tune_split,
    write_tune_split,
)

#: A collated batch: tensors, or lists of tensors with one entry per image.
Batch = tuple[Any, ...]


class Task(ABC):
    """One kind of training.

    Attributes:
        source: makes samples.
        weights: ``(n,)`` how often each sample is drawn.
        metric: name of the figure that ``evaluate`` returns and that chooses the best weights.
        data: :func:`~autopose.training.data_checksum.data_checksum` of the samples and the tune pictures.
    """

    source: SampleSource
    weights: NDArray[np.float64]
    metric = "AP"
    data: int

    @staticmethod
    @abstractmethod
    def collate(samples: Sequence[Any]) -> Batch:
        """Stack samples."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a batch (inside the caller's autocast)."""

    @abstractmethod
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return figures on the tune split."""


def pose_loss(
    network: nn.Module, batch: Batch, config: TrainConfig, device: torch.device, teacher: nn.Module | None = None
) -> Tensor:
    """Return the weighted mean squared error of the heatmaps of a batch of :meth:`PoseTask.collate`.

    With a teacher (:func:`~autopose.training.distill.load_teacher`) a share of it is the distance to the teacher's.
    """
    crops, xy, weight = (item.to(device, non_blocking=True) for item in batch)
    inputs = normalize(crops, channels_last=config.train.channels_last)
    maps = network(inputs)
    targets, weight = heatmap_targets(config.codec, xy, weight)
    loss = heatmap_loss(maps, targets, weight)
    if teacher is None or config.distill is None:
        return loss
    with torch.no_grad():
        taught = teacher(inputs)
    return distilled(loss, maps, taught, xy, config.distill.share)


def detector_loss(network: nn.Module, batch: Batch, config: TrainConfig, stride: int, device: torch.device) -> Tensor:
    """Return the focal and box loss of a batch of :meth:`DetectorTask.collate`."""
    images, *lists = batch
    boxes, weights, ignore = ([torch.as_tensor(item).float() for item in items] for items in lists)
    maps = network(normalize(images.to(device), channels_last=config.train.channels_last))
    targets = center_targets(boxes, weights, ignore, (maps.shape[-1], maps.shape[-2]), stride)
    return center_loss(maps, targets.to(device))


class PoseTask(Task):
    """Heatmaps of person crops, scored by keypoint AP on the tune split with ground-truth boxes."""

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device) -> None:
        self.config, self.device = config, device
        self.skeleton = open_skeleton(config.skeleton)
        persons = pose_persons(config, self.skeleton, folder)
        self.reader = image_reader(config.data.pack, [person.image_path for person in persons])
        self.source = PoseDataset(persons, config.codec, config.augment, self.reader)
        self.weights = np.array([person.weight_sample for person in persons])
        self.teacher = load_teacher(config, device)
        self.hold_out(folder)
        tune = [person.image_path for person in self.held_out]
        self.tune_reader = tune_reader(config, self.reader, tune)
        self.data = data_checksum(persons, tune)

    def hold_out(self, folder: Path) -> None:
        """Set the tune split and its persons apart."""
        self.tune = write_tune_split(self.config, folder)
        self.held_out = persons_from_coco(read_coco(self.tune, look=False), skeleton=self.skeleton)

    def predictor(self, network: nn.Module) -> TorchPredictor:
        """Return what runs the network on crops during training."""
        settings = self.config.train
        return TorchPredictor(network, self.config.codec, self.skeleton, flip=settings.flip_eval, amp=settings.amp)

    @staticmethod
    def collate(samples: Sequence[PoseSample]) -> Batch:
        """Return crops ``(N, H, W, 3)`` uint8, joints ``(N, K, 2)`` and weights ``(N, K)``."""
        crops = torch.from_numpy(np.stack([sample.crop for sample in samples]))
        xy = torch.from_numpy(np.stack([sample.xy for sample in samples]))
        return crops, xy, torch.from_numpy(np.stack([sample.weight for sample in samples]))

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the weighted mean squared error of the heatmaps."""
        return pose_loss(network, batch, self.config, self.device, self.teacher)

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return the ten COCO figures."""
        from autopose.evaluation.coco import evaluate_keypoints

        return evaluate_keypoints(self.results(network), self.tune, skeleton=self.skeleton)

    def results(self, network: nn.Module) -> list[dict[str, Any]]:
        """Return COCO results of the held-out persons, in their order and in pixels of their photographs."""
        from autopose.evaluation.predict import predict_persons

        return predict_persons(
            self.predictor(network), self.held_out, self.config.codec, batch_size=32, reader=self.tune_reader
        )


class DetectorTask(Task):
    """Person centres of whole images, scored by box AP50 on the tune split."""

    metric = "AP50"

    def __init__(self, config: TrainConfig, genotype: Genotype, folder: Path, device: torch.device) -> None:
        self.config, self.device, self.stride = config, device, head_stride(genotype)
        scenes = detector_scenes(config, folder)
        self.tune = write_detector_tune_split(config, folder)
        self.reader = image_reader(config.data.pack, [scene.image_path for scene in scenes])
        persons = persons_of_scenes(config, scenes, folder) if config.scene_augment.paste else ()
        self.source = DetectionDataset(scenes, config.codec.input_size_wh, config.scene_augment, self.reader, persons)
        self.weights = np.array([scene.weight_sample for scene in scenes])
        held_out = read_coco(self.tune, look=False)
        tune = [held_out.image_path(number) for number in held_out.images]
        self.tune_reader = tune_reader(config, self.reader, tune)
        self.data = data_checksum([*scenes, *persons], tune)

    @staticmethod
    def collate(samples: Sequence[DetectionSample]) -> Batch:
        """Return images ``(N, H, W, 3)`` uint8 and lists of boxes, weights and ignored regions.

        The lists hold arrays: each tensor from a loader process takes a file handle, of which there may be 1024.
        """
        return (
            torch.from_numpy(np.stack([sample.image for sample in samples])),
            [sample.boxes for sample in samples],
            [sample.weight for sample in samples],
            [sample.ignore for sample in samples],
        )

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the focal and box loss."""
        return detector_loss(network, batch, self.config, self.stride, self.device)

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return the COCO box figures."""
        from autopose.evaluation.coco import evaluate_boxes
        from autopose.evaluation.predict import predict_boxes

        detector = TorchDetector(network, self.stride, amp=self.config.train.amp)
        results = predict_boxes(
            detector, self.tune, self.config.codec.input_size_wh, batch_size=8, reader=self.tune_reader
        )
        return evaluate_boxes(results, self.tune)


@reading_once()
def make_task(config: TrainConfig, genotype: Genotype, folder: Path, device: torch.device) -> Task:
    """Return the task that the configuration asks for.

    Raises:
        DataError: something is wrong with the data.
    """
    if config.data.crops is not None:
        from autopose.training.crops_task import CropsTask, ResidentTask

        return (CropsTask if device.type == "cpu" else ResidentTask)(config, folder, device)
    for source in config.data.sources:  # all of them, before figures are drawn for one
        if source.annotations != "synthetic":
            find_annotations(source.annotations, config.data.synthetic_images, folder)
    if config.task == "pose":
        source = tune_source(config)
        path = find_annotations(source.annotations, config.data.synthetic_images, folder)
        if is_mpii(path):
            from autopose.training.mpii_task import MpiiTask

            return MpiiTask(config, folder, device)
        return PoseTask(config, folder, device)
    return DetectorTask(config, genotype, folder, device)
