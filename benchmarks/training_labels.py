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

from autopose.files import write_atomic
from autopose.training.sources import in_tune

HERE = Path(__file__).resolve().parent
TUNE_SHARE = 0.06

#: A teacher's joint of less confidence is no truth to measure by.
LEAST_CONFIDENCE = 0.3


def select(source: Path, out: Path, keep: Callable[[dict[str, Any], str], dict[str, Any] | None]) -> None:
    """Write the persons of a COCO file that ``keep`` returns, given each and its picture's path; absolute paths."""
    content = json.loads(source.read_text())
    root = source.parent if (source.parent / content["images"][0]["file_name"]).exists() else source.parent.parent
    paths = {image["id"]: str((root / image["file_name"]).resolve()) for image in content["images"]}
    kept = [keep(record, paths[record["image_id"]]) for record in content["annotations"] if not record.get("iscrowd")]
    records = [record for record in kept if record]
    shown = {record["image_id"] for record in records}
    images = [{**image, "file_name": paths[image["id"]]} for image in content["images"] if image["id"] in shown]
    write_atomic(out, json.dumps({**content, "images": images, "annotations": records}))
    print(f"{out.name}: {len(records)} persons", flush=True)


def labelled(record: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Keep the persons with joints."""
    return record if record.get("num_keypoints") else None


def box_of_scene(record: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Keep boxes that are sure and large enough, without the joints they have."""
    sure = record["score"] >= 0.2 and record["bbox"][3] >= 36
    return {**record, "keypoints": [], "num_keypoints": 0} if sure else None


def held_stanford(record: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Keep held-out persons with twelve joints or more that two teachers agree on."""
    agreed = record.get("num_keypoints", 0) >= 12 and record.get("teachers") == "both"
    return record if agreed and in_tune(path, TUNE_SHARE) else None


def held_scenes(record: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Keep held-out persons with six joints or more that the teacher is sure of, and those joints only."""
    joints = list(record.get("keypoints") or ())
    for k in range(0, len(joints), 3):
        joints[k : k + 3] = [*joints[k : k + 2], 2] if joints[k + 2] >= LEAST_CONFIDENCE else [0, 0, 0]
    count = sum(v > 0 for v in joints[2::3])
    return {**record, "keypoints": joints, "num_keypoints": count} if count >= 6 and in_tune(path, TUNE_SHARE) else None


def held_lspet(record: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Keep held-out persons with six joints or more."""
    return record if record.get("num_keypoints", 0) >= 6 and in_tune(path, TUNE_SHARE) else None


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
    select(stanford, out / "held_stanford.json", held_stanford)
    select(scenes, out / "held_scenes.json", held_scenes)

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
    select(out / "lspet2.json", out / "held_lspet.json", held_lspet)
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
