"""``autopose eval``: score a model or results on annotations."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from autopose.skeleton import Skeleton

Device = Literal["auto", "cpu", "cuda"]


def eval(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RESULTS.json",
            help="A bundled name, an exported model, a run folder, a checkpoint, or a file of COCO results.",
        ),
    ],
    annotations: Annotated[
        Path, typer.Argument(metavar="ANNOTATIONS.json", help="Ground truth in COCO's format, or a file of MPII.")
    ],
    images: Annotated[Path | None, typer.Option(help="Folder that 'file_name' is relative to.")] = None,
    boxes: Annotated[
        str,
        typer.Option(metavar="gt|FILE.json|detector", help="Person boxes: the annotated, a file's, or found here."),
    ] = "gt",
    task: Annotated[
        Literal["keypoints", "bbox", "pck"],
        typer.Option(help="OKS of keypoints, IoU of boxes (default, fast, best: the detectors), or PCK."),
    ] = "keypoints",
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Average over the mirrored crop; on if not given.")
    ] = None,
    visible_score: Annotated[
        float | None,
        typer.Option(help="Joints above this count towards a pose's score (0.15 if not given; the papers say 0.2)."),
    ] = None,
    box_power: Annotated[
        float | None,
        typer.Option(min=0, help="Power of the box score in a pose's score (0.5 if not given; the papers say 1)."),
    ] = None,
    nms: Annotated[
        bool | None, typer.Option("--nms/--no-nms", help="Drop repeated poses (OKS > 0.9); on unless boxes are gt.")
    ] = None,
    head_boxes: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mat", help="pck on MPII's JSON: gt_valid.mat or the official .mat (head sizes)."),
    ] = None,
    complete_only: Annotated[bool, typer.Option("--complete-only", help="bbox: only images marked complete.")] = False,
    interval: Annotated[
        bool, typer.Option("--interval", help="Add a 95 % interval of AP by redrawing images.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Persons per run of the network.")] = 16,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all if not given.")] = None,
    results_out: Annotated[Path | None, typer.Option("--results", help="Write the COCO results here.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here; -: print them alone.")
    ] = None,
) -> None:
    """Score a model, a detector or a file of results on annotated images.

    Examples:
        autopose eval default person_keypoints_val2017.json --images val2017

        autopose eval runs/train ann.json --boxes detections.json --json figures.json

        autopose eval detector-default ann.json --task bbox --complete-only
    """
    from autopose.console import progress, remark
    from autopose.data.coco_file import read_coco
    from autopose.data.mpii import is_mpii, load_mpii
    from autopose.data.skeletons import named_skeleton
    from autopose.errors import UsageError
    from autopose.evaluation.coco import DRAWS, evaluate_boxes, evaluate_keypoints
    from autopose.evaluation.pck import evaluate_pck
    from autopose.evaluation.pckh import evaluate_pckh, pckh_table
    from autopose.files import write_atomic
    from autopose.skeleton import COCO17

    given = model.endswith(".json")  # results, which were made already
    if task != "keypoints" and boxes != "gt":
        raise UsageError(f"--boxes {boxes} goes with --task keypoints only.")
    if complete_only and task != "bbox":
        raise UsageError("--complete-only goes with --task bbox only.")
    if interval and task == "pck":
        raise UsageError("--interval is of AP: it goes with --task keypoints or bbox.")
    if nms is not None and (given or task != "keypoints"):
        raise UsageError("--nms and --no-nms go with a MODEL and --task keypoints only.")
    if boxes != "gt" and given:
        raise UsageError(f"--boxes {boxes}: results have their boxes already; it goes with a MODEL.")
    if images is not None and given:
        raise UsageError(f"--images {images}: results are scored without the pictures; it goes with a MODEL.")
    if (threads is not None or device != "auto") and given:
        raise UsageError("--device and --threads are of a network's run: results have been made already.")
    if flip is not None and (given or task == "bbox"):
        raise UsageError("--flip and --no-flip go with a pose MODEL only.")
    if given or task != "keypoints":
        for name, value in (("--visible-score", visible_score), ("--box-power", box_power)):
            if value is not None:
                raise UsageError(f"{name} is of the scores that poses are given here: it goes with a pose MODEL only.")
    mpii = is_mpii(annotations)
    if mpii and task != "pck":
        raise UsageError(f"{annotations}: is of MPII, which is scored by PCKh: add --task pck.")
    if head_boxes is not None and not mpii:
        raise UsageError("--head-boxes goes with annotations of MPII only.")
    if given and task == "pck" and not mpii:
        raise UsageError("--task pck needs a MODEL: results do not say which annotated person each is of.")
    skeleton, persons = COCO17, []
    results = _read_results(Path(model)) if given else []  # a wrong path should not wait for a MATLAB file
    if mpii:
        folder = annotations.parent if given else images  # no picture of results is read
        persons = load_mpii(annotations, images=folder, head_boxes=head_boxes)
    if given:
        if task == "keypoints":
            skeleton = named_skeleton(annotations) or COCO17
            if not skeleton.is_known:
                remark(f"OKS constants: those of the joints that {annotations} names; of names unknown 0.079.")
    elif task == "bbox":
        from autopose.commands.scored_models import run_detector

        with progress(len(read_coco(annotations, images=images).images), "images") as bar:
            results = run_detector(
                model, annotations, images=images, device=device, threads=threads, advance=bar.advance
            )
    else:
        from autopose.commands.scored_models import detected_persons, open_pose_model
        from autopose.data.coco import load_coco
        from autopose.evaluation.predict import predict_persons, suppress_poses
        from autopose.poses import BOX_POWER, VISIBLE_SCORE

        if not mpii:
            read_coco(annotations, images=images)  # a wrong path should not wait for the model
        with open_pose_model(model, flip=flip is not False, device=device, threads=threads, batch=batch) as opened:
            skeleton = opened.skeleton
            if mpii:
                _require_mpii16(skeleton, model, annotations)
            elif boxes == "detector":
                persons = detected_persons(
                    annotations, skeleton, images=images, device=device, threads=threads
                )  # fmt: skip
            else:
                source: Literal["gt"] | Path = Path(boxes) if boxes != "gt" else "gt"
                persons = load_coco(annotations, images=images, boxes=source, skeleton=skeleton)
            with progress(len(persons), "persons") as bar:
                results = predict_persons(
                    opened.predict,
                    persons,
                    opened.codec,
                    batch_size=batch,
                    advance=bar.advance,
                    visible_score=VISIBLE_SCORE if visible_score is None else visible_score,
                    box_power=BOX_POWER if box_power is None else box_power,
                )
        if task == "keypoints" and (nms if nms is not None else boxes != "gt"):
            results = suppress_poses(results, skeleton=skeleton)
    if results_out is not None:
        write_atomic(results_out, json.dumps(results))
    draws = DRAWS if interval else 0
    if mpii:
        figures = evaluate_pckh(results, persons)
    elif task == "pck":
        figures = evaluate_pck(results, persons, skeleton)
    elif task == "bbox":
        figures = evaluate_boxes(results, annotations, complete_only=complete_only, draws=draws)
    else:
        figures = evaluate_keypoints(results, annotations, skeleton=skeleton, draws=draws)
    if mpii:
        print(pckh_table(figures))  # in the layout of the published tables
    else:
        width = max(map(len, figures))
        for name, figure in figures.items():
            print(f"{name:<{width}}  {figure:.3f}")
    if json_out is not None:
        write_atomic(json_out, json.dumps(figures, indent=2) + "\n")


def _require_mpii16(skeleton: "Skeleton", model: str, annotations: Path) -> None:
    from autopose.data.skeletons import conversion_to
    from autopose.errors import DataError
    from autopose.skeleton import MPII16

    if skeleton.joints != MPII16.joints:
        raise DataError(
            f"{annotations}: is of MPII, whose skeleton is mpii16; {model} finds {skeleton.name}.\n"
            f"Convert it, and score on what that writes: {conversion_to(skeleton, annotations)}"
        )


def _read_results(path: Path) -> list[dict[str, Any]]:
    from autopose.data.coco_file import read_json
    from autopose.errors import DataError

    content = read_json(path, "results file")
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise DataError(
            f"{path}: is not a file of COCO results: expected a list of records with image_id, score and keypoints or "
            "bbox. 'autopose eval MODEL ANNOTATIONS.json --results FILE' writes one."
        )
    return content
