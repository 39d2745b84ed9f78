"""Make all labels that the bundled pose models learn from beyond those of the data sets, and a pack of the pictures.

Usage: python benchmarks/training_labels.py DATA OUT [--jobs N]

DATA is the folder with ``pose/train.json``, ``pose/stanford40.json``, ``scenes/teacher.json`` and ``weights/``. OUT
gets the files that the recipes name (docs/models/fast-phase14.toml), and the held-out sets of the models' cards:
``held_stanford.json``, ``held_scenes.json``, ``held_lspet.json``. What OUT holds already is not made again. Most of the
time is the teacher's (teacher_labels.py): hours of one core.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from autopose.data.coco import MIN_CONFIDENCE
from autopose.data.coco_file import read_coco
from autopose.files import write_atomic
from autopose.skeleton import COCO17
from autopose.training.sources import in_tune

HERE = Path(__file__).resolve().parent
TUNE_SHARE = 0.06

Record = dict[str, Any]


def select(source: Path, out: Path, keep: Callable[[Record], Record | None], *, held: bool = False) -> None:
    """Write the persons of a COCO file that ``keep`` returns, of held-out pictures only if asked; absolute paths."""
    file = read_coco(source)
    paths = {number: file.image_path(number).resolve() for number in file.images}
    offered = [
        dict(record)
        for record in file.annotations
        if not record.get("iscrowd") and (not held or in_tune(paths[record["image_id"]].name, TUNE_SHARE))
    ]
    records = [kept for record in offered if (kept := keep(record))]
    shown = {record["image_id"] for record in records}
    content = {
        "info": {"description": f"{out.stem} of {source.name}"},
        "images": [
            {**file.images[number], "file_name": str(paths[number])} for number in file.images if number in shown
        ],
        "annotations": records,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}],
    }
    write_atomic(out, json.dumps(content))
    print(f"{out.name}: {len(records)} persons", flush=True)


def labelled(record: Record) -> Record | None:
    """Keep the persons with joints."""
    return record if record.get("num_keypoints") else None


def box_of_scene(record: Record) -> Record | None:
    """Keep boxes that are sure and large enough, without the joints they have."""
    sure = record["score"] >= 0.2 and record["bbox"][3] >= 36
    return {**record, "keypoints": [], "num_keypoints": 0} if sure else None


def surely_labelled(record: Record) -> Record | None:
    """Keep persons with twelve joints or more that two teachers agree on."""
    return record if record.get("num_keypoints", 0) >= 12 and record.get("teachers") == "both" else None


def surely_taught(record: Record) -> Record | None:
    """Keep persons with six joints or more that the teacher is sure of, and those joints only."""
    joints = list(record.get("keypoints") or ())
    for k in range(0, len(joints), 3):
        joints[k : k + 3] = [*joints[k : k + 2], 2] if joints[k + 2] >= MIN_CONFIDENCE else [0, 0, 0]
    return six_joints({**record, "keypoints": joints, "num_keypoints": sum(v > 0 for v in joints[2::3])})


def six_joints(record: Record) -> Record | None:
    """Keep persons with six joints or more."""
    return record if record.get("num_keypoints", 0) >= 6 else None


def make(out: Path, script: str, *arguments: object) -> None:
    """Run a script of this folder that writes ``out``, unless that is there."""
    if out.exists():
        return
    part = out.with_name(f"making-{out.name}")
    words = [str(part) if argument is out else str(argument) for argument in arguments]
    subprocess.run([sys.executable, str(HERE / script), *words], check=True, stderr=subprocess.DEVNULL)
    os.replace(part, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="how many run at once, one thread each")
    options = parser.parse_args()
    data, out = options.data.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    train, stanford, scenes = data / "pose/train.json", data / "pose/stanford40.json", data / "scenes/teacher.json"
    teacher, yolox = data / "weights/movenet_thunder_256.onnx", data / "weights/yolox_nano.onnx"
    select(stanford, out / "labelled.json", labelled)
    select(scenes, out / "boxes.json", box_of_scene)
    select(stanford, out / "held_stanford.json", surely_labelled, held=True)
    select(scenes, out / "held_scenes.json", surely_taught, held=True)

    def taught(name: str, source: Path, *words: object) -> None:
        make(file := out / name, "teacher_labels.py", teacher, source, file, *words)

    def nobody(name: str, source: Path, least: float) -> None:
        boxes = out / f"boxes-{name}"
        make(boxes, "nobody_boxes.py", source, boxes, "--second", yolox, "--least-score", least)
        taught(name, boxes, "--nobody", 0.25)

    jobs: list[Callable[[], None]] = [
        lambda: taught("stanford40-filled.json", out / "labelled.json"),
        lambda: nobody("nobody_stanford.json", stanford, 0.15),
        lambda: nobody("nobody_scenes.json", scenes, 0.1),
        lambda: taught("scenes2.json", out / "boxes.json", "--relabel"),
        lambda: taught("stanford40-rest.json", stanford, "--without-joints"),
        lambda: taught("lspet2.json", train, "--refine", "--contains", "lspet"),
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()
    select(out / "lspet2.json", out / "held_lspet.json", six_joints, held=True)
    command = [sys.executable, "-m", "autopose", "data"]
    if not (out / "syn/annotations.json").exists():
        figures = ["--images", "1500", "--seed", "7", "--size", "256x256"]
        subprocess.run([*command, "synthetic", str(out / "syn"), *figures], check=True)
    if not (out / "images2.pack").exists():
        names = ("stanford40-filled", "stanford40-rest", "scenes2", "lspet2", "nobody_scenes", "nobody_stanford")
        files = [str(train), *(str(out / f"{name}.json") for name in names), str(out / "syn/annotations.json")]
        subprocess.run([*command, "pack", *files, "-o", str(out / "images2.pack")], check=True)


if __name__ == "__main__":
    main()
