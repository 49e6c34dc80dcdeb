"""`nas compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from launch.cli.options import Json, new_console
from launch.files import check_file, write_text
from launch.reports.comparison import (
    RUNS_TITLE,
    SETTINGS_TITLE,
    Comparison,
    as_json,
    compared,
    effect_rows,
    run_rows,
    same_text,
    sentences,
    settings_rows,
    telling,
)
from launch.reports.facts import facts_of
from launch.reports.figures import comparison_pictures
from launch.reports.html import comparison_page
from launch.reports.tables import print_json, print_table
from launch.rundir.run import open_run
from nas.search.reading import uncollected
from search_spaces.errors import named

_TELLING_TITLE = "Where attention pays, in each run"


@uncollected()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="The runs' folders, two to eight.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="An HTML file to write too.")] = None,
    json: Json = False,
) -> None:
    """Compares runs: what differs between them, and where attention pays by what they say together."""
    if output is not None:
        check_file(output)
    found = compared([(folder, facts_of(*open_run(folder))) for folder in runs])
    if output is not None:
        write_text(output, comparison_page(found, comparison_pictures(found)))
    if json:
        print_json(as_json(found))
    else:
        _show(new_console(), found)
        if output is not None:
            print(f"\n{named(output)}")


def _show(console: Console, found: Comparison) -> None:
    for line in (*sentences(found), *found.notes):
        console.print(line)
    print_table(console, run_rows(found), title=f"\n{RUNS_TITLE}")
    if found.differing:
        print_table(console, settings_rows(found), title=f"\n{SETTINGS_TITLE}")
    console.print(same_text(found))
    shown = telling(found)
    if shown:
        print_table(console, effect_rows(found, shown), title=f"\n{_TELLING_TITLE}")
