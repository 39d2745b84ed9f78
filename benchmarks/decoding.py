"""What sub-cell decoding gains: AP of one trained model under every refinement, and the coding error of conventions.

Usage: python benchmarks/decoding.py MODEL ANNOTATIONS.json [--tune SHARE]

The network runs once (flip-averaged); its maps are decoded in each way. ``--tune`` keeps the images of the tune split
(crc32 of the name). The second table needs no network: perfect maps of a crop and of its mirror image are averaged and
decoded, so that what remains is the error of the coding itself.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from autopose.checkpoint import load_checkpoint
from autopose.data.coco import load_coco
from autopose.evaluation.coco import evaluate_keypoints
from autopose.evaluation.predict import predict_persons
from autopose.heatmap import PUBLISHED, Codec
from autopose.skeleton import COCO17
from autopose.training.predictor import TorchPredictor
from autopose.training.sources import in_tune
from autopose.zoo import bundled_weights

REFINEMENTS = ("none", "quarter", "hrnet", "dark", "dark-blur", "oks")


def trained(model: str, annotations: Path, tune: float | None, out: Path) -> None:
    checkpoint = load_checkpoint(bundled_weights().get(model, Path(model)))
    predictor = TorchPredictor(checkpoint.build(), checkpoint.codec, checkpoint.skeleton, flip=True)
    persons = load_coco(annotations)
    if tune is not None:
        persons = [p for p in persons if in_tune(p.image_path.name, tune)]
        content = json.loads(annotations.read_text())
        kept = {p.image_id for p in persons}
        content["images"] = [image for image in content["images"] if image["id"] in kept]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        annotations = out / "tune.json"
        annotations.write_text(json.dumps(content))
    maps: list[np.ndarray] = []

    def remember(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps.append(predictor.heatmaps(crops))
        return checkpoint.codec.decode(maps[-1])

    predict_persons(remember, persons, checkpoint.codec, batch_size=16)
    print(f"{model}, {len(persons)} persons of {len({p.image_id for p in persons})} images, flip-averaged")
    for refine in REFINEMENTS:
        codec = checkpoint.codec.model_copy(update={"refine": refine})
        stored = iter(maps)
        results = predict_persons(lambda _, s=stored, c=codec: c.decode(next(s)), persons, codec, batch_size=16)
        figures = evaluate_keypoints(results, annotations)
        print(f"  {refine:10} AP {figures['AP']:.4f}  AP50 {figures['AP50']:.4f}  AP75 {figures['AP75']:.4f}")


def coding() -> None:
    rng = np.random.default_rng(0)
    print("mean error in crop pixels of perfect flip-averaged maps, 192x256, sigma 2, 1700 joints")
    for name, (convention, _) in PUBLISHED.items():
        row = []
        for refine in REFINEMENTS:
            codec = Codec(convention=convention, refine=refine)
            errors = []
            for _ in range(100):
                xy = rng.uniform([20, 20], [170, 230], (17, 2))
                mirrored = np.stack([191 - xy[:, 0], xy[:, 1]], 1)[COCO17.flip_order]
                maps, flipped = codec.encode(xy, np.ones(17))[0], codec.encode(mirrored, np.ones(17))[0]
                merged = codec.merge_flipped(maps[None], flipped[None], COCO17.flip_order)
                errors.append(np.linalg.norm(codec.decode(merged)[0][0] - xy, axis=1))
            row.append(f"{refine} {np.mean(errors):.3f}")
        print(f"  {name:8} ({convention}): " + "  ".join(row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--tune", type=float)
    arguments = parser.parse_args()
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        trained(arguments.model, arguments.annotations, arguments.tune, Path(folder))
    coding()
