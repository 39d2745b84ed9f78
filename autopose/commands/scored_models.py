"""Open what a user calls MODEL (checkpoint, run folder, exported file or bundled name) for an evaluation."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autopose.checkpoint import weights_in
from autopose.data.coco import persons_from_detections
from autopose.data.coco_file import read_coco
from autopose.errors import BackendError, UsageError, require
from autopose.evaluation.predict import Advance, PosePredictor, detect_images, predict_boxes
from autopose.heatmap import Codec
from autopose.poses import Person
from autopose.skeleton import Skeleton
from autopose.zoo import bundled_weights

if TYPE_CHECKING:
    from torch import nn

    from autopose.checkpoint import Checkpoint

#: Detected boxes of an image that are given to the pose network.
PERSONS_PER_IMAGE = 30
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class PoseModel:
    """A pose model ready to be scored."""

    predict: PosePredictor
    codec: Codec
    skeleton: Skeleton


def is_checkpoint(model: str) -> bool:
    """Tell whether MODEL means weights for torch rather than an exported file."""
    path = Path(model)
    if model in bundled_weights():
        return False  # a bundled name, whatever lies in the working directory
    if path.is_dir():
        return weights_in(path) is not None
    return path.suffix == ".safetensors"


@contextmanager
def open_pose_model(
    model: str, *, flip: bool, device: Device, threads: int | None, batch: int = 16
) -> Iterator[PoseModel]:
    """Open a pose model; an exported one is run on ``batch`` persons at once.

    Raises:
        ModelError: there is none of that name, or it cannot do what is asked.
        UsageError: it is a detector.
    """
    if is_checkpoint(model):
        checkpoint, network = _checkpoint(model, "pose", device, threads)
        from autopose.training.predictor import TorchPredictor

        predictor = TorchPredictor(network, checkpoint.codec, checkpoint.skeleton, flip=flip)
        yield PoseModel(predictor, checkpoint.codec, checkpoint.skeleton)
        return
    from autopose.runtime.models import resolve_model
    from autopose.runtime.predictor import SessionPredictor
    from autopose.runtime.session import open_session

    with open_session(resolve_model(model, flip=flip), device=device, threads=threads) as session:
        _check_task(model, session.manifest.task, "pose")
        yield PoseModel(
            SessionPredictor(session, flip=flip, batch_size=batch),
            session.manifest.codec,
            session.manifest.keypoint_skeleton,
        )


def run_detector(
    model: str,
    annotations: Path,
    *,
    images: Path | None = None,
    device: Device = "auto",
    threads: int | None = None,
    min_score: float = 0.01,
    advance: Advance | None = None,
) -> list[dict[str, Any]]:
    """Return COCO box results of a detector, checkpoint or exported, on all images of an annotation file.

    Raises:
        ModelError: there is no detector of that name, or its layout is not known.
        UsageError: it is a pose model.
        DataError, MediaError: annotations or pictures cannot be used.
    """
    if is_checkpoint(model):
        checkpoint, network = _checkpoint(model, "detector", device, threads)
        from autopose.models.center import head_stride
        from autopose.training.predictor import TorchDetector

        detect = TorchDetector(network, head_stride(checkpoint.genotype))
        size_wh = checkpoint.codec.input_size_wh
        return predict_boxes(detect, annotations, size_wh, images=images, min_score=min_score, advance=advance)
    from autopose.runtime.detector import open_detector

    detector = open_detector(model, device=device, threads=threads, threshold=min_score)
    try:
        return detect_images(detector, annotations, images=images, advance=advance)
    finally:
        close = getattr(detector, "close", None)
        if callable(close):
            close()


def detected_persons(
    annotations: Path, skeleton: Skeleton, *, images: Path | None, device: Device, threads: int | None
) -> list[Person]:
    """Return the persons that the bundled detector finds in the images of an annotation file.

    The best 30 per image: pycocotools scores 20 poses of an image, ranked after the joints' scores are known.
    """
    found = run_detector("default", annotations, images=images, device=device, threads=threads, min_score=0.1)
    count: Counter[int] = Counter()
    best = []
    for result in sorted(found, key=lambda result: -result["score"]):
        count[result["image_id"]] += 1
        if count[result["image_id"]] <= PERSONS_PER_IMAGE:
            best.append(result)
    return persons_from_detections(best, read_coco(annotations, images=images), skeleton, "bundled detector")


def _checkpoint(model: str, task: str, device: Device, threads: int | None) -> tuple["Checkpoint", "nn.Module"]:
    torch = require("torch", extra="train", why="Scoring a checkpoint")
    from autopose.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(model)
    _check_task(model, checkpoint.task, task)
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("--device cuda: torch finds no GPU. Leave it out to run on the CPU.")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return checkpoint, checkpoint.build().to("cuda" if cuda else "cpu")


def _check_task(model: str, task: str, wanted: str) -> None:
    if task == wanted:
        return
    if task == "detector":
        raise UsageError(f"{model}: is a detector. Score its boxes: autopose eval {model} ANNOTATIONS.json --task bbox")
    raise UsageError(
        f"{model}: is a pose model, and --task bbox scores detectors. Leave --task out to score keypoints."
    )
