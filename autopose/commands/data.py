"""``autopose data``: make, pack, check and convert data sets."""

from pathlib import Path
from typing import Annotated

import typer

#: Pixels of a drawn picture's side at most: x264 and OpenCV take some more, memory may not.
_LONGEST_SIDE = 8192

app = typer.Typer(
    name="data",
    help="Make, pack, check and convert data sets.\n\nExamples:\n\n    autopose data synthetic figures --images 500\n\n"
    "    autopose data check datasets/",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write into.")],
    images: Annotated[int, typer.Option(min=1, help="How many pictures, or frames of the clip.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels.")] = 0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Width and height, 32 to 8192.")] = "320x320",
    persons: Annotated[str, typer.Option(metavar="LOW-HIGH", help="Fewest and most persons per picture.")] = "1-3",
    video: Annotated[
        bool, typer.Option("--video", help="One clip of people walking round instead of pictures.")
    ] = False,
) -> None:
    """Draw articulated figures with exact COCO-17 annotations: images and annotations.json, or clip.mp4 and clip.json.

    Examples:
        autopose data synthetic figures --images 500 --seed 1

        autopose data synthetic clip --video --images 250 --size 640x360 --persons 3
    """
    from autopose.console import counted, progress
    from autopose.data.synthetic import write_synthetic
    from autopose.errors import UsageError

    size_wh = _pair(size, "x", "--size", "320x320")
    if not 32 <= min(size_wh) <= max(size_wh) <= _LONGEST_SIDE:
        raise UsageError(f"--size {size}: expected 32 to {_LONGEST_SIDE} pixels a side.")
    low, _, high = persons.partition("-")
    few, many = _pair(f"{low}-{high or low}", "-", "--persons", "1-3")
    if few > many:
        raise UsageError(f"--persons {persons!r}: expected the fewest first, for instance {many}-{few}.")
    if video:
        clip = _write_clip(out, images, seed, size_wh, many)
        print(f"{clip}: {counted(images, 'frame')}; {clip.with_suffix('.json')}: the true poses")
        return
    with progress(images, "pictures") as bar:
        path = write_synthetic(
            out, images=images, seed=seed, size_wh=size_wh, persons=(few, many), on_image=bar.advance
        )
    print(f"{path}: {counted(images, 'picture')}")


@app.command("pack")
def pack(
    annotations: Annotated[list[Path], typer.Argument(metavar="ANNOTATIONS.json...", help="COCO files.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")],
    images: Annotated[Path | None, typer.Option(help="Folder that 'file_name' is relative to.")] = None,
) -> None:
    """Decode all pictures of annotation files once into one file, from which training reads without decoding.

    Examples:
        autopose data pack train.json -o train.pack

        autopose data pack a.json b.json --images pictures/ -o both.pack
    """
    from autopose.console import counted, progress
    from autopose.data.coco_file import read_coco
    from autopose.data.images import pack_images

    files = [read_coco(path, images=images) for path in annotations]
    paths = list(dict.fromkeys(file.image_path(image_id) for file in files for image_id in file.images))
    with progress(len(paths), "pictures") as bar:
        pack_images(paths, out, on_image=lambda _: bar.advance())
    print(f"{out}: {counted(len(paths), 'picture')}, {out.stat().st_size / 1e6:.0f} MB")


@app.command("crops")
def crops(
    config: Annotated[str, typer.Argument(metavar="RECIPE", help="A packaged recipe's name or a TOML file.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to write into.")],
    file_mb: Annotated[int, typer.Option(min=1, help="Largest file, in megabytes.")] = 60,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; may be repeated.")
    ] = None,
) -> None:
    """Cut the persons of a pose recipe out of their pictures, into files to carry: all that its training reads.

    On a machine with a GPU 'autopose train ... --set data.crops=DIR' keeps them on it, and varies
    them there.

    Examples:
        autopose data crops default-pose -o crops

        autopose data crops small --set "data.sources=[{annotations='mine.json', images='photos'}]" -o crops
    """
    from autopose.config import load_config
    from autopose.console import counted, progress
    from autopose.errors import require

    require("torch", extra="train", why="Reading a recipe")
    from autopose.training.config import TrainConfig
    from autopose.training.write_crops import write_crops_of

    recipe = load_config(TrainConfig, config, settings or (), group="train")
    with progress(None, "persons") as bar:
        files = write_crops_of(recipe, out, largest=file_mb * 1_000_000, on_start=bar.resize, on_person=bar.advance)
    print(f"{out}: {counted(len(files), 'file')}, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB")


@app.command("check")
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="Folder with annotations and pictures, or one annotation file.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="See whether pictures are there, but do not decode them.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the files' names of pictures are relative to.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the findings here; -: print them alone.")
    ] = None,
) -> None:
    """Look over a data folder: annotation files, counts, missing or broken pictures, wrong records, what to download.

    The exit code is 1 if something is wrong, or if there is nothing.

    Examples:
        autopose data check datasets/

        autopose data check mine.json --images photos --quick --json findings.json
    """
    import json

    from autopose.console import counted, progress
    from autopose.data.preflight import check_folder
    from autopose.files import write_atomic

    total = 0
    with progress(None, "pictures") as bar:

        def more(count: int) -> None:  # of the next file: what the others hold is known when they are read
            nonlocal total
            bar.resize(total := total + count)

        reports, absent = check_folder(folder, images=images, decode=not quick, on_start=more, on_image=bar.advance)
    for report in reports:
        joints = f" of {report.skeleton}" if report.skeleton else ""
        found = f"{counted(report.images, 'image')}, {counted(report.persons, 'person')}"
        print(f"{report.annotations}: {report.kind}, {found}{joints}")
        if report.joints:
            print(f"  joints of its own, a/b where they change places in a mirror image: {', '.join(report.joints)}")
            if len(report.joints) > 1 and not any("/" in joint for joint in report.joints):
                print("  None does: name left and right ones so (left_ear, right_ear), or give 'pairs' (docs/data.md).")
        for fault, count in report.faults.items():
            print(f"  {count:,} x {fault}:")
            for sentence in report.examples[fault]:
                print("    " + sentence.replace("\n", "\n    "))
    if not reports:
        print(
            f"{folder}: holds no annotations that autopose knows (COCO's format, MPII, LSP, OCHuman, YOLO-pose with "
            "its YAML file, labelme, DeepLabCut, detections)."
        )
    for published in absent:
        print(f"Not here: {published.name}; {published.terms}")
        for step in published.steps:
            print("  " + step.format(root=folder))
    if json_out is not None:
        content = {"sets": [r.to_dict() for r in reports], "absent": [published.name for published in absent]}
        write_atomic(json_out, json.dumps(content, indent=1) + "\n")
    if not reports or any(report.faults for report in reports):
        raise typer.Exit(1)


@app.command("convert")
def convert(
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="Of any known format.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.json", help="COCO file to write.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="SKELETON", help="Joints to write, a name or JSON file; the file's own if not given."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures.")] = None,
    middles: Annotated[
        bool, typer.Option("--middles", help="Guess pelvis and neck between hips and shoulders.")
    ] = False,
) -> None:
    """Write annotations of any known format in COCO's, with another skeleton if asked.

    Besides COCO's: MPII, LSP, OCHuman; YOLO-pose (the YAML file: all its splits; or the folder of a split's labels),
    labelme (the folder of its JSON files) and DeepLabCut (CollectedData_*.csv, or the folder of the project); and
    what 'autopose infer' found in pictures (RESULT.json), as drafts to be corrected in a label tool.

    Of a COCO file and of YOLO pictures that show nobody stay, of a COCO file also ids and crowds. Other formats, and
    folders of COCO files, list labelled persons only: their pictures say "complete": false.

    Examples:
        autopose data convert lsp/joints.mat -o lsp.json

        autopose data convert crowdpose_train.json --to coco17 -o crowdpose17.json

        autopose data convert yolo/data.yaml -o mine.json

        autopose data convert autopose-out/photos.json -o drafts.json
    """
    from collections import Counter

    from autopose.console import counted, progress
    from autopose.data.conversion import convert_coco, convert_persons, load_native, read_records, write_coco
    from autopose.data.skeletons import open_skeleton, skeleton_of
    from autopose.errors import DataError

    target = open_skeleton(to) if to is not None else None
    if (file := read_records(annotations, images=images)) is not None:
        target = target or skeleton_of(file)
        with progress(len(file.annotations), "records") as bar:
            count = convert_coco(file, target, out, middles=middles, on_record=bar.advance)
        print(f"{out}: {counted(len(file.images), 'picture')}, {counted(count, 'person')} with {target.name}")
        splits = Counter(str(image["split"]) for image in file.images.values() if "split" in image)
        if annotations.suffix.lower() != ".json" and len(splits) > 1:
            listed = ", ".join(f"{pictures} of {split}" for split, pictures in splits.items())
            print(f"  {listed}, together; name the folder of a split's labels to have that one alone")
        return
    persons = load_native(annotations, images=images)
    if target is not None:
        persons = convert_persons(persons, target, middles=middles)
    if not persons:
        raise DataError(f"{annotations}: no person is left to write.")
    with progress(len({person.image_path for person in persons}), "pictures") as bar:
        write_coco(persons, out, on_image=bar.advance)
    print(f"{out}: {counted(len(persons), 'person')} with {persons[0].skeleton.name}")


def _pair(text: str, separator: str, option: str, example: str) -> tuple[int, int]:
    from autopose.errors import UsageError

    first, _, second = text.partition(separator)
    if not (first.isdecimal() and second.isdecimal()):
        raise UsageError(f"{option} {text!r}: expected two whole numbers, for instance {example}.")
    return int(first), int(second)


def _write_clip(out: Path, frames: int, seed: int, size_wh: tuple[int, int], persons: int) -> Path:
    """Write ``clip.mp4`` and its true poses as a results file, ``clip.json``."""
    import json
    from fractions import Fraction

    from autopose.console import progress
    from autopose.data.synthetic import synthetic_clip
    from autopose.files import write_atomic
    from autopose.results import frame_record, results_header
    from autopose.runtime.video_writer import VideoWriter
    from autopose.skeleton import COCO17

    path, fps = out / "clip.mp4", 25
    writer = VideoWriter(path, size_wh, fps=Fraction(fps), time_base=Fraction(1, fps))
    records = []
    try:
        with progress(frames, "frames") as bar:
            for number, (image, poses) in enumerate(
                synthetic_clip(frames, size_wh=size_wh, persons=persons, seed=seed)
            ):
                writer.write(image, number)
                records.append(frame_record(poses, number, number / fps))
                bar(number + 1)
    finally:
        writer.close()
    source = {"kind": "video", "path": str(path), "fps": fps}
    content = {**results_header(COCO17, source, {"name": "synthetic truth"}), "frames": records}
    write_atomic(path.with_suffix(".json"), json.dumps(content) + "\n")
    return path
