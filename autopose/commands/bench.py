"""``autopose bench``: how fast a model is here, and where the time goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from autopose.runtime.bench import BenchResult


def bench(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL|SOURCE|RESULT.json]",
            help="A pose model (timed on synthetic frames), a source (with --model), or a file that --json wrote.",
        ),
    ] = "default",
    against: Annotated[
        str | None, typer.Option(metavar="MODEL|RESULT.json", help="Time this one too and compare.")
    ] = None,
    model: Annotated[str, typer.Option(help="Pose model, where a source is given.")] = "default",
    detector: Annotated[
        str | None, typer.Option(help="Person detector [separate images: default; else: fast].")
    ] = None,
    every: Annotated[int | None, typer.Option(min=1, help="Detect in every n-th frame [videos: 2].")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average over the mirrored crop [on].")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the networks run.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each network.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Frames to take [100].")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of the pose network per batch size.")] = 30,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here; -: print them alone.")
    ] = None,
    ops: Annotated[
        bool, typer.Option("--ops", help="Time the operations of the search space, for the search.")
    ] = False,
    calibrate: Annotated[
        int | None,
        typer.Option(
            min=4, metavar="N", help="--ops of a search recipe: fit the sums to N random networks, measured whole."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="File for --ops.")] = Path("latency.json"),
) -> None:
    """Time the pose network by batch size, each stage alone, and the whole pipeline.

    A model given with --against is timed on the source of the first figures, where they have one. Against a saved
    result it is timed with the options of that result, unless others are given; the device is always --device.

    Examples:
        autopose bench default --json before.json

        autopose bench video.mp4 --against fast

        autopose bench small-cpu --ops --calibrate 16 -o latency-cpu.json
    """
    from autopose.errors import UsageError

    if ops:
        if against is not None or json_out is not None:
            raise UsageError("--ops writes a latency table (-o FILE); it does not go with --against or --json.")
        _bench_operations("small" if subject == "default" else subject, threads, calibrate, out)
        return
    if calibrate is not None:
        raise UsageError("--calibrate goes with --ops only.")
    if against is not None and json_out is not None and json_out.name == "-":
        raise UsageError("--json - prints the first result alone; it does not go with --against. Give it a file.")
    from autopose.files import write_atomic
    from autopose.runtime.bench import as_text, comparison, load_bench
    from autopose.runtime.bench_run import bench_subject

    # Read before anything is measured, which takes minutes.
    saved = {what: load_bench(Path(what)) for what in (subject, against) if what and what.endswith(".json")}
    before = next((result.settings for result in saved.values()), {})
    if before.get("backend") == "tensorrt":  # an engine has no threads that another model could be timed with
        before = before | {"threads": None}
    given = {"detector": detector, "every": every, "max_frames": max_frames, "flip": flip, "threads": threads}
    wanted = {name: before.get(name) if value is None else value for name, value in given.items()}
    options: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}

    def measure(what: str, pose_model: str) -> "BenchResult":
        if what in saved:
            return saved[what]
        return bench_subject(what, model=pose_model, rounds=rounds, device=device, **options)

    first = measure(subject, model)
    typer.echo(as_text(first))
    if json_out is not None:
        write_atomic(json_out, first.to_json())
    if against is not None:
        source = first.settings.get("source")
        if source is None or against.endswith(".json"):
            second = measure(against, against)
        else:  # a saved source is as it may be read, a stream's address without its password
            second = measure(str(source) if subject in saved else subject, against)
        typer.echo(as_text(second))
        typer.echo(comparison(first, second))


def _bench_operations(subject: str, threads: int | None, calibrate: int | None, out: Path) -> None:
    """Write the latency table of a search recipe's networks, or of a genotype's widths at 192x256."""
    from autopose.config import load_config, packaged_configs
    from autopose.console import counted, progress
    from autopose.errors import ModelError, UsageError, require
    from autopose.genotype import AutoPoseGenotype, Genotype, presets

    require("torch", extra="train", why="autopose bench --ops")
    from autopose.search.config import SearchConfig
    from autopose.search.latency_bench import measure, measure_space

    recipe = subject.endswith(".toml") or (subject in packaged_configs("search") and subject not in presets())
    if calibrate is not None and not recipe:
        raise UsageError(
            f"--calibrate measures networks of a search recipe (small-cpu, branches-cpu, a .toml), not {subject!r}."
        )
    if recipe:
        config = load_config(SearchConfig, subject, group="search")
        with progress(1, "operations") as bar:
            table = measure_space(config, threads=threads or 1, watch=bar.of)
    else:
        chosen = Genotype.load(subject)
        if not isinstance(chosen, AutoPoseGenotype):
            raise ModelError(
                f"{subject}: is of the space {chosen.kind!r}; operations are timed for 'autopose' genotypes."
            )
        with progress(1, "operations") as bar:
            table = measure(chosen, (192, 256), threads=threads or 1, watch=bar.of)
    how = ""
    if calibrate is not None:
        from autopose.search.latency_networks import calibrate_space

        with progress(1, "networks") as bar:
            found = calibrate_space(table, config, calibrate, watch=bar.of)
        table = found.table
        how = (
            f"; fitted to {calibrate} networks: {table.scale:.2f} times the sum {table.offset_ms:+.2f} ms (fitted to "
            f"half of them, {100 * found.other_half['mean_relative_error']:.0f} % off on the others)"
        )
    table.save(out)
    where = f"{table.device}, {counted(table.threads, 'thread')}"
    typer.echo(f"{counted(len(table.milliseconds), 'operation')} timed ({where}){how} -> {out}")
