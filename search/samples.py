"""The three parts of a search's data, disjoint by image.

Weights learn from one, the architecture from another, and the reward is computed on the third (the tune split). The set
on which a result is reported is none of them.
"""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autopose.data.coco import persons_from_coco
from autopose.data.coco_file import read_coco, reading_once
from autopose.data.images import ImageReader
from autopose.data.pose_dataset import PoseDataset
from autopose.data.skeletons import open_skeleton
from autopose.errors import DataError
from autopose.evaluation.coco import Results, evaluate_keypoints, mean_oks
from autopose.evaluation.predict import PosePredictor, predict_persons
from autopose.files import write_atomic
from autopose.poses import Person
from autopose.search.config import SearchConfig
from autopose.skeleton import Skeleton
from autopose.training.config import TrainConfig
from autopose.training.loader import KeySampler, make_loader
from autopose.training.sources import image_reader, name_for_split, pose_persons, tune_reader, write_tune_split
from autopose.training.tasks import PoseTask

#: Crops ``(N, H, W, 3)`` uint8 BGR, joints ``(N, K, 2)`` in crop pixels, label weights ``(N, K)``.
Batch = tuple[Tensor, Tensor, Tensor]


class CachedReader:
    """Keeps decoded images in memory up to a limit: the reward looks at the same ones hundreds of times."""

    def __init__(self, reader: ImageReader, limit_bytes: int = 512 * 2**20) -> None:
        self.reader, self.left = reader, limit_bytes
        self.images: dict[Path, NDArray[np.uint8]] = {}

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return the image ``(H, W, 3)`` BGR."""
        if path in self.images:
            return self.images[path]
        image = self.reader.read(path)
        if image.nbytes <= self.left:
            self.images[path] = image
            self.left -= image.nbytes
        return image


class SearchData:
    """Loaders for both levels, and the reward's AP.

    Args:
        config: the search.
        folder: run folder: the tune split's annotations are written there.
        rank: this process.
        world: number of processes.

    Raises:
        DataError: a level has no data, or a picture that the reward looks at is not there.
    """

    @reading_once()
    def __init__(self, config: SearchConfig, folder: Path, rank: int = 0, world: int = 1) -> None:
        self.config, self.rank, self.world = config, rank, world
        self.skeleton: Skeleton = open_skeleton(config.skeleton)
        recipe = TrainConfig(skeleton=config.skeleton, codec=config.codec, data=config.data, augment=config.augment)
        persons = pose_persons(recipe, self.skeleton, folder)
        share = config.search.own_share
        name_of = name_for_split(person.image_path for person in persons)
        self.arch_persons = [person for person in persons if for_architecture(name_of(person.image_path), share)]
        self.weight_persons = [person for person in persons if not for_architecture(name_of(person.image_path), share)]
        if not self.weight_persons or (share > 0 and not self.arch_persons):
            raise DataError(
                f"{len(persons)} training persons leave one level without data at search.arch_share = {share}: "
                "give more images, or change the share."
            )
        self.reader = image_reader(config.data.pack, [person.image_path for person in persons])
        self.tune = _limited(write_tune_split(recipe, folder), config.search.reward_persons)
        self.tune_persons = persons_from_coco(read_coco(self.tune, look=False), skeleton=self.skeleton)
        pictures = [person.image_path for person in self.tune_persons]
        self.tune_reader = CachedReader(tune_reader(recipe, self.reader, pictures))

    def batches(self, level: str, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to ``stop``; their content depends on the seed and the step alone."""
        persons: list[Person] = self.arch_persons if level == "arch" else self.weight_persons
        weights = np.array([person.weight_sample for person in persons])
        seed = self.config.search.seed * 2 + (level == "arch")
        sampler = KeySampler(weights, self.config.search.batch, seed, start, stop, self.rank, self.world)
        dataset = PoseDataset(persons, self.config.codec, self.config.augment, self.reader)
        yield from make_loader(dataset, sampler, PoseTask.collate, self.config.data.workers)

    def score(self, results: Results, figure: str) -> float:
        """Return ``AP`` or the mean ``OKS`` of results on the tune split; 0 if nothing can be scored."""
        if figure == "OKS":
            return mean_oks(results, self.tune, skeleton=self.skeleton)
        return max(evaluate_keypoints(results, self.tune, skeleton=self.skeleton)["AP"], 0.0)

    def results(self, predict: PosePredictor) -> Results:
        """Return COCO results on the tune split, ground-truth boxes, no flip."""
        return predict_persons(
            predict,
            self.tune_persons,
            self.config.codec,
            batch_size=self.config.search.reward_batch,
            reader=self.tune_reader,
            visible_score=0,
        )


def for_architecture(name: str, share: float) -> bool:
    """Return whether an image is of the architecture's part: a fixed hash, independent of the tune split's."""
    return zlib.crc32(b"architecture " + os.fsencode(name)) % 1000 < share * 1000


def _limited(tune: Path, persons: int) -> Path:
    """Keep the first images of the split until they hold ``persons`` persons (0: all); images come in file order."""
    if not persons:
        return tune
    content = json.loads(tune.read_text())
    counts: dict[int, int] = {}
    for annotation in content["annotations"]:
        counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + 1
    total, images = 0, []
    for image in content["images"]:
        if total >= persons:
            break
        total += counts.get(image["id"], 0)
        images.append(image)
    kept = {image["id"] for image in images}
    content["images"] = images
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    out = tune.with_name("reward.json")
    write_atomic(out, json.dumps(content))
    return out


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch."""
    crops, xy, weight = (item.to(device, non_blocking=True) for item in batch)
    return crops, xy, weight
