"""``autopose train``: train the network of a genotype."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

log = logging.getLogger(__name__)


def train(
    genotype: Annotated[
        str | None,
        typer.Argument(
            metavar="GENOTYPE", help="A preset's or bundled model's name, or a JSON file; with --resume the run's own."
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="A packaged recipe's name or a TOML file [small; with --resume the run's own].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="RUN", help="Run folder [runs/train-TIME].")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in -o, exactly where it was.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from a bundled model, a run, a checkpoint (also of a smaller network of the same cells), or "
            "backbone weights (.pth).",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="One step on synthetic data: shapes, cost, hours; what is wrong with the data."),
    ] = False,
    max_hours: Annotated[float | None, typer.Option(help="Stop, resumable, after this time.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the final figures here; -: print them alone.")
    ] = None,
) -> None:
    """Train the network of a genotype from annotations, or from synthetic figures.

    A run that is stopped (Ctrl-C, SIGTERM, --max-hours) is saved, and ends with exit code 3.

    Examples:
        autopose train small --config smoke -o runs/smoke

        autopose train runs/search/genotype.json --config small -o runs/pose --set train.batch=64

        autopose train -o runs/smoke --resume
    """
    from autopose.checkpoint import Checkpoint, load_checkpoint
    from autopose.config import load_config
    from autopose.console import command_line, progress, remark
    from autopose.data.skeletons import open_skeleton
    from autopose.errors import UsageError, require
    from autopose.files import write_atomic
    from autopose.genotype import Genotype

    require("torch", extra="train", why="Training")
    from autopose.commands.run_folder import chosen_folder, own_file, resume_command, stopped_code
    from autopose.training.config import TrainConfig
    from autopose.training.distributed import rank
    from autopose.training.trainer import train as run_training
    from autopose.training.weights import initial_weights

    recipe = load_config(
        TrainConfig, own_file(config, "small", "config.toml", out, resume=resume), settings or (), group="train"
    )
    wanted = own_file(genotype, "", "genotype.json", out, resume=resume)
    if not wanted:
        raise UsageError("Name the GENOTYPE to train: a preset such as small, a bundled model, or a JSON file.")
    network = Genotype.load(wanted)

    def start() -> Checkpoint | None:
        return None if init is None else initial_weights(init, network, len(open_skeleton(recipe.skeleton)))

    if dry_run:
        from autopose.training.dry_run import dry_run as rehearse

        figures = rehearse(network, recipe, start())  # missing or unfit weights are told now
        text = json.dumps(figures, indent=2)
        print(text)
        if json_out is not None:
            write_atomic(json_out, text + "\n")
        known = [entry["problem"] for entry in figures["data"] if "problem" in entry]
        for problem in dict.fromkeys([*known, *figures["problems"]]):
            log.warning("%s", problem)
        if figures["problems"]:
            raise typer.Exit(1)
        return
    folder = chosen_folder(out, "train", resume=resume)
    step, total = 0, 0
    with progress(1, "training") as bar:

        def report(done: int, steps: int, loss: float, metrics: dict[str, float] | None) -> None:
            nonlocal step, total
            step, total = done, steps
            bar.of(step, total, f"loss {loss:.3g}")
            if metrics is not None:
                preferred = "AP" if recipe.task == "pose" else "AP50"
                name = preferred if preferred in metrics else next(iter(metrics))  # MPII: PCKh
                remark(f"step {step}/{total}: loss {loss:.4g}, tune {name} {metrics[name]:.3f}")

        best = run_training(
            network,
            recipe,
            folder,
            resume=resume,
            init=start(),
            report=report,
            max_seconds=None if max_hours is None else max_hours * 3600,
        )
    if rank() > 0:
        return  # rank 0 tells
    figures = dict(load_checkpoint(best).metrics)
    if step < total:
        again = resume_command("train", folder)
        remark(f"Stopped and saved at step {step} of {total}. Go on with: {again}")
        raise typer.Exit(stopped_code())
    remark(f"Best weights: {best}\nNext: {command_line(['autopose', 'export', str(folder)])}")
    print(json.dumps(figures))
    if json_out is not None:
        write_atomic(json_out, json.dumps(figures, indent=2) + "\n")
