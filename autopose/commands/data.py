"""``autopose data``: make, pack and check data sets."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="data",
    help="Make, pack and check data sets.\n\nExamples:\n\n    autopose data synthetic figures --images 500\n\n"
    "    autopose data check datasets/",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write into.")],
    images: Annotated[int, typer.Option(min=1, help="How many pictures, or frames of the clip.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels.")] = 0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Width and height of the pictures.")] = "320x320",
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
    from autopose.console import progress
    from autopose.data.synthetic import write_synthetic

    size_wh = _pair(size, "x", "--size", "320x320")
    low, _, high = persons.partition("-")
    few, many = _pair(f"{low}-{high or low}", "-", "--persons", "1-3")
    if video:
        clip = _write_clip(out, images, seed, size_wh, many)
        print(f"{clip}: {images} frames; {clip.with_suffix('.json')}: the true poses")
        return
    with progress(images, "pictures") as bar:
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            bar(done)

        path = write_synthetic(out, images=images, seed=seed, size_wh=size_wh, persons=(few, many), on_image=advance)
    print(f"{path}: {images} pictures")


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
    from autopose.console import progress
    from autopose.data.coco_file import read_coco
    from autopose.data.images import pack_images

    files = [read_coco(path, images=images) for path in annotations]
    paths = list(dict.fromkeys(file.image_path(image_id) for file in files for image_id in file.images))
    with progress(len(paths), "pictures") as bar:
        done = 0

        def advance(_: Path) -> None:
            nonlocal done
            done += 1
            bar(done)

        pack_images(paths, out, on_image=advance)
    print(f"{out}: {len(paths)} pictures, {out.stat().st_size / 1e6:.0f} MB")


def _pair(text: str, separator: str, option: str, example: str) -> tuple[int, int]:
    from autopose.errors import UsageError

    first, _, second = text.partition(separator)
    if not (first.isdigit() and second.isdigit()):
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
