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


def new_console(*, stderr: bool = False) -> Console:
    """A console on standard output, or on standard error if JSON goes to standard output.

    All output uses it. It prints text unchanged, because paths and messages may hold ``[brackets]`` and ``:colons:``.
    """
    console = Console(highlight=False, markup=False, emoji=False, stderr=stderr)
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
