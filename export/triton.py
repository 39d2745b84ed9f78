"""A Triton model repository: the artefact and the ``config.pbtxt`` that serves it with dynamic batching."""

import re
import shutil
from pathlib import Path

from autopose.errors import UsageError
from autopose.files import atomic_path, write_atomic
from autopose.manifest import Manifest
from autopose.runtime.engine_sidecar import Builder

#: Milliseconds that Triton may wait for a batch to fill.
QUEUE_DELAY_MS = 2.0
#: Boxes that a detector gives per size of its input (:attr:`Manifest.input_scales`).
DETECTIONS = 100


def refuse_for_triton(builder: Builder | None, batches: tuple[int, int, int]) -> None:
    """Refuse engines that Triton cannot serve, before they are built.

    Raises:
        UsageError: Triton has no backend for it, or it takes no batch of 1.
    """
    if builder == "tensorrt_rtx":
        raise UsageError("--triton: Triton has no backend for TensorRT-RTX engines. Use --trt, or export a .onnx.")
    if builder is not None and batches[0] != 1:
        raise UsageError(f"--triton: Triton starts from batches of 1; this engine would take {batches[0]} and more.")


def write_repository(
    folder: Path, artefact: Path, manifest: Manifest, *, batches: tuple[int, int, int] = (1, 8, 64)
) -> Path:  # fmt: skip
    """Write ``folder/NAME/config.pbtxt`` and ``folder/NAME/1/model.onnx`` (or ``model.plan``).

    Args:
        folder: of the repository; other models in it are left alone.
        artefact: an exported ``.onnx`` or ``.engine``.
        manifest: of the artefact.
        batches: smallest, typical and largest batch.

    Returns:
        The model's folder.

    Raises:
        UsageError: the repository has another model of this name.
    """
    engine = artefact.suffix.lower() in (".engine", ".plan")
    target = folder / triton_name(manifest)
    _refuse_another_model(target, manifest)
    with atomic_path(target / "1" / ("model.plan" if engine else "model.onnx")) as temporary:
        shutil.copyfile(artefact, temporary)
    write_atomic(target / "config.pbtxt", triton_config(manifest, engine=engine, batches=batches))
    write_atomic(target / "manifest.json", manifest.model_dump_json(indent=2) + "\n")
    return target


def _refuse_another_model(target: Path, manifest: Manifest) -> None:
    """Refuse a folder whose model takes or gives something else; the same network with new weights may replace it."""
    try:
        text = (target / "manifest.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    known = Manifest.from_json(text, str(target / "manifest.json"))
    there, here = _served(known), _served(manifest)
    for what, value in here.items():
        if there[what] != value:
            raise UsageError(
                f"--triton: {target} holds another model, {known.name!r}: its {what} is {there[what]}; that of this "
                f"one, {manifest.name!r}, is {value}.\nName another DIR, or remove that folder."
            )


def _served(manifest: Manifest) -> dict[str, object]:
    """Return which network a folder serves, and what its clients send and get, in words for messages."""
    return {
        "name": manifest.name,  # folders are ASCII, names need not be
        "task": manifest.task,
        "input": "{} of {}x{} pixels".format(manifest.io, *manifest.codec.input_size_wh),
        "output": ", ".join(manifest.outputs),
        "number of looks": manifest.looks,
        "heatmap size": "{}x{}".format(*manifest.codec.heatmap_size_wh),
        "skeleton": manifest.keypoint_skeleton.name,
        "joints": ", ".join(manifest.keypoint_skeleton.joints),
        "genotype": manifest.fingerprint,
    }


def triton_name(manifest: Manifest) -> str:
    """Return the model's name in the repository: letters, digits, ``_``; it says what differs from a usual export."""
    marks = {
        "_flip": manifest.flip,
        "_heatmaps": manifest.task == "pose" and not manifest.decode,
        "_plain": manifest.io == "plain",
    }
    suffix = "".join(mark for mark, is_set in marks.items() if is_set)
    return re.sub(r"\W+", "_", f"autopose_{manifest.name}_{manifest.precision}{suffix}", flags=re.ASCII)


def triton_config(manifest: Manifest, *, engine: bool, batches: tuple[int, int, int]) -> str:
    """Return the ``config.pbtxt`` (Triton's ModelConfig in protobuf text form)."""
    width, height = manifest.codec.input_size_wh
    plain = manifest.io == "plain"
    joints = len(manifest.keypoint_skeleton)
    map_width, map_height = manifest.codec.heatmap_size_wh
    shapes = {
        "keypoints": (joints, 3),
        "heatmaps": (joints, map_height, map_width),
        "boxes": (DETECTIONS * manifest.input_scales, 4),
        "scores": (DETECTIONS * manifest.input_scales,),
    }
    outputs = ",\n".join(
        f'  {{\n    name: "{name}"\n    data_type: TYPE_FP32\n    dims: [ {", ".join(map(str, shapes[name]))} ]\n  }}'
        for name in manifest.outputs
    )
    dims = (3, height, width) if plain else (height, width, 3)
    preferred = sorted({batches[1], batches[2]})
    return f"""\
name: "{triton_name(manifest)}"
platform: "{"tensorrt_plan" if engine else "onnxruntime_onnx"}"
max_batch_size: {batches[2]}
input [
  {{
    name: "images"
    data_type: {"TYPE_FP32" if plain else "TYPE_UINT8"}
    dims: [ {", ".join(map(str, dims))} ]
  }}
]
output [
{outputs}
]
dynamic_batching {{
  preferred_batch_size: [ {", ".join(map(str, preferred))} ]
  max_queue_delay_microseconds: {int(QUEUE_DELAY_MS * 1000)}
}}
"""
