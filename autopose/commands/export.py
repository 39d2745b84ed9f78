"""``autopose export``: a checkpoint to ONNX, to half precision or INT8, to a TensorRT engine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

if TYPE_CHECKING:
    from autopose.manifest import Looks


def export(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="A bundled name, a run folder, a checkpoint or an FP32 .onnx.")
    ] = "default",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The file to write; the model's name here if not given.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        typer.Option(help="fp32 for ONNX and fp16 for engines unless given.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DIR|ANNOTATIONS.json", help="int8, fp16: images like those to come."),
    ] = None,
    trt: Annotated[bool, typer.Option("--trt", help="Build a TensorRT engine for the GPU at hand.")] = False,
    trt_rtx: Annotated[
        bool, typer.Option("--trt-rtx", help="Build a TensorRT-RTX engine; needs no GPU with --target.")
    ] = False,
    target: Annotated[str, typer.Option(metavar="sm89,...", help="GPUs that a TensorRT-RTX engine is built for.")] = "",
    batch: Annotated[
        str | None, typer.Option(metavar="MIN,TYPICAL,MAX", help="Batches that an engine takes [1,8,64].")
    ] = None,
    workspace: Annotated[
        float | None, typer.Option(metavar="GIB", help="GPU memory that building an engine may use [4].")
    ] = None,
    portable: Annotated[
        bool, typer.Option("--portable", help="--trt: an engine for all GPUs from Ampere on, somewhat slower.")
    ] = False,
    flip: Annotated[bool, typer.Option(help="Average over the mirrored crop in the graph.")] = True,
    decode: Annotated[bool, typer.Option(help="End in keypoints; else in heatmaps.")] = True,
    io: Annotated[
        Literal["uint8", "plain"], typer.Option(help="uint8 crops, or plain: normalised float NCHW.")
    ] = "uint8",
    looks: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            help="Detectors; 2: see the input at half its size as well, small persons in it; 4: both mirrored, too.",
        ),
    ] = None,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="WxH", help="Detectors: size of the input, if not as trained.")
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="fp32: store the weights in half the bytes, rounded to FP16.")
    ] = False,
    triton: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a Triton model repository there as well.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="ANNOTATIONS.json|DIR",
            help="Images for the parity gate [other ones of --calibration, else synthetic ones].",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="--check, --calibration: folder that 'file_name' is relative to.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here; -: print them alone.")
    ] = None,
) -> None:
    """Export a model and prove that it agrees with the network it came from.

    Examples:
        autopose export runs/train -o model.onnx --check val.json

        autopose export fast --precision int8 --calibration photos/

        autopose export default --trt --batch 1,8,64

        autopose export runs/detector --looks 2 --input 576x448

        autopose export default --trt-rtx --target sm89,sm120 -o default.engine
    """
    from autopose.console import counted
    from autopose.description import parse_size
    from autopose.errors import UsageError
    from autopose.export.pipeline import export_model
    from autopose.export.recipe import Recipe
    from autopose.files import write_atomic

    if trt and trt_rtx:
        raise UsageError("--trt and --trt-rtx build different engines. Give one of them.")
    if target and not trt_rtx:
        raise UsageError("--target goes with --trt-rtx: TensorRT itself builds for the GPU at hand.")
    if portable and not trt:
        raise UsageError("--portable goes with --trt.")
    engine = trt or trt_rtx
    if workspace is not None and not engine:
        raise UsageError("--workspace goes with --trt or --trt-rtx.")
    if workspace is not None and not 0.01 <= workspace <= 1024:  # which no number called nan is, either
        raise UsageError(f"--workspace {workspace:g}: expected 0.01 to 1024 GiB.")
    if batch is not None and not engine and triton is None:
        raise UsageError("--batch goes with --trt, --trt-rtx or --triton: an ONNX file takes every batch.")
    if images is not None and check is None and calibration is None:
        raise UsageError("--images goes with --check or --calibration.")
    if compact and (engine or precision not in (None, "fp32")):
        raise UsageError("--compact stores FP32 ONNX files smaller; leave it out here.")
    if looks == 3:
        raise UsageError("--looks 3: expected 1, 2 (two sizes) or 4 (both mirrored, too).")
    recipe = Recipe(
        precision=precision,
        calibration=calibration,
        builder="tensorrt" if trt else "tensorrt_rtx" if trt_rtx else None,
        targets=tuple(part.strip().lower() for part in target.split(",") if part.strip()),
        batches=Recipe.batches if batch is None else _batches(batch),
        workspace_gib=Recipe.workspace_gib if workspace is None else workspace,
        portable=portable,
        flip=flip,
        decode=decode,
        io=io,
        looks=cast("Looks | None", looks),
        input_wh=None if input_size is None else parse_size(input_size, "--input"),
        compact=compact,
        triton=triton,
        check=check,
        images=images,
    )
    result = export_model(model, out, recipe)
    deviation = result.deviation
    print(f"{result.path}: {result.manifest.precision}, {result.path.stat().st_size / 1e6:.1f} MB")
    results = f"{counted(deviation.joints, 'confident result')}, {counted(deviation.ties, 'tie')} left out"
    print(f"checked on {result.checked_on}, {results}:")
    distance = (
        f"mean {deviation.mean_px:.3f} px, 99 % within {deviation.p99_px:.3f} px, max {deviation.max_px:.3f} px; "
        f"OKS {deviation.oks:.4f}"
        if deviation.joints
        else "not known, nothing was confident enough"
    )
    print(f"  distance to the FP32 network: {distance}; scores within {deviation.score:.4f}")
    for name, value in result.details.items():
        print(f"  {name}: {', '.join(value) or 'none' if isinstance(value, dict | list) else value}")
    if json_out is not None:
        write_atomic(json_out, json.dumps(result.to_dict(), indent=2) + "\n")


def _batches(text: str) -> tuple[int, int, int]:
    from autopose.errors import UsageError

    try:
        low, typical, high = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--batch {text}: expected three numbers such as 1,8,64.") from None
    if not 1 <= low <= typical <= high:
        raise UsageError(f"--batch {text}: expected smallest <= typical <= largest, from 1 on.")
    return low, typical, high
