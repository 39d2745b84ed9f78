"""The configuration of a training run, read from TOML."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autopose.config import Config
from autopose.data.augment import Augment
from autopose.data.coco import PSEUDO_WEIGHT
from autopose.data.detection_dataset import DetectionAugment
from autopose.data.skeletons import open_skeleton
from autopose.heatmap import Codec
from autopose.skeleton import COCO17

#: Adam's decay rates.
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]

#: Mixed precision, see :func:`autopose.training.bfloat16.in_bfloat16`.
Amp = Literal["auto", "bf16", "none"]


class Source(Config):
    """One annotation file to train on.

    Attributes:
        annotations: COCO-format JSON, or a file of MPII; relative paths are looked up in ``AUTOPOSE_DATA``, then here.
            ``synthetic`` makes articulated figures instead.
        images: folder of the images, looked up likewise; found from the annotations if None.
        contains: keep only images whose path, with slashes, contains this text.
        repeat: how often each person is drawn, relative to the other sources.
        min_keypoints: keep only persons with at least this many labelled joints.
        nobody: the file's boxes show nobody: the maps of their crops are learned to be empty, so that the scores of the
            joints tell a detector's mistakes from persons.
    """

    annotations: str
    images: str | None = None
    contains: str = ""
    repeat: float = Field(1.0, gt=0)
    min_keypoints: int = Field(1, ge=0)
    nobody: bool = False


class DataConfig(Config):
    """What to train on.

    Attributes:
        sources: annotation files.
        synthetic_images: size of the synthetic set, where a source asks for it.
        pack: decode all images once into this file and read from it (fast; 3 bytes per pixel of disk).
        crops: folder of ``autopose data crops``, which is all that is read, then: neither sources nor pack count. On a
            GPU its pictures lie there, and are varied there (pose only).
        tune_share: share of the images held out, by a fixed hash of the file's name, for curves and choices.
        tune_annotations: annotation file whose held-out images are the tune split; the first source's, of those that
            show persons, if None.
        workers: loader processes.
        pseudo_weight: loss weight of joints that a record lists under ``pseudo``, as a model's; a confidence in place
            of the visibility is a weight of its own.
    """

    sources: tuple[Source, ...] = Field((Source(annotations="synthetic"),), min_length=1)
    synthetic_images: int = Field(512, ge=8)
    pack: str | None = None
    crops: str | None = None
    tune_share: float = Field(0.1, gt=0, lt=1)
    tune_annotations: str | None = None
    workers: int = Field(1, ge=0)
    pseudo_weight: float = Field(PSEUDO_WEIGHT, ge=0, le=1)

    @model_validator(mode="after")
    def _somebody_is_shown(self) -> Self:
        if all(source.nobody for source in self.sources):
            raise ValueError("data.sources: all have nobody = true; there is nobody to learn from")
        return self


class TrainSection(Config):
    """How to train.

    Attributes:
        batch: persons (or images) per step and process.
        steps: length of the run; None: ``epochs`` passes over the drawn samples.
        epochs: passes over the data.
        optimizer: ``adam``, ``adamw``, or ``muon`` (orthogonalised momentum, :mod:`autopose.training.muon`).
        lr: peak learning rate.
        betas: Adam's decay rates, also for what Muon leaves to it.
        weight_decay: of weights with more than one dimension; ``adam`` adds it to the gradient (L2), the others do not.
        schedule: ``cosine`` to zero, ``multistep`` or ``constant``.
        milestones: fractions of the run at which ``multistep`` multiplies by ``gamma``.
        gamma: factor of ``multistep``.
        warmup_steps: linear warm-up.
        clip: largest gradient norm; 0 = none.
        ema: decay of the weight average; 0 = none.
        amp: ``bf16`` autocast, ``auto``: on devices that have instructions for it, or ``none``.
        channels_last: memory format of activations (2x faster on CPUs).
        seed: of weights, order and augmentation.
        eval_every: steps between evaluations on the tune split.
        save_every: steps between resumable states.
        flip_eval: average over mirrored crops when evaluating during training.
        compile: ``torch.compile`` the network.
    """

    batch: int = Field(32, ge=1)
    steps: int | None = Field(None, ge=1)
    epochs: int = Field(210, ge=1)
    optimizer: Literal["adam", "adamw", "muon"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    betas: Betas = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "multistep", "constant"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (170 / 210, 200 / 210)
    gamma: float = Field(0.1, gt=0)
    warmup_steps: int = Field(100, ge=0)
    clip: float = Field(0.0, ge=0)
    ema: float = Field(0.999, ge=0, lt=1)
    amp: Amp = "none"
    channels_last: bool = True
    seed: int = Field(0, ge=0)
    eval_every: int = Field(1000, ge=1)
    save_every: int = Field(200, ge=1)
    flip_eval: bool = False
    compile: bool = False


class Distillation(Config):
    """A trained network to learn from besides the labels.

    Attributes:
        teacher: a bundled model, a run folder or a checkpoint, of the same skeleton, stride, convention and sigma.
        share: of the loss that is the distance to its maps; the labels have the rest.
    """

    teacher: str
    share: float = Field(0.5, gt=0, le=1)


def with_tolerances(codec: Codec, skeleton: str) -> Codec:
    """Return a codec whose decoding by expected OKS uses the constants of the joints that are learned."""
    sigmas = open_skeleton(skeleton).sigmas
    if codec.refine == "oks" and codec.oks_sigmas is None and sigmas != COCO17.sigmas:
        return codec.model_copy(update={"oks_sigmas": sigmas})
    return codec


class TrainConfig(Config):
    """A whole recipe.

    Attributes:
        task: ``pose`` or ``detector``.
        skeleton: joints to learn: ``coco17``, ``mpii16``, ..., or a JSON file that names others (docs/data.md)
        codec: input size, heatmaps.
        data: what to train on.
        augment: how person crops are varied.
        scene_augment: how the detector's photographs are varied.
        train: how to train.
        distill: a network to learn from besides the labels (pose only).
    """

    task: Literal["pose", "detector"] = "pose"
    skeleton: str = "coco17"
    codec: Codec = Codec()
    data: DataConfig = DataConfig()
    augment: Augment = Augment()
    scene_augment: DetectionAugment = DetectionAugment()
    train: TrainSection = TrainSection()
    distill: Distillation | None = None

    @model_validator(mode="after")
    def _tolerances_of_the_skeleton(self) -> Self:
        self.__dict__["codec"] = with_tolerances(self.codec, self.skeleton)  # the model is frozen
        return self

    @model_validator(mode="after")
    def _is_for_pose(self) -> Self:
        nobody = next((source for source in self.data.sources if source.nobody), None)
        if self.task == "detector" and nobody is not None:
            raise ValueError(
                f"source {nobody.annotations!r} has nobody = true, which only task = 'pose' knows: a detector learns "
                "whatever has no box as background. Leave the source out"
            )
        if self.task == "detector" and self.data.crops is not None:
            raise ValueError("data.crops are persons, for task = 'pose': a detector learns from whole photographs")
        if self.task == "detector" and self.distill is not None:
            raise ValueError("[distill] is for task = 'pose': a detector learns from boxes only. Leave the section out")
        return self
