"""Measure trained weights, then write them with their figures and card as a bundled model.

python benchmarks/model_card.py RUN NAME --notes NOTES.md       (AUTOPOSE_DATA names the folder of evaluation sets)

NOTES.md becomes the card's text on data, recipe and known failures; the figures are measured here, with flip averaging
and ground-truth boxes for pose models, and put above it. Of a detector three graphs are bundled, and measured as they
run: ``NAME``, which looks twice, ``detector-fast``, which looks once, and ``detector-best``, which looks at the mirror
image as well; the latter two have short cards of their own, which are written by hand.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from autopose.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from autopose.commands.scored_models import run_detector
from autopose.data.coco import load_coco
from autopose.data.pose_dataset import PoseDataset
from autopose.evaluation.coco import DRAWS, evaluate_boxes, evaluate_keypoints
from autopose.evaluation.predict import predict_persons
from autopose.export.bundle import bundle, write_figures
from autopose.export.recipe import GraphOptions
from autopose.files import write_atomic
from autopose.models.cost import profile
from autopose.training.predictor import TorchPredictor
from autopose.zoo import zoo_folder

#: The graph that looks twice: chosen on held-out images, see the cards.
TWO_LOOKS = GraphOptions(looks=2, input_wh=(576, 448))
#: The further graphs of the same weights.
OTHER_LOOKS = {"detector-fast": GraphOptions(), "detector-best": replace(TWO_LOOKS, looks=4)}
COCO_SUBSET, BODY_SET = "pose/val.json", "pose/lspet_val.json"


def rounded_to_half(checkpoint: Checkpoint) -> Checkpoint:
    """Return the weights as they are bundled."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "half.safetensors", checkpoint, half=True)
        return load_checkpoint(Path(folder) / "half.safetensors")


def reliable_body_set(data: Path, folder: Path) -> Path:
    """Write the LSPET evaluation persons whose labels a second model agrees with (mv_agree >= 0.75)."""
    content = json.loads((data / BODY_SET).read_text())
    content["annotations"] = [a for a in content["annotations"] if a["mv_agree"] >= 0.75]
    kept = {a["image_id"] for a in content["annotations"]}
    content["images"] = [i for i in content["images"] if i["id"] in kept]
    for image in content["images"]:
        image["file_name"] = str(data / image["file_name"])
    out = folder / "lspet.json"
    out.write_text(json.dumps(content))
    return out


def with_interval(figures: dict[str, float]) -> dict[str, Any]:
    """Return a table's row: the figures rounded, the ends of AP's interval together."""
    ends = [round(figures.pop(key), 3) for key in ("AP_low", "AP_high") if key in figures]
    row: dict[str, Any] = {key: round(value, 4) for key, value in figures.items()}
    return row | ({"AP 95 % interval": ends} if ends else {})


def pose_figures(checkpoint: Checkpoint, data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return headline figures and the full tables of a pose model."""
    network = checkpoint.build()
    tables: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            "86-image COCO subset": data / COCO_SUBSET,
            "LSPET body-only subset, mv_agree >= 0.75": reliable_body_set(data, Path(folder)),
        }
        for title, annotations in sets.items():
            persons = load_coco(annotations)
            for flip in (True, False):
                predictor = TorchPredictor(network, checkpoint.codec, checkpoint.skeleton, flip=flip)
                results = predict_persons(predictor, persons, checkpoint.codec)
                figures = evaluate_keypoints(results, annotations, draws=DRAWS if flip else 0)
                row = with_interval(figures)
                row["persons"] = len(persons)
                tables[f"{title}, {'flip' if flip else 'no flip'}"] = row
    best = tables["86-image COCO subset, flip"]
    return {"AP on an 86-image COCO val2017 subset, gt boxes, flip": best["AP"]}, tables


def detector_figures(graph: Path, data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return headline figures and the full table of an exported detector."""
    annotations = data / COCO_SUBSET
    results = run_detector(str(graph), annotations, device="cpu", threads=1)
    row = with_interval(evaluate_boxes(results, annotations, complete_only=True, draws=DRAWS))
    title = "complete images of an 86-image COCO val2017 subset"
    return {f"AP50 on {title}": row["AP50"]}, {f"`{graph.stem}`, {title}": row}


def latency_ms(graph: Path, repeats: int = 30) -> float:
    """Return the median time of one run of one image on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    images = np.zeros((1, *session.get_inputs()[0].shape[1:]), np.uint8)
    times = []
    for _ in range(repeats + 5):
        start = time.perf_counter()
        session.run(None, {"images": images})
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[5:])


def table(rows: dict[str, Any]) -> str:
    """Return Markdown."""
    keys = [key for key in next(iter(rows.values())) if key != "AP 95 % interval"]
    lines = [f"| set | {' | '.join(keys)} | AP, 95 % interval |", "|" + "---|" * (len(keys) + 2)]
    for title, row in rows.items():
        interval = "{} to {}".format(*row["AP 95 % interval"]) if "AP 95 % interval" in row else ""
        lines.append(f"| {title} | {' | '.join(str(row[key]) for key in keys)} | {interval} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, export, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--input", type=int, nargs=2, help="another input size (detectors)")
    arguments = parser.parse_args()
    if not os.environ.get("AUTOPOSE_DATA"):
        parser.error(f"AUTOPOSE_DATA is not set; expected the folder that holds {COCO_SUBSET} and {BODY_SET}.")
    data = Path(os.environ["AUTOPOSE_DATA"])
    torch.set_num_threads(1)

    checkpoint = rounded_to_half(load_checkpoint(checkpoint_path(arguments.run)))
    if arguments.input:
        from dataclasses import replace

        size = (arguments.input[0], arguments.input[1])
        checkpoint = replace(checkpoint, codec=checkpoint.codec.model_copy(update={"input_size_wh": size}))
    pose = checkpoint.task == "pose"
    headline, tables = pose_figures(checkpoint, data) if pose else ({}, {})
    crops = None
    if pose:
        dataset = PoseDataset(load_coco(data / COCO_SUBSET)[:16], checkpoint.codec)
        crops = np.stack([dataset.sample(i, np.random.default_rng(0)).crop for i in range(16)])
    width, height = checkpoint.codec.input_size_wh
    cost = profile(checkpoint.build(), (width, height))
    folder = zoo_folder()
    graphs = None if pose else {arguments.name: TWO_LOOKS, **OTHER_LOOKS}
    # Without its card at first: that states the times of the graphs.
    written = bundle(checkpoint, arguments.name, folder, figures=headline, card="", graphs=graphs, crops=crops)
    exported = [path for path in written if path.suffix == ".onnx"]
    if not pose:
        for graph in exported:
            figures, table_of_graph = detector_figures(graph, data)
            tables |= table_of_graph
            shared = None if graph.stem == arguments.name else arguments.name
            write_figures(folder, graph.stem, "detector", figures, weights=shared)
    load = os.getloadavg()[0]
    times = {path.name: latency_ms(path) for path in exported}
    # What a user wants to know stands before the first heading, and comes first.
    short, heading, notes = arguments.notes.read_text().strip().partition("## ")
    lines = [
        f"# {arguments.name}",
        "",
        (
            f"{'Pose network' if pose else 'Person detector'}, genotype `{checkpoint.genotype.name}` "
            f"({checkpoint.genotype.fingerprint()}), input {width}x{height}, {cost.params:,} parameters, "
            f"{cost.macs_gi:.2f} Gi MACs (MACs / 1024^3)."
        ),
        "",
        *([short.strip(), ""] if short.strip() else []),
        "## Figures",
        "",
        "Measured by `benchmarks/model_card.py` with the bundled FP16-rounded weights"
        + (", ground-truth boxes" if pose else "")
        + ". None of these is COCO val2017 as a whole; the intervals come from redrawing images.",
        "",
        table(tables),
        "",
        f"Time of one run, one thread, median of 30, {platform.processor() or platform.machine()}, ONNX Runtime "
        f"{onnxruntime.__version__}, load of {load:.1f} on {os.cpu_count()} cores: "
        + ", ".join(f"`{name}` {value:.1f} ms" for name, value in times.items())
        + ".",
        "",
        heading + notes,
        "",
    ]
    card = "\n".join(lines)
    write_atomic(folder / f"{arguments.name}.md", card)
    print(card)


if __name__ == "__main__":
    main()
