"""The persons of a recipe, cut out for :mod:`autopose.data.crop_archive`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from autopose.data.coco import persons_from_coco
from autopose.data.coco_file import read_coco, reading_once
from autopose.data.crop_archive import LARGEST, fits_int64, name_set, write_crops
from autopose.data.skeletons import open_skeleton
from autopose.errors import UsageError
from autopose.poses import Person
from autopose.training.config import TrainConfig
from autopose.training.sources import image_reader, pose_persons, tune_reader, write_tune_split


@reading_once()
def write_crops_of(
    config: TrainConfig,
    out: Path,
    *,
    largest: int = LARGEST,
    on_start: Callable[[int], object] = lambda _: None,
    on_person: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Write what training by this recipe reads, and return the files.

    Args:
        config: a pose recipe.
        out: folder.
        largest: bytes of a file.
        on_start: called with the number of persons, for progress.
        on_person: called after each.

    Raises:
        UsageError: the recipe is a detector's, or ``out`` holds crops already.
        DataError, MediaError: the recipe's data cannot be used.
    """
    if config.task != "pose":
        raise UsageError("Crops are of persons: name a recipe with task = 'pose'. A detector wants whole photographs.")
    if any(path for name in ("train", "tune") for path in out.glob(f"{name}-*.safetensors")):
        raise UsageError(f"{out}: holds crops already. Name another folder with -o, or delete them.")
    skeleton = open_skeleton(config.skeleton)
    with TemporaryDirectory() as folder:  # for drawn figures, where the recipe asks for them
        tune = write_tune_split(config, Path(folder))
        held_out = persons_from_coco(read_coco(tune, look=False), skeleton=skeleton)
        persons = pose_persons(config, skeleton, Path(folder))
        on_start(len(persons) + len(held_out))
        reader = image_reader(config.data.pack, [person.image_path for person in persons])
        of_tune = tune_reader(config, reader, [person.image_path for person in held_out])
        size_wh, named = config.codec.input_size_wh, name_set([*persons, *held_out], config.codec.input_size_wh)
        held_out, coco = _numbered(held_out, tune)
        files = write_crops(
            held_out, out, "tune", size_wh, coco=coco, name_of_set=named, reader=of_tune, largest=largest,
            on_person=on_person,
        )  # fmt: skip
        try:
            return files + write_crops(
                persons, out, "train", size_wh, name_of_set=named, reader=reader, largest=largest, on_person=on_person
            )  # fmt: skip
        except BaseException:  # Ctrl-C, too: half of what training reads is of no use
            for file in files:
                file.unlink(missing_ok=True)
            raise


def _numbered(persons: list[Person], tune: Path) -> tuple[list[Person], bytes]:
    """Return the persons of a tune split, and it, its pictures numbered where their ids are no numbers of 64 bits.

    Nor do the folders of the machine that writes belong where the files are carried to.
    """
    content = json.loads(tune.read_bytes())
    kept = all(fits_int64(image["id"]) for image in content["images"])
    number = {image["id"]: image["id"] if kept else place for place, image in enumerate(content["images"], 1)}
    for image in content["images"]:
        image |= {"id": number[image["id"]], "file_name": Path(image["file_name"]).name}
    for record in content["annotations"]:
        record["image_id"] = number[record["image_id"]]
    return [replace(person, image_id=number[person.image_id]) for person in persons], json.dumps(content).encode()
