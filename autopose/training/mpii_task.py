"""Training on MPII: the pose task, scored by PCKh on held-out images."""

import os
from pathlib import Path

from torch import nn

from autopose.data.annotations import load_persons
from autopose.data.skeletons import open_skeleton
from autopose.evaluation.pckh import evaluate_pckh, head_lengths
from autopose.poses import Person
from autopose.skeleton import MPII16
from autopose.training.config import TrainConfig
from autopose.training.sources import (
    find_annotations,
    image_folder,
    in_tune,
    name_for_split,
    nobody_held_out,
    tune_source,
)
from autopose.training.tasks import PoseTask


def held_out_persons(config: TrainConfig) -> list[Person]:
    """Return the tune split's persons.

    Raises:
        DataError: the annotations cannot be used, or nobody is held out.
    """
    source = tune_source(config)
    path = find_annotations(source.annotations, config.data.synthetic_images, Path(os.devnull))
    persons = load_persons(path, images=image_folder(source), skeleton=open_skeleton(config.skeleton))
    name_of = name_for_split(person.image_path for person in persons)
    held_out = [person for person in persons if in_tune(name_of(person.image_path), config.data.tune_share)]
    if not held_out:
        raise nobody_held_out(path, "no image", (name_of(person.image_path) for person in persons))
    return held_out


class MpiiTask(PoseTask):
    """Heatmaps of person crops, scored by PCKh@0.5 on the tune split (PCKh-segment where head boxes are missing)."""

    def hold_out(self, folder: Path) -> None:
        """Set the tune persons apart; MPII's files have no COCO counterpart that could be written."""
        self.held_out = held_out_persons(self.config)
        self.metric = f"{head_lengths(self.held_out)[1]}@0.5"

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return PCKh in percent: totals and the columns of the published tables."""
        figures = evaluate_pckh(self.results(network), self.held_out)
        return {key: value for key, value in figures.items() if key.partition(" ")[2] not in MPII16.joints}
