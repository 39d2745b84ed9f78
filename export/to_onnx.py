"""A checkpoint to one self-describing ONNX file: pixels in, keypoints (or boxes) out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxscript import optimizer
from torch import nn

from autopose.checkpoint import Checkpoint
from autopose.errors import ModelError
from autopose.export.crops import SYNTHETIC_CHECK, synthetic_inputs
from autopose.export.deployed import DetectorGraph, PoseGraph
from autopose.export.folding import without_normalisations
from autopose.export.parity import check as check_artefact
from autopose.export.recipe import GraphOptions
from autopose.export.slim import compact_weights, number_names, strip_notes
from autopose.export.torch_reference import TorchReference
from autopose.files import atomic_path
from autopose.manifest import METADATA_KEY, Manifest
from autopose.models.center import MAX_PERSONS, head_stride
from autopose.skeleton_record import skeleton_record

#: Every runtime that is supported reads it (ONNX Runtime >= 1.17, TensorRT >= 10.0).
OPSET = 20
MAX_SIDE = 4096
#: Bytes: weights that a network combines on the fly are combined once, however large.
_NO_LIMIT = 1 << 40


def manifest_for(checkpoint: Checkpoint, options: GraphOptions | None = None) -> Manifest:
    """Return the manifest that an export of ``checkpoint`` with these options carries; None: the usual ones."""
    options = options or GraphOptions()
    pose = checkpoint.task == "pose"
    codec = checkpoint.codec
    if options.input_wh is not None and not pose:
        codec = codec.model_copy(update={"input_size_wh": options.input_wh})
    return Manifest(
        task=checkpoint.task,
        name=checkpoint.name,
        io=options.io,
        outputs=(("keypoints",) if options.decode else ("heatmaps",)) if pose else ("boxes", "scores"),
        flip=options.flip and pose,
        decode=options.decode or not pose,
        looks=1 if pose else options.looks,
        codec=codec,
        skeleton=skeleton_record(checkpoint.skeleton),
        fingerprint=checkpoint.genotype.fingerprint(),
        autopose_version=version("autopose"),
        source_sha256=checkpoint.sha256,
    )


def deployed_module(checkpoint: Checkpoint, manifest: Manifest) -> PoseGraph | DetectorGraph:
    """Return the torch module that the exported graph computes, in evaluation mode."""
    network = checkpoint.build()
    if manifest.task == "pose":
        return PoseGraph(network, manifest).eval()
    return DetectorGraph(network, manifest, head_stride(checkpoint.genotype)).eval()


def export_onnx(
    checkpoint: Checkpoint,
    out: Path | str,
    options: GraphOptions | None = None,
    *,
    compact: bool = False,
    crops: NDArray[np.uint8] | None = None,
    check: bool = True,
) -> Path:
    """Write ``out``; it appears only if its results agree with torch's.

    Args:
        checkpoint: pose network or detector.
        out: the ``.onnx`` file.
        options: of the graph; None: the usual ones.
        compact: store weights in half precision (the arithmetic stays FP32).
        crops: ``(N, H, W, 3)`` BGR on which graph and torch are compared; None: synthetic ones.
        check: compare at all.

    Returns:
        The path written.

    Raises:
        ModelError: the input size does not suit the network, or is too small for a detector's boxes.
        ParityError: the graph's keypoints or boxes are not those of the torch network.
    """
    manifest = manifest_for(checkpoint, options)
    width, height = manifest.codec.input_size_wh
    step = 32 * manifest.input_scales
    looks_named = {1: "", 2: " for two looks", 4: " for four looks"}[manifest.looks]
    if width % step or height % step or not 0 < max(width, height) <= MAX_SIDE:
        mend = "Train it with another input size." if checkpoint.task == "pose" else "Give another one: --input WxH."
        raise ModelError(
            f"{checkpoint.name!r} wants input of {width}x{height} pixels; both sides must be multiples of {step} "
            f"up to {MAX_SIDE}{looks_named}.\n{mend}"
        )
    module = deployed_module(checkpoint, manifest)
    coarsest = module.stride * manifest.input_scales if isinstance(module, DetectorGraph) else 0
    if width * height < MAX_PERSONS * coarsest**2:
        raise ModelError(
            f"{checkpoint.name!r} has fewer cells than the {MAX_PERSONS} boxes that it returns in {width}x{height} "
            f"pixels{looks_named}.\nGive it larger ones: --input WxH."
        )
    model = trace(module, manifest)
    if compact:
        compact_weights(model)
    out = Path(out)
    with atomic_path(out) as temporary:
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(temporary))
        if check:
            images = synthetic_inputs(SYNTHETIC_CHECK, manifest) if crops is None else crops
            expected = TorchReference(module, manifest).maps(images)
            check_artefact(expected, temporary, images, name=out.name, compact=compact)
    return out


def trace(module: nn.Module, manifest: Manifest) -> onnx.ModelProto:
    """Trace a deployed module with a dynamic batch and put the manifest into the metadata."""
    width, height = manifest.codec.input_size_wh
    if manifest.io == "uint8":
        example = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    else:
        example = torch.randn(2, 3, height, width)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            without_normalisations(module),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(manifest.outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            optimize=False,  # below, without its limit on the size of what is folded
            verbose=False,
        )
        assert program is not None
        optimizer.optimize(program.model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    model: onnx.ModelProto = program.model_proto
    strip_notes(model)
    number_names(model)
    set_manifest(model, manifest)
    return model


def set_manifest(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Store the manifest in the metadata, replacing an earlier one."""
    others = {item.key: item.value for item in model.metadata_props if item.key != METADATA_KEY}
    onnx.helper.set_model_props(model, {**others, METADATA_KEY: manifest.to_json()})
    model.producer_name, model.producer_version = "autopose", manifest.autopose_version


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter says about itself (deprecations inside torch, torchvision's absence)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
