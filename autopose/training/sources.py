"""From the configuration's sources to training and tune samples."""

import json
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from autopose.console import waiting
from autopose.data.annotations import is_coco, load_persons
from autopose.data.coco import nobody_from_coco, persons_from_coco
from autopose.data.coco_file import read_coco
from autopose.data.images import DiskReader, ImageReader, PackedReader, pack_images, picture_exists
from autopose.data.pasted import persons_to_paint
from autopose.data.places import DATA_VARIABLE, find_file, places
from autopose.data.posetrack import is_annotated
from autopose.data.scenes import Scene, merge_scenes, scenes_from_coco
from autopose.data.skeletons import open_skeleton
from autopose.errors import DataError
from autopose.files import write_atomic
from autopose.poses import Person
from autopose.skeleton import Skeleton
from autopose.training.config import Source, TrainConfig
from autopose.training.distributed import rank, wait

Sample = TypeVar("Sample", Person, Scene)


def find_annotations(name: str, synthetic_images: int, folder: Path) -> Path:
    """Return the annotation file that a source names, making the synthetic set if that is asked.

    Raises:
        DataError: it is nowhere.
    """
    if name == "synthetic":
        from autopose.data.synthetic import write_synthetic

        target = folder / f"synthetic-{synthetic_images}"
        ready = target / "annotations.json"
        if not ready.is_file():
            return write_synthetic(target, images=synthetic_images, seed=0, size_wh=(256, 256))
        return ready
    if (path := find_file(name)) is not None:
        return path
    raise DataError(
        f"No annotation file {name!r} (looked at {', '.join(map(str, places(name)))}).\n"
        f"Set {DATA_VARIABLE} to the folder that holds it, or name your own, in COCO's format:\n"
        """--set "data.sources=[{annotations='mine.json', images='photos'}]" """
        "(and --set data.tune_annotations=mine.json where the recipe has that).\n"
        "Or take --config smoke, which draws its figures."
    )


def image_folder(source: Source) -> Path | None:
    """Return the folder that a source names for its images, looked up in ``AUTOPOSE_DATA`` as annotations are."""
    if source.images is None:
        return None
    return next((path for path in places(source.images) if path.is_dir()), Path(source.images))


def tune_source(config: TrainConfig) -> Source:
    """Return the source whose held-out images are the tune split."""
    sources, name = config.data.sources, config.data.tune_annotations
    if name is None:
        return next(source for source in sources if not source.nobody)
    return next((source for source in sources if source.annotations == name), Source(annotations=name))


def name_for_split(paths: Iterable[Path]) -> Callable[[Path], str]:
    """Return what the parts of a set of pictures are told apart by: their file names, or the folders of videos' frames.

    Where most pictures have namesakes in other folders (``clip7/000012.jpg``), each folder is taken for a video: its
    frames resemble each other, so they belong into one part together.
    """
    different = set(paths)
    counts = Counter(path.name for path in different)
    frames = 2 * sum(count for count in counts.values() if count > 1) > len(different)
    return (lambda path: path.parent.name) if frames else (lambda path: path.name)


def _place(name: str) -> int:
    """Return where an image stands among a thousand places: a fixed hash of its name."""
    return zlib.crc32(os.fsencode(Path(name).name)) % 1000


def in_tune(name: str, share: float) -> bool:
    """Return whether an image belongs to the tune split: a fixed hash of its name (:func:`name_for_split`)."""
    return _place(name) < share * 1000


def nobody_held_out(path: Path, what: str, names: Iterable[str]) -> DataError:
    """Return the error of a tune split in which nothing can be scored.

    Args:
        path: of the annotations.
        what: is missing in it.
        names: of the pictures that could be scored, as :func:`name_for_split` has them.
    """
    places = {_place(name) for name in names}
    if len(places) < 2:  # no share leaves something in both parts
        few = "none is in the whole file" if not places else "what the file has cannot be split"
        return DataError(
            f"{path}: {what} is in the tune split, and {few}. Name another file with data.tune_annotations."
        )
    first = min(places)
    return DataError(
        f"{path}: {what} is in the tune split. Set data.tune_share to {(first + 1) / 1000:g} or more, or name another "
        "file with data.tune_annotations."
    )


def source_persons(
    source: Source, path: Path, skeleton: Skeleton, pseudo_weight: float
) -> tuple[list[Person], Callable[[Path], str]]:
    """Return the persons that a source asks for, or boxes that show nobody, and what its pictures are told apart by.

    That is :func:`name_for_split` of all pictures that the file lists, with labelled persons or without (other formats
    than COCO's list the former only): two parts of a file that are told apart differently would overlap.

    Raises:
        DataError: the file cannot be used.
    """
    images = image_folder(source)
    if is_coco(path) or source.nobody:
        file = read_coco(path, images=images)
        name_of = name_for_split(file.image_path(number) for number in file.images)
        if source.nobody:
            persons = nobody_from_coco(file, skeleton=skeleton, sample_weight=source.repeat)
        else:
            persons = persons_from_coco(
                file, skeleton=skeleton, pseudo_weight=pseudo_weight, sample_weight=source.repeat
            )
    else:
        persons = load_persons(path, images=images, skeleton=skeleton, sample_weight=source.repeat)
        name_of = name_for_split(person.image_path for person in persons)
    return [person for person in persons if _asked_for(person, source)], name_of


def _asked_for(person: Person, source: Source) -> bool:
    return source.contains in person.image_path.as_posix() and int((person.weight > 0).sum()) >= source.min_keypoints


def source_scenes(source: Source, path: Path) -> tuple[list[Scene], Callable[[Path], str]]:
    """Return the photographs of a source's file that it asks for, and what they are told apart by.

    Raises:
        DataError: the file cannot be used.
    """
    file = read_coco(path, images=image_folder(source))
    scenes = scenes_from_coco(file, sample_weight=source.repeat)
    name_of = name_for_split(file.image_path(number) for number in file.images)
    return [scene for scene in scenes if source.contains in scene.image_path.as_posix()], name_of


def training_part(
    samples: Sequence[Sample], name_of: Callable[[Path], str], path: Path, source: Source, config: TrainConfig
) -> list[Sample]:
    """Return the samples of a source that are not of the tune split.

    Args:
        samples: persons, or a detector's photographs, that pass the source's filters.
        name_of: what pictures are told apart by.
        path: of the annotations.
        source: the source.
        config: the recipe.

    Raises:
        DataError: there are none.
    """
    kept = [sample for sample in samples if not in_tune(name_of(sample.image_path), config.data.tune_share)]
    if kept:
        return kept
    what = "image" if config.task == "detector" else "person"
    if samples:
        raise DataError(
            f"{path}: every {what} of it is held out for the tune split (data.tune_share = "
            f"{config.data.tune_share:g}). Lower the share, or give more pictures."
        )
    raise DataError(f"{path}: no {what} is left after the filters of source {source.annotations!r}.")


def pose_persons(config: TrainConfig, skeleton: Skeleton, folder: Path) -> list[Person]:
    """Return the training persons of all sources, without those of tune images, each with its sample weight."""
    chosen: list[Person] = []
    for source in config.data.sources:
        path = find_annotations(source.annotations, config.data.synthetic_images, folder)
        persons, name_of = source_persons(source, path, skeleton, config.data.pseudo_weight)
        chosen += training_part(persons, name_of, path, source, config)
    return chosen


def detector_scenes(config: TrainConfig, folder: Path) -> list[Scene]:
    """Return the training photographs of all sources, without tune images; the first source of a photograph wins."""
    scenes: list[Scene] = []
    for source in config.data.sources:
        path = find_annotations(source.annotations, config.data.synthetic_images, folder)
        found, name_of = source_scenes(source, path)
        scenes = merge_scenes(scenes, training_part(found, name_of, path, source, config))
    return scenes


def persons_of_scenes(config: TrainConfig, scenes: Sequence[Scene], folder: Path) -> list[Person]:
    """Return the persons with joints of the detector's training photographs; none of sources that have boxes alone."""
    paths = {scene.image_path for scene in scenes}
    chosen: list[Person] = []
    for source in config.data.sources:
        path = find_annotations(source.annotations, config.data.synthetic_images, folder)
        persons = persons_to_paint(read_coco(path, images=image_folder(source)), sample_weight=source.repeat)
        chosen += [p for p in persons if p.image_path in paths and source.contains in p.image_path.as_posix()]
    return chosen


def write_tune_split(config: TrainConfig, folder: Path, out: Path | None = None) -> Path:
    """Write the held-out images of the tune annotations as a COCO file (``tune.json`` of the folder) and return it.

    Raises:
        DataError: the annotations are not COCO's or of another skeleton, their pictures are not found, or no picture,
            of a pose recipe no person with joints, is held out.
    """
    source = tune_source(config)
    path = find_annotations(source.annotations, config.data.synthetic_images, folder)
    if not is_coco(path):
        raise DataError(
            f"{path}: is not in COCO's format, which the tune split has to be in.\n"
            f"Convert it and train on that: autopose data convert {path} -o {path.stem}-coco.json. Or name another "
            "file, in COCO's format, with data.tune_annotations."
        )
    file = read_coco(path, images=image_folder(source))
    name_of = name_for_split(file.image_path(number) for number in file.images)
    names = {number: name_of(file.image_path(number)) for number, image in file.images.items() if is_annotated(image)}
    images = {
        number: {**file.images[number], "file_name": str(file.image_path(number).resolve())}
        for number, name in names.items()
        if in_tune(name, config.data.tune_share)
    }
    if not images:
        raise nobody_held_out(path, "no image", names.values())
    # Of the file itself, so that errors name it and its records rather than the split's.
    skeleton = open_skeleton(config.skeleton)
    if config.task == "pose" and not persons_from_coco(
        file, skeleton=skeleton, keep=lambda record: record["image_id"] in images
    ):
        persons = persons_from_coco(file, skeleton=skeleton, keep=lambda record: record["image_id"] in names)
        raise nobody_held_out(path, "no person with joints", (name_of(person.image_path) for person in persons))
    person = {"id": 1, "name": "person", **({"keypoints": list(file.joints)} if file.joints else {})}
    split = {
        "info": {"description": f"tune split of {path.name}: images with crc32(name) % 1000 < share"},
        "images": list(images.values()),
        "annotations": [record for record in file.annotations if record["image_id"] in images],
        "categories": [person],
    }
    out = out or folder / "tune.json"
    write_atomic(out, json.dumps(split))
    return out


def with_ignored_regions(split: Path) -> dict[str, Any]:
    """Return the content of a detector's tune split with its boxes as training sees them.

    What training ignores (doubtful boxes, crowds, what lies outside of the boxes of pictures that are not wholly
    labelled) becomes a crowd, which counts neither for nor against a detector.
    """
    file = read_coco(split, look=False)
    annotations = [
        {
            "id": number, "image_id": scene.image_id, "category_id": 1, "iscrowd": crowd,
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)], "area": float((x1 - x0) * (y1 - y0)),
        }
        for number, (scene, crowd, (x0, y0, x1, y1)) in enumerate(
            (scene, crowd, corners)
            for scene in scenes_from_coco(file)
            for crowd, boxes in ((0, scene.boxes), (1, scene.ignore))
            for corners in boxes
        )
    ]  # fmt: skip
    person = dict(file.category) or {"id": 1, "name": "person"}
    return {**file.about, "images": [*file.images.values()], "annotations": annotations, "categories": [person]}


def write_detector_tune_split(config: TrainConfig, folder: Path) -> Path:
    """Write a detector's tune split (:func:`with_ignored_regions`) and return it.

    Raises:
        DataError: as :func:`write_tune_split`, or no person's box is held out.
    """
    # By a file of this process's own: another one of the run may be a step behind, and would write over what is read.
    with tempfile.TemporaryDirectory() as own:
        content = with_ignored_regions(write_tune_split(config, folder, Path(own, "split.json")))
    if all(record["iscrowd"] for record in content["annotations"]):
        source = tune_source(config)
        path = find_annotations(source.annotations, config.data.synthetic_images, folder)
        file = read_coco(path, images=image_folder(source))
        name_of = name_for_split(file.image_path(number) for number in file.images)
        shown = [scene.image_path for scene in scenes_from_coco(file) if len(scene.boxes)]
        raise nobody_held_out(path, "no person's box", map(name_of, shown))
    write_atomic(tune := folder / "tune.json", json.dumps(content))
    return tune


def image_reader(pack: str | None, paths: Sequence[Path]) -> ImageReader:
    """Return a reader of the files, or of the pack, which is made (by rank 0) if it does not exist yet."""
    if pack is None:
        return DiskReader()
    file = Path(pack)
    if rank() == 0 and not file.is_file():
        waiting(f"Packing {len(paths):,} pictures into {file}, once ...")
        pack_images(paths, file)
    wait()
    reader = PackedReader(file)
    missing = next((path for path in paths if path not in reader), None)
    if missing is not None:
        raise DataError(f"{file}: does not hold {missing}. Delete the pack; the next run makes it anew.")
    return reader


def tune_reader(config: TrainConfig, reader: ImageReader, paths: Sequence[Path]) -> ImageReader:
    """Return what reads the tune pictures: the training's pack if it holds them all, else their files.

    Raises:
        DataError: one of them is in neither; better now than at the first evaluation.
    """
    if isinstance(reader, PackedReader) and all(path in reader for path in paths):
        return reader
    missing = [path for path in dict.fromkeys(paths) if not picture_exists(path)]
    if missing:
        raise DataError(
            f"{tune_source(config).annotations}: {len(missing)} of the tune split's pictures are missing, "
            f"{str(missing[0])!r} for one.\nPut them there, or take their records out of the file; "
            "'autopose data check DIR' finds all that are missing."
        )
    return DiskReader()
