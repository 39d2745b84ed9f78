"""Rehearse a recipe without its data: check the files, build the network, take one step on synthetic data, estimate."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint
from autopose.data.coco import persons_from_coco
from autopose.data.coco_file import read_coco, reading_once
from autopose.data.crop_set import draws_per_epoch
from autopose.data.images import DiskReader, ImageReader, PackedReader
from autopose.data.mpii import is_mpii
from autopose.data.pasted import persons_to_paint
from autopose.data.skeletons import open_skeleton
from autopose.errors import AutoposeError, DataError
from autopose.genotype import Genotype
from autopose.models.center import head_stride
from autopose.models.network import build_network
from autopose.skeleton import Skeleton
from autopose.training.bfloat16 import autocast, in_bfloat16
from autopose.training.config import Source, TrainConfig
from autopose.training.distill import load_teacher
from autopose.training.fit import check_fit
from autopose.training.initialisation import initialise
from autopose.training.mpii_task import held_out_persons
from autopose.training.optimizer import make_optimizer
from autopose.training.sources import (
    find_annotations,
    image_folder,
    source_persons,
    source_scenes,
    training_part,
    tune_reader,
    tune_source,
    write_detector_tune_split,
    write_tune_split,
)
from autopose.training.tasks import Batch, detector_loss, pose_loss

#: What the files that recipes name hold, for estimates where one is not there: persons are those with joints.
PUBLISHED = {
    "coco/annotations/person_keypoints_train2017.json": {"images": 118_287, "persons": 149_813},
    "mpii/annot/train.json": {"images": 14_679, "persons": 22_246},
}
GIB = 1024**3
#: A CPU step is taken with one sample above this cost, two below: enough for shapes and for a rate.
LARGE_MACS = 3e9


@reading_once()
def dry_run(genotype: Genotype, config: TrainConfig, init: Checkpoint | None = None) -> dict[str, Any]:
    """Return what training this genotype by this recipe would be and cost, after one real step on synthetic data.

    On a GPU the step has the recipe's batch; on a CPU one or two samples, and activations and time are scaled up.

    Args:
        genotype: the network.
        config: the recipe.
        init: weights that training would start from.

    Returns:
        ``input`` and ``output`` shapes, ``params``, ``macs``, ``macs_gi``, ``data`` (each annotation file: found or
        what is missing; images of a detector, else persons), ``problems`` (sentences: what would keep ``train`` from
        starting; that a published set is not here is none), ``samples`` per epoch, ``batch``, ``steps``, ``memory_gib``
        (weights with gradients, optimiser and average; activations of a whole batch), ``step`` (device, batch, seconds
        of it, loss) and ``hours`` on this machine with nothing else running, evaluation and loading not counted.
        ``hours`` and ``steps`` are None if the number of samples is not known.

    Raises:
        ConfigError: genotype and recipe do not fit, see :func:`autopose.training.fit.check_fit`; or the weights do not.
    """
    skeleton = open_skeleton(config.skeleton)
    cost = check_fit(genotype, config)
    torch.manual_seed(config.train.seed)
    network = build_network(genotype, len(skeleton))
    if init is not None:
        initialise(network, init, genotype, skeleton)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = config.train.batch if device.type == "cuda" else (1 if cost.macs > LARGE_MACS else 2)
    network = network.to(device)
    if config.train.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = _step(network, genotype, config, skeleton, count, device)
    data, samples = _data(config, skeleton)
    batch = config.train.batch
    steps = config.train.steps
    if steps is None and samples is not None:
        steps = config.train.epochs * max(round(samples / batch), 1)
    values = sum(p.numel() for p in network.parameters())
    copies = 2 + (1 if config.train.ema else 0)  # weights, gradients, the average
    per_value = 4 * copies + (2 if in_bfloat16(config.train.amp, device) else 0)
    weights_gib = (per_value * values + step.pop("optimizer_bytes")) / GIB
    activations_gib = step.pop("saved_bytes") / count * batch / GIB
    width, height = config.codec.input_size_wh
    return {
        "genotype": genotype.name,
        "fingerprint": genotype.fingerprint(),
        "task": config.task,
        "skeleton": skeleton.name,
        "input": [3, height, width],
        "output": list(cost.output),
        "params": cost.params,
        "macs": cost.macs,
        "macs_gi": round(cost.macs_gi, 3),
        "data": data,
        "problems": _problems(config, data),
        "samples": samples,
        "batch": batch,
        "steps": steps,
        "memory_gib": {
            "weights": round(weights_gib, 4),
            "activations": round(activations_gib, 4),
            "total": round(weights_gib + activations_gib, 4),
        },
        "step": step,
        "hours": None if steps is None else round(step["seconds"] / count * batch * steps / 3600, 1),
    }


def _step(
    network: nn.Module, genotype: Genotype, config: TrainConfig, skeleton: Skeleton, count: int, device: torch.device
) -> dict[str, Any]:
    """Take one optimiser step (a second, timed, where it is cheap) and count what is kept for the backward pass."""
    rng = np.random.default_rng(config.train.seed)
    batch = _batch(config, skeleton, count, rng)
    teacher = load_teacher(config, device)
    optimizer = make_optimizer(network, config.train)
    own = {parameter.data_ptr() for parameter in network.parameters()}
    shapes = {parameter.shape for parameter in network.parameters() if parameter.ndim > 1}
    half = in_bfloat16(config.train.amp, device)
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Autocast's copies of the weights are there once, whatever the batch.
        copied = half and tensor.dtype == torch.bfloat16 and tensor.shape in shapes
        if tensor.data_ptr() not in own and not copied:
            saved[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    network.train()
    for attempt in range(2):
        started, used = time.perf_counter(), time.process_time()
        with (
            autocast(config.train.amp, device),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            if config.task == "pose":
                loss = pose_loss(network, batch, config, device, teacher)
            else:
                loss = detector_loss(network, batch, config, head_stride(genotype), device)
        if attempt == 0:
            saved_bytes = sum(saved.values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        value = float(loss.detach())  # waits for the device
        seconds = time.perf_counter() - started
        if device.type == "cpu":  # processor time, so that other programs on the machine do not count
            seconds = min(seconds, (time.process_time() - used) / torch.get_num_threads())
        if seconds > 1:
            break
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "batch": count,
        "seconds": round(seconds, 4),
        "loss": value,
        "saved_bytes": saved_bytes,
        "optimizer_bytes": sum(
            value.nbytes for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
        ),
    }


def _batch(config: TrainConfig, skeleton: Skeleton, count: int, rng: np.random.Generator) -> Batch:
    """Return random pictures with joints, or a person's box, anywhere in them."""
    width, height = config.codec.input_size_wh
    pictures = torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), np.uint8))
    if config.task == "pose":
        xy = torch.from_numpy(rng.uniform(0, (width - 1, height - 1), (count, len(skeleton), 2)).astype(np.float32))
        return pictures, xy, torch.ones(count, len(skeleton))
    box = torch.tensor([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
    return pictures, [box] * count, [torch.ones(1)] * count, [torch.zeros(0, 4)] * count


def _data(config: TrainConfig, skeleton: Skeleton) -> tuple[list[dict[str, Any]], int | None]:
    """Return what is known of each source, and the samples drawn per epoch (None if a source's size is not known)."""
    if config.data.crops is not None:
        return _crops(Path(config.data.crops), skeleton, config.codec.input_size_wh)
    found, samples = [], 0.0
    counted = "images" if config.task == "detector" else "persons"
    for source in config.data.sources:
        entry = _source(source, counted, config, skeleton)
        found.append(entry)
        samples += (entry[counted] or 0) * source.repeat * (1 - config.data.tune_share)
    known = all(entry[counted] is not None for entry in found)
    return found, round(samples) if known else None


def _crops(
    folder: Path, skeleton: Skeleton, size_wh: tuple[int, int]
) -> tuple[list[dict[str, Any]], int | None]:  # fmt: skip
    try:
        files = draws_per_epoch(folder, skeleton, size_wh)
    except DataError as error:
        return [{"annotations": str(folder), "found": False, "problem": _sentence(error), "persons": None}], None
    entries = [{"annotations": str(file), "found": True, "persons": count} for file, (count, _) in files.items()]
    return entries, round(sum(drawn for _, drawn in files.values()))


def _problems(config: TrainConfig, data: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with sources, unless they may be rehearsed without, and with the tune split; each once."""
    problems = [entry["problem"] for entry in data if "problem" in entry and not _rehearsed(entry)]
    if config.data.crops is not None:
        return problems
    name = tune_source(config).annotations
    # The synthetic set is drawn when a run starts, and always usable.
    if name != "synthetic" and not any(entry["annotations"] == name and _rehearsed(entry) for entry in data):
        try:
            with TemporaryDirectory() as folder:
                tune_reader(config, _reader(config), _tune_pictures(config, Path(folder)))
        except AutoposeError as error:
            problems.append(_sentence(error))
    return list(dict.fromkeys(problems))


def _tune_pictures(config: TrainConfig, folder: Path) -> list[Path]:
    """Return the pictures that a run would be scored on.

    Raises:
        DataError: there are none, or the tune annotations cannot be used.
    """
    path = find_annotations(tune_source(config).annotations, config.data.synthetic_images, folder)
    if config.task == "pose" and is_mpii(path):
        return [person.image_path for person in held_out_persons(config)]
    tune = (write_detector_tune_split if config.task == "detector" else write_tune_split)(config, folder)
    held_out = read_coco(tune, look=False)
    if config.task == "detector":
        return [held_out.image_path(number) for number in held_out.images]
    return [person.image_path for person in persons_from_coco(held_out, skeleton=open_skeleton(config.skeleton))]


def _reader(config: TrainConfig) -> ImageReader:
    """Return what a run would read pictures with; a pack that is not there yet would be made of the files."""
    pack = config.data.pack
    return PackedReader(Path(pack)) if pack is not None and Path(pack).is_file() else DiskReader()


def _rehearsed(entry: dict[str, Any]) -> bool:
    """Tell whether a source is not here, but of known size: what a recipe may be rehearsed without."""
    return not entry["found"] and entry["annotations"] in PUBLISHED


def _sentence(error: AutoposeError) -> str:
    return " ".join(str(error).splitlines())


def _source(source: Source, counted: str, config: TrainConfig, skeleton: Skeleton) -> dict[str, Any]:
    """Return what is known of a source; ``counted`` is what it is counted in, ``images`` or ``persons``."""
    entry: dict[str, Any] = {"annotations": source.annotations, "found": True, counted: None}
    if source.annotations == "synthetic":
        figures = 1 if counted == "images" else 2  # of 1 to 3 in each image
        return entry | {counted: config.data.synthetic_images * figures}
    try:
        path = find_annotations(source.annotations, config.data.synthetic_images, Path(os.devnull))
    except DataError as error:
        published = PUBLISHED.get(source.annotations, {}).get(counted)
        return entry | {"found": False, "problem": _sentence(error), counted: published}
    try:
        if counted == "images":
            scenes, name_of = source_scenes(source, path)
            entry[counted] = len(scenes)
            training_part(scenes, name_of, path, source, config)
            if config.scene_augment.paste:
                persons_to_paint(read_coco(path, images=image_folder(source)))
        else:
            persons, name_of = source_persons(source, path, skeleton, config.data.pseudo_weight)
            entry[counted] = len(persons)
            training_part(persons, name_of, path, source, config)
    except DataError as error:
        entry["problem"] = _sentence(error)
    return entry
