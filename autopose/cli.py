"""The command line: one verb per arrow of the data flow, each in a module of ``autopose.commands``.

A verb's function parses, calls one library function and prints. Every verb gets ``-q`` and ``-v`` here, and those with
figures ``--json -``; a deliberate error becomes its message on standard error and its exit code.
"""

import contextlib
import functools
import importlib
import inspect
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autopose import __version__
from autopose.console import Printable, printable, set_verbosity
from autopose.errors import AutoposeError
from autopose.files import NAMES_AS_TEXT

#: In the order of the data flow; ``data`` is a group of verbs of its own.
VERBS = ("search", "train", "eval", "export", "infer", "view", "bench", "show", "models", "data", "doctor")

app = typer.Typer(
    name="autopose",
    help="Search, train, export and run human pose networks.",
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autopose {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search, train, export and run human pose networks.

    Start with: autopose infer video.mp4
    """


def _with_verbosity(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-q`` and ``-v`` to a verb, keeping its own parameters and help."""
    quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no remarks.")]
    verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say what is being done.")]

    @functools.wraps(function)
    def verb(*args: Any, quiet: bool = False, verbose: bool = False, **kwargs: Any) -> Any:
        set_verbosity(quiet=quiet, verbose=verbose)
        try:
            if kwargs.get("json_out") == Path("-"):
                return _figures_alone(function, kwargs)
            return function(*args, **kwargs)
        except KeyboardInterrupt:  # here: further out typer ends the program without a word
            print("autopose: stopped.", file=sys.stderr)
            raise typer.Exit(130) from None

    verb.__doc__ = _examples_as_they_are(inspect.getdoc(function) or "")
    signature = inspect.signature(function)
    kind = inspect.Parameter.KEYWORD_ONLY
    extra = [
        inspect.Parameter("quiet", kind, default=False, annotation=quiet),
        inspect.Parameter("verbose", kind, default=False, annotation=verbose),
    ]
    verb.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *extra]
    )
    return verb


def _figures_alone(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Run a verb with ``--json -``: its figures are all that standard output gets."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "-"  # by which a verb can tell that its text will not be seen
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return function(**options | {"json_out": figures})
        finally:  # a verb that found something wrong ends with an exit code, after it wrote
            if figures.exists():
                print(figures.read_text(), end="")


def _examples_as_they_are(text: str) -> str:
    """Return a help text whose examples click neither joins nor wraps: they are there to be copied."""
    text, heading, examples = text.partition("Examples:\n")
    return text + heading + ("\n\b\n" + examples.replace("\n\n", "\n") if heading else "")


def _register() -> None:
    for name in VERBS:
        module = importlib.import_module(f"autopose.commands.{name}")
        group = getattr(module, "app", None)
        if isinstance(group, typer.Typer):
            for command in group.registered_commands:
                assert command.callback is not None
                command.callback = _with_verbosity(command.callback)
            app.add_typer(group, name=name)
        else:
            app.command(name, cls=getattr(module, "Command", None))(_with_verbosity(getattr(module, name)))


_register()


def main() -> None:
    """Run the command line and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors=NAMES_AS_TEXT)  # standard error shows such names already
    try:
        with contextlib.redirect_stdout(Printable(sys.stdout)):
            app()
    except AutoposeError as error:
        print(printable(f"autopose: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)  # the reader of our output went away, as with "| head"
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's: torch is not imported here
            raise
        print(
            f"autopose: {str(error).splitlines()[0]}\nWhat has to fit into the GPU's memory grows with --set "
            "train.batch=N (search: search.batch, search.reward_batch; eval: --batch N). 'autopose train --dry-run' "
            "estimates it where no GPU is seen (CUDA_VISIBLE_DEVICES='').",
            file=sys.stderr,
        )
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a full disk
        said = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        print(printable(f"autopose: {said}"), file=sys.stderr)
        sys.exit(1)
