"""``autopose infer``: the poses of images, videos and streams."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from autopose.runtime.inference import Progress, RunReport
    from autopose.runtime.sources import SourceSpec


def infer(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Images, folders, quoted globs, lists (.txt), videos, webcam numbers, rtsp:// or http:// addresses.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")] = Path("autopose-out"),
    model: Annotated[
        str, typer.Option(help="Pose model: a bundled name, an exported file, a run folder, a checkpoint.")
    ] = "default",
    detector: Annotated[
        str | None,
        typer.Option(
            help="Person detector: default, fast, best, a file (YOLOX's layout too), full-frame "
            "[images: default; else: fast]."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Least score of a box [detector: 0.25; --boxes: 0].")
    ] = None,
    evidence: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Images: least of 3/4 box score + 1/4 better joints' score; 0 keeps all."),
    ] = 0.52,
    boxes: Annotated[Path | None, typer.Option(help="JSON of boxes to use instead of a detector.")] = None,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT,...",
            help="video, images, sheet, crops, json, coco, openpose, csv, parquet, angles, trc. "
            "If not given: the video or images, and json.",
        ),
    ] = None,
    hide: Annotated[
        Literal["heads", "picture"] | None,
        typer.Option(help="Blur the heads of those who are found, or black out all but skeletons; drops the sound."),
    ] = None,
    region: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(metavar="X0 Y0 X1 Y1", help="Look for persons in this part of the picture alone, in pixels."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Detect in every n-th frame, follow the persons between [videos: 2].")
    ] = None,
    track: Annotated[bool | None, typer.Option("--track/--no-track", help="Give ids; on for videos.")] = None,
    smooth: Annotated[
        Literal["online", "offline", "none"] | None, typer.Option(help="Steady the joints; online for videos.")
    ] = None,
    flip: Annotated[bool, typer.Option(help="Average over the mirrored crop; --no-flip halves the cost.")] = True,
    backend: Annotated[Literal["auto", "ort", "trt"], typer.Option(help="ONNX Runtime or TensorRT.")] = "auto",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the networks run.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each network.")] = None,
    start: Annotated[float, typer.Option(help="Seconds into the video.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Seconds into the video.")] = None,
    stride: Annotated[int, typer.Option(help="Take every n-th frame or image.")] = 1,
    max_frames: Annotated[int | None, typer.Option(help="Stop after so many frames or images.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Open a window with the result.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write an HTML page to look through the result.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Spread many sources over Ray actors (extra 'ray').")] = False,
) -> None:
    """Find the joints of all persons in images, videos and streams.

    Examples:
        autopose infer video.mp4

        autopose infer photos/ -o out --save images,json,coco

        autopose infer rtsp://camera/stream --save json,csv --every 5
    """
    from autopose.errors import UsageError
    from autopose.runtime.arguments import check_region
    from autopose.runtime.inference import InferOptions
    from autopose.runtime.outputs import parse_formats, refuse_overwriting
    from autopose.runtime.run import open_estimator, refuse_unfit, run_all, usual_detector
    from autopose.runtime.sources import Selection, find_sources

    formats = None if save is None else parse_formats(save)
    if report and formats is not None and "json" not in formats:
        raise UsageError("--report is made from the JSON: add json to --save.")
    if region is not None:
        if boxes is not None:
            raise UsageError("--region has no place with --boxes: given boxes are taken as they are. Leave one out.")
        try:
            check_region(region)
        except ValueError as error:
            raise UsageError(f"--{error}") from None
    if ray and show:
        raise UsageError("--show has no place with --ray: the frames are drawn in other processes. Leave one out.")
    options = InferOptions(
        out=out,
        save=formats,
        every=every,
        tracking=track,
        smooth=smooth,
        selection=Selection(start, end, stride, max_frames),
        boxes=boxes,
        least_box_score=threshold or 0.0,
        hide=hide,
    )
    specs = find_sources(sources)
    refuse_unfit(specs, options, show=show)
    refuse_overwriting(specs, out, formats, boxes)
    settings = {
        "model": model,
        "detector": "full-frame" if boxes is not None else detector or usual_detector(specs),
        "least_evidence": evidence,
        "device": device,
        "backend": backend,
        "flip": flip,
        "threads": threads,
        "region": region,
    }
    if threshold is not None:
        settings["detector_threshold"] = threshold
    if ray:
        from autopose.runtime.ray_actors import run_with_ray

        reports = run_with_ray(specs, settings, options)
        for item in reports:
            _tell(item)
    else:
        reports = []
        with open_estimator(settings) as estimator:
            for item in run_all(estimator, specs, options, show=show, bar=_bar):
                _tell(item)
                reports.append(item)
    if report:
        _write_pages(specs, reports, pictures=hide is None)
    if any(item.problem for item in reports) or (reports and all(item.unmatched for item in reports)):
        raise typer.Exit(1)


@contextmanager
def _bar(spec: "SourceSpec") -> "Iterator[Progress]":
    """Show a bar with frames done and frames to come."""
    from autopose.console import progress

    with progress(None, Path(spec.public_location).name or spec.public_location) as bar:
        yield bar.of


def _write_pages(specs: "Sequence[SourceSpec]", reports: "Sequence[RunReport]", *, pictures: bool) -> None:
    """Write a page for each source of which this run wrote the JSON, without the source's pictures if these hide."""
    from autopose.runtime.viewer import write_viewer

    for spec, report in zip(specs, reports, strict=False):  # q in the window ends a run before its end
        for path in report.files:
            if path.name == f"{spec.name}.json":  # an older one may lie there after a failure
                with _bar(spec) as bar:
                    page = write_viewer(path, pictures=pictures, progress=bar)
                typer.echo(f"report: {page}")


def _tell(report: "RunReport") -> None:
    """Print a source's closing line, and what was wrong with it."""
    from autopose.console import counted, printable

    parts = [counted(report.frames, "frame"), counted(report.persons, "person"), f"{report.fps:.1f} frames/s"]
    parts += [f"{name} {value:g}" for name, value in report.live.items() if value]
    names = [str(path) for path in report.files[:4]] + (["..."] if len(report.files) > 4 else [])
    if report.frames:
        typer.echo(f"{report.source}: {', '.join(parts)} -> {', '.join(names)}")
    for sentence in filter(None, (report.problem, report.unmatched)):
        typer.echo(printable(f"warning: {sentence}"), err=True)
