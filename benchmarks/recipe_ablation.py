"""What each choice of the pose recipe is worth: short paired trainings that differ in one thing.

Usage: python benchmarks/recipe_ablation.py GENOTYPE CONFIG --init CHECKPOINT --steps N -o FOLDER [--also FILE ...]

All runs start from the same weights, take the same number of steps with a cosine schedule, and see the same persons in
the same order as far as the change allows (equal seeds). Printed: AP of the tune split with flip averaging, and of
--also (other held-out sets). A variant that has been run is not run again; --only runs some.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from autopose.checkpoint import load_checkpoint
from autopose.config import load_config
from autopose.data.coco import load_coco
from autopose.evaluation.coco import evaluate_keypoints
from autopose.evaluation.predict import predict_persons
from autopose.genotype import Genotype
from autopose.training.config import Source, TrainConfig
from autopose.training.predictor import TorchPredictor
from autopose.training.resumable import is_resumable
from autopose.training.trainer import train
from autopose.training.weights import initial_weights


def changed(section: str, **values: Any) -> Callable[[TrainConfig], TrainConfig]:
    """Return what sets values of one section."""
    return lambda config: config.model_copy(
        update={section: getattr(config, section).model_copy(update=values)},
    )


def sources(change: Callable[[Source], Source | None], *more: Source) -> Callable[[TrainConfig], TrainConfig]:
    """Return what changes or drops sources, and adds some."""

    def apply(config: TrainConfig) -> TrainConfig:
        kept = [new for old in config.data.sources if (new := change(old)) is not None]
        return changed("data", sources=(*kept, *more))(config)

    return apply


def shows(source: Source, text: str) -> bool:
    """Return whether a source of persons has a text in its file's name or its filter."""
    return not source.nobody and text in source.annotations + source.contains


def drop(text: str) -> Callable[[TrainConfig], TrainConfig]:
    """Return what drops the sources of persons whose file or filter contains a text."""
    return sources(lambda source: None if shows(source, text) else source)


def repeated(text: str, change: Callable[[float], float]) -> Callable[[TrainConfig], TrainConfig]:
    """Return what draws the persons of some sources more or less often."""
    return sources(lambda s: s.model_copy(update={"repeat": change(s.repeat)}) if shows(s, text) else s)


def drawn_figures(config: TrainConfig) -> TrainConfig:
    """Add drawn figures; a pack of photographs does not hold them."""
    figures = Source(annotations="synthetic", repeat=4.0)
    return changed("data", pack=None)(sources(lambda source: source, figures)(config))


VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "the recipe": lambda config: config,
    "the recipe, another seed": changed("train", seed=1),
    "AdamW instead of Muon": changed("train", optimizer="adamw"),
    "no erased regions (occlusion)": changed("augment", erase=0.0),
    "no low resolution": changed("augment", low_resolution=0.0),
    "no half bodies": changed("augment", half_body=0.0),
    "no rotation": changed("augment", rotation=0.0),
    "COCO persons as often as others": repeated("coco_train2017", lambda repeat: 1.0),
    "LSPET persons four times as often": repeated("lspet", lambda repeat: 4 * repeat),
    "no LSPET": drop("lspet"),
    "no Stanford 40": drop("stanford"),
    "no teacher's street scenes": drop("scenes"),
    "joints listed as a model's count in full": changed("data", pseudo_weight=1.0),
    "joints listed as a model's do not count": changed("data", pseudo_weight=0.0),
    "drawn figures too": drawn_figures,
    "no pasted neighbours": changed("augment", neighbour=0.0),
    "no boxes of nobody": sources(lambda source: None if source.nobody else source),
    "no average of the weights": changed("train", ema=0.0),
    "no teacher network": lambda config: config.model_copy(update={"distill": None}),
}


def average_precision(run: Path, annotations: Path) -> float:
    """Return AP with ground-truth boxes and flip averaging of a run's final averaged weights."""
    checkpoint = load_checkpoint(run / "last.safetensors")
    predictor = TorchPredictor(checkpoint.build(), checkpoint.codec, checkpoint.skeleton, flip=True, amp="auto")
    results = predict_persons(predictor, load_coco(annotations), checkpoint.codec)
    return evaluate_keypoints(results, annotations)["AP"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genotype")
    parser.add_argument("config")
    parser.add_argument("--init", required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], help="override of the configuration, for all runs")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="annotations of other held-out sets")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS))
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    genotype = Genotype.load(arguments.genotype)
    overrides = [*arguments.set, f"train.steps={arguments.steps}", "train.schedule=cosine", "train.eval_every=1000000"]
    base = load_config(TrainConfig, arguments.config, overrides, group="train")
    init = initial_weights(arguments.init, genotype)
    print(f"{arguments.steps} steps of {base.train.batch} from {arguments.init}")
    for name in arguments.only or VARIANTS:
        run = arguments.out / name.replace(" ", "-").replace("'", "")
        result = run / "ablation.json"
        if not result.exists():
            train(genotype, VARIANTS[name](base), run, init=init, resume=is_resumable(run))
            if load_checkpoint(run / "last.safetensors").metrics["step"] < arguments.steps:
                raise SystemExit("stopped; the same command goes on")
            figures = {"tune": average_precision(run, run / "tune.json")}
            figures |= {path.stem: average_precision(run, path) for path in arguments.also}
            result.write_text(json.dumps(figures))
        figures = json.loads(result.read_text())
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
