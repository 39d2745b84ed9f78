"""What an export shall make, and how that names an engine in the cache."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from autopose.console import command_line
from autopose.data.coco_file import read_coco
from autopose.errors import DataError
from autopose.export.cache import cache_key
from autopose.export.deviation import Precision
from autopose.export.engine import EngineOptions
from autopose.manifest import Looks
from autopose.runtime.engine_sidecar import Builder, sha256_of
from autopose.runtime.gpu import gpu_here


@dataclass(frozen=True)
class GraphOptions:
    """Everything that changes the FP32 graph of a checkpoint besides its weights.

    Attributes:
        flip: average over the mirrored crop inside the graph (pose only).
        decode: end in keypoints ``(N, K, 3)`` instead of heatmaps ``(N, K, h, w)`` (pose only).
        io: ``uint8`` crops ``(N, H, W, 3)`` BGR, or ``plain`` normalised float RGB ``(N, 3, H, W)``.
        looks: 2: see the input at half its size as well; 4: both mirrored, too (detector only).
        input_wh: input size in pixels (detector only); None: the one that it was trained with.
    """

    flip: bool = True
    decode: bool = True
    io: Literal["uint8", "plain"] = "uint8"
    looks: Looks = 1
    input_wh: tuple[int, int] | None = None


@dataclass(frozen=True)
class Recipe:
    """Options of an export.

    Attributes:
        precision: of the convolutions; None: fp32 for ONNX, fp16 for engines.
        calibration: folder of images like those that the model will see, or COCO annotations; None: synthetic figures.
        builder: make an engine with ``tensorrt`` or ``tensorrt_rtx``; None: an ONNX file.
        targets: compute capabilities such as ``sm89`` for TensorRT-RTX; empty: the GPU at hand.
        batches: smallest, typical and largest batch of an engine.
        workspace_gib: GPU memory that building an engine may use.
        portable: TensorRT: an engine for every GPU from Ampere on.
        flip: average over the mirrored crop in the graph.
        decode: end in keypoints.
        io: ``uint8`` crops or ``plain`` normalised floats.
        looks: 2: a detector sees its input at half the size as well; 4: both mirrored, too; None: as the bundled model
            or graph does, else 1.
        input_wh: a detector's input size; None: as the bundled model or graph has it, or as it was trained.
        compact: store FP32 weights in half precision.
        check: COCO annotations or a folder of images that the artefact is checked on; None: those of ``calibration``
            on which no ranges were taken, else synthetic figures.
        images: folder of the annotations' images.
        triton: write a Triton model repository into this folder, too.
    """

    precision: Precision | None = None
    calibration: Path | None = None
    builder: Builder | None = None
    targets: tuple[str, ...] = ()
    batches: tuple[int, int, int] = (1, 8, 64)
    workspace_gib: float = 4.0
    portable: bool = False
    flip: bool = True
    decode: bool = True
    io: Literal["uint8", "plain"] = "uint8"
    looks: Looks | None = None
    input_wh: tuple[int, int] | None = None
    compact: bool = False
    check: Path | None = None
    images: Path | None = None
    triton: Path | None = None

    def graph_options(self) -> GraphOptions:
        """Return what concerns the FP32 graph alone."""
        return GraphOptions(self.flip, self.decode, self.io, self.looks or 1, self.input_wh)

    def engine_options(self) -> EngineOptions:
        """Return what concerns the engine alone."""
        return EngineOptions(self.batches, self.targets, self.workspace_gib, self.portable)


def engine_key(source: Path, recipe: Recipe, builder_version: str) -> str:
    """Return the cache key of an engine: it changes with the model's file, any option, any version and the GPU."""
    gpu = gpu_here()
    options = {key: str(value) for key, value in asdict(recipe).items() if key != "triton"}
    for key, pictures in (("check", recipe.check), ("calibration", recipe.calibration)):
        if pictures is not None and pictures.exists():
            options[key] = _digest_of(pictures)
            if pictures.is_file():
                options[f"{key}_pictures"] = _stamps_of(pictures, recipe.images)
    return cache_key(
        {
            "source": sha256_of(source),
            "options": options,
            "builder": builder_version,
            "autopose": version("autopose"),
            "onnx": version("onnx"),
            "gpu": [gpu.name, gpu.capability] if gpu and not recipe.targets else [],
        }
    )


def graph_key(checkpoint: Path, *, flip: bool) -> str:
    """Return the cache key of a checkpoint's graph: it changes with the file, the option and any version."""
    versions = {name: version(name) for name in ("autopose", "onnx", "torch")}
    return cache_key({"source": sha256_of(checkpoint), "flip": flip, **versions})


def _digest_of(pictures: Path) -> str:
    """Return what changes with an annotation file's content, or with names, sizes and times of a folder's files."""
    if pictures.is_file():
        return sha256_of(pictures)
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    return cache_key({"folder": str(pictures.resolve()), "files": _stamps(files)})


def _stamps_of(annotations: Path, images: Path | None) -> str:
    """Return what changes with names, sizes and times of the pictures that an annotation file lists."""
    try:
        file = read_coco(annotations, images=images)
    except DataError:  # the export says what is wrong with it
        return ""
    return cache_key({"files": _stamps(file.image_path(number) for number in file.images)})


def _stamps(files: Iterable[Path]) -> list[list[str | int]]:
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.is_file()]


def rebuild_command(model: str, out: Path | None, recipe: Recipe) -> str:
    """Return the command line that makes the same engine again."""
    words = ["autopose", "export", model, "--trt" if recipe.builder == "tensorrt" else "--trt-rtx"]
    if recipe.targets:
        words += ["--target", ",".join(recipe.targets)]
    if recipe.batches != Recipe.batches:
        words += ["--batch", ",".join(map(str, recipe.batches))]
    if recipe.precision not in (None, "fp16"):
        words += ["--precision", str(recipe.precision)]
    words += [flag for flag, wanted in (("--no-flip", not recipe.flip), ("--no-decode", not recipe.decode)) if wanted]
    if recipe.calibration is not None:
        words += ["--calibration", str(recipe.calibration)]
    if recipe.workspace_gib != Recipe.workspace_gib:
        words += ["--workspace", f"{recipe.workspace_gib:g}"]
    if recipe.io == "plain":
        words += ["--io", "plain"]
    if recipe.looks is not None:
        words += ["--looks", str(recipe.looks)]
    if recipe.input_wh is not None:
        words += ["--input", "{}x{}".format(*recipe.input_wh)]
    if recipe.portable:
        words.append("--portable")
    for option, pictures in (("--check", recipe.check), ("--images", recipe.images)):
        if pictures is not None:
            words += [option, str(pictures)]
    if out is not None:
        words += ["-o", str(out)]
    return command_line(words)
