"""Options and a console that several commands share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        default_factory=list,
        show_default=False,
        metavar="KEY=VALUE",
        help="Set a key of the run file; repeatable.",
    ),
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]


class _Console(Console):
    """A console that raises the error of a closed pipe; Rich's own would exit with code 1, without a word."""

    def on_broken_pipe(self) -> None:
        """Called by Rich while it handles the BrokenPipeError. Prints nothing more, and raises the error again."""
        self.quiet = True
        raise  # noqa: PLE0704  # the error that Rich handles


def new_console(*, stderr: bool = False) -> Console:
    """A console on standard output, or on standard error if JSON goes to standard output.

    All output uses it. It prints text unchanged, because paths and messages may hold ``[brackets]`` and ``:colons:``.
    """
    console = _Console(highlight=False, markup=False, emoji=False, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200  # do not fold lines in a file or a pipe
    return console


@contextmanager
def patience(text: str, *, json: bool) -> Iterator[None]:
    """A spinner on a terminal while something takes seconds."""
    console = new_console()
    if json or not console.is_terminal:
        yield
    else:
        with console.status(text):
            yield
