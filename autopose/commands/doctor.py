"""``autopose doctor``: what works on this machine, and what would fall back."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand


class Command(TyperCommand):
    """``--json`` without a file prints, as ``--json -`` does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the file in where it was left out."""
        completed: list[str] = []
        for word, following in zip(args, [*args[1:], "-q"], strict=False):
            completed += [word, "-"] if word == "--json" and following != "-" and following.startswith("-") else [word]
        return super().parse_args(ctx, completed)


def doctor(
    backend: Annotated[
        Literal["ort", "ort-cuda", "trt", "trt-rtx"],
        typer.Option(help="The backend that has to work: its exit code says whether it does."),
    ] = "ort",
    json_out: Annotated[Path | None, typer.Option("--json", help="Write everything here; no file: print it.")] = None,
) -> None:  # fmt: skip
    """Report versions, GPU, which backends truly open, and room for cached engines.

    Examples:
        autopose doctor

        autopose doctor --json

        autopose doctor --backend ort-cuda --json doctor.json
    """
    from autopose.console import counted
    from autopose.export.diagnosis import diagnose
    from autopose.files import write_atomic

    found = diagnose()
    text = json.dumps(found.to_dict(), indent=2) + "\n"
    print(found.system)
    print("packages:", ", ".join(f"{name} {version}" for name, version in found.packages.items() if version))
    print("absent:", ", ".join(name for name, version in found.packages.items() if not version) or "none")
    gpu = found.gpu
    if gpu is None:
        print("GPU: none (no NVIDIA driver or device)")
    else:
        print(f"GPU: {gpu['name']}, compute capability {gpu['capability']}, {gpu['memory_gib']:.0f} GiB")
        print(f"driver: for CUDA up to {gpu['driver']}")
    for trial in found.trials:
        print(f"{trial.backend:9s} {'works' if trial.works else 'does not work'}: {trial.detail}")
    for kind, words in found.builders.items():
        print(f"builds {kind} engines: {words}")
    cache = found.cache
    print(f"engine cache: {cache['folder']}, {counted(cache['engines'], 'engine')}, {cache['free_gb']} GB free"
          f"{'' if cache['writable'] else ', NOT writable'}")  # fmt: skip
    for warning in found.warnings:
        print(f"warning: {warning}")
    if json_out is not None:
        write_atomic(json_out, text)
    if not found.works(backend):
        raise typer.Exit(1)
