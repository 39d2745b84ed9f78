"""``autopose search``: search an architecture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from autopose.search.config import SearchConfig


def search(
    config: Annotated[
        str | None, typer.Option(help="A packaged recipe's name or a TOML file [smoke; with --resume the run's own].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="RUN", help="Run folder [runs/search-TIME].")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in -o, exactly where it was.")] = False,
    space: Annotated[Literal["autopose", "fabric"] | None, typer.Option(help="What is searched.")] = None,
    strategy: Annotated[
        Literal["bilevel", "random"] | None, typer.Option(help="The search, or its baseline of equal budget.")
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="single-branch, no-aggregation, all-branches or search-128x96."),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result's figures here; -: print them alone.")
    ] = None,
) -> None:
    """Search an architecture; write its genotype and a report.

    A search that is stopped (Ctrl-C, SIGTERM) is saved, and ends with exit code 3.

    Examples:
        autopose search --config smoke -o runs/search-smoke

        autopose search --config small -o runs/random --strategy random --set search.seed=1
    """
    import json

    from autopose.config import load_config
    from autopose.console import command_line, progress, remark
    from autopose.errors import require
    from autopose.files import write_atomic

    require("torch", extra="train", why="Searching")
    from autopose.commands.run_folder import chosen_folder, own_file, resume_command, stopped_code
    from autopose.search.ablation import ablated
    from autopose.search.config import SearchConfig
    from autopose.search.seeds import search as run_search
    from autopose.training.distributed import rank

    folder = chosen_folder(out, "search", resume=resume)
    overrides = list(settings or ())
    overrides += [f"space={space}"] if space else []
    overrides += [f"search.strategy={strategy}"] if strategy else []
    named = own_file(config, "smoke", "config.toml", out, resume=resume)
    recipe = load_config(SearchConfig, named, overrides, group="search")
    if ablation is not None:
        recipe = ablated(recipe, ablation)
    with progress(1, "searching") as bar:

        def watch(step: int, total: int, entry: dict[str, Any] | None) -> None:
            bar.of(step, total)
            if entry is not None:
                loss = f"loss {entry['weight_loss']:.4g}, " if "weight_loss" in entry else ""
                reward = f", reward {entry['reward']:.3f}" if "reward" in entry else ""
                remark(
                    f"epoch {entry['epoch']}: {loss}AP {entry['AP']:.3f}, "
                    f"OKS {entry['OKS']:.3f}{reward}, cell entropy {entry['arch_entropy']:.3f}, {entry['macro']}"
                )
                for alarm in entry["alarms"]:
                    remark(f"  alarm: {alarm}")

        result = run_search(recipe, folder, resume=resume, watch=watch, on_seed=lambda seed: remark(f"seed {seed}:"))
    if rank() > 0:
        return  # rank 0 tells
    if result.genotype is None:
        remark(f"Stopped and saved. Go on with: {resume_command('search', result.folder)}")
        raise typer.Exit(stopped_code())
    figures = {
        "genotype": str(folder / "genotype.json"),
        "fingerprint": result.genotype.fingerprint(),
        "score": result.genotype.provenance["shared_weight_score"],
    }
    print(json.dumps(figures))
    remark("Report: " + ", ".join(str(path) for path in sorted(folder.glob("**/report.html"))))
    following = ["autopose", "train", str(folder / "genotype.json"), *_to_train_with(recipe)]
    following += ["--init", str(folder)] if (folder / "best.safetensors").exists() else []
    remark(f"Next: {command_line(following)}")
    if json_out is not None:
        write_atomic(json_out, json.dumps(figures, indent=2) + "\n")


#: Convention and skeleton -> the recipe of the paper whose they are.
_PUBLISHED = {
    ("hrnet", "coco17"): "paper",
    ("hrnet", "mpii16"): "mpii",
    ("posenfs", "coco17"): "pnfs-coco-hrnet",
    ("posenfs", "mpii16"): "pnfs-mpii-hrnet",
}


def _to_train_with(search: "SearchConfig") -> list[str]:
    """Return the options of ``train`` for what this search found."""
    named = _PUBLISHED.get((search.codec.convention, search.skeleton))
    drawn = all(source.annotations == "synthetic" for source in search.data.sources)
    if search.branches_only:
        width, height = search.codec.input_size_wh
        options = ["--config", "default-pose", "--set", f"codec.input_size_wh=[{width},{height}]"]
    else:
        options = ["--config", named or ("smoke" if drawn else "small")]
    other = search.skeleton != "coco17" and (named is None or search.branches_only)
    return [*options, *(["--set", f"skeleton={search.skeleton}"] if other else [])]
