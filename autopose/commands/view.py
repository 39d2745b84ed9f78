"""``autopose view``: a results file as a page to look through."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    results: Annotated[Path, typer.Argument(metavar="RESULT.json", help="Written by 'autopose infer'.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The page; if not given, beside the results.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Embed the source, made smaller.")] = True,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Keep every n-th frame; 1: all [as many as a page of 20 MB holds].")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Write one HTML page with the skeletons, a timeline of tracks, joint angles and speeds.

    Examples:
        autopose view autopose-out/video.json

        autopose view autopose-out/video.json -o page.html --no-pictures
    """
    from autopose.console import progress
    from autopose.runtime.viewer import write_viewer

    with progress(None, "pictures") as bar:
        page = write_viewer(results, out, pictures=pictures, stride=stride, progress=bar.of)
    typer.echo(str(page))
    if open_browser and typer.launch(str(page)):  # returns an exit code
        typer.echo("warning: no browser could be started. Open the page by hand.", err=True)
