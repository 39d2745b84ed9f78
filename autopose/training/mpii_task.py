"""Training on MPII: the pose task, scored by PCKh on held-out images."""

from pathlib import Path

from torch import nn

from autopose.data.annotations import load_persons
from autopose.errors import DataError
from autopose.evaluation.pckh import evaluate_pckh, head_lengths
from autopose.evaluation.predict import predict_persons
from autopose.skeleton import MPII16
from autopose.training.sources import find_annotations, image_folder, in_tune, name_for_split, tune_source
from autopose.training.tasks import PoseTask


class MpiiTask(PoseTask):
    """Heatmaps of person crops, scored by PCKh@0.5 on the tune split (PCKh-segment where head boxes are missing)."""

    def hold_out(self, folder: Path) -> None:
        """Set the tune persons apart; MPII's files have no COCO counterpart that could be written."""
        source = tune_source(self.config)
        path = find_annotations(source.annotations, self.config.data.synthetic_images, folder)
        persons = load_persons(path, images=image_folder(source), skeleton=self.skeleton)
        name_of = name_for_split(person.image_path for person in persons)
        self.held_out = [p for p in persons if in_tune(name_of(p.image_path), self.config.data.tune_share)]
        if not self.held_out:
            raise DataError(f"{path}: no image falls into the tune split; raise data.tune_share.")
        self.metric = f"{head_lengths(self.held_out)[1]}@0.5"

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Return PCKh in percent: totals and the columns of the published tables."""
        results = predict_persons(
            self.predictor(network), self.held_out, self.config.codec, batch_size=32, reader=self.tune_reader
        )
        figures = evaluate_pckh(results, self.held_out)
        return {key: value for key, value in figures.items() if key.partition(" ")[2] not in MPII16.joints}
