"""``autopose show``: what a genotype costs and what it looks like."""

import json
from pathlib import Path
from typing import Annotated

import typer


def show(
    genotype: Annotated[
        str,
        typer.Argument(
            metavar="GENOTYPE|MODEL", help="A preset, a genotype file, a run folder, a checkpoint or a bundled model."
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE.svg", help="Draw the network here.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Input size [the genotype's own, or 192x256].")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer's parameters and MACs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Print parameters, multiply-accumulates and the size of the search space, and draw the network.

    Examples:
        autopose show reference -o reference.svg

        autopose show runs/search/genotype.json --size 192x256 --json
    """
    from autopose.description import describe, genotype_of, parse_size, text_of

    network, default_size = genotype_of(genotype)
    figures = describe(network, parse_size(size) if size else default_size)
    if out is not None:
        from autopose.diagram import network_svg
        from autopose.files import write_atomic

        write_atomic(out, network_svg(network))
    rows = figures.pop("layers")
    if as_json:
        print(json.dumps({**figures, **({"layers": rows} if layers else {})}, indent=2))
        return
    print(text_of(figures))
    if layers:
        for name, params, macs in rows:
            print(f"  {name:60s} {params:>12,} params {macs:>16,} MACs")
    if out is not None:
        print(f"Drawn: {out}")
