"""``autopose models``: the bundled models and their cards."""

import json
from pathlib import Path
from typing import Annotated

import typer


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this model's card.")] = None,
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="Write the list (or NAME alone) with its figures here; -: print them alone."),
    ] = None,
) -> None:
    """List the bundled models with their figures, or print one model's card.

    Examples:
        autopose models

        autopose models default
    """
    from autopose.files import write_atomic
    from autopose.zoo import card, catalogue

    entries = [entry for entry in catalogue() if name in (None, entry.name)]
    if name is not None:
        print(card(name), end="")
    else:
        for entry in entries:
            figures = ", ".join(f"{key} {value}" for key, value in entry.figures.items())
            print(f"{entry.name:18s} {entry.task:9s} {entry.size_mb:5.1f} MB  {figures}")
    if json_out is not None:
        content = [{"name": e.name, "task": e.task, "size_mb": e.size_mb, "figures": e.figures} for e in entries]
        write_atomic(json_out, json.dumps(content, indent=2) + "\n")
