"""`nas status`, `nas export`: what needs no picture."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import Json, RunDir, new_console
from launch.errors import UserError
from launch.files import write_text
from launch.reports import status as reports
from launch.reports.kept import kept, means_of
from launch.reports.prose import exported
from launch.reports.tables import print_json
from launch.rundir.run import open_run
from nas.analysis import select as select_trial
from nas.search.reading import uncollected
from search_spaces.errors import named, typed


@uncollected()
def status(run: RunDir, json: Json = False) -> None:
    """Shows the state of a run, also from another machine: what trains where, what waits, the time left."""
    found = reports.status(*open_run(run))
    if json:
        print_json(found)
    else:
        reports.show(new_console(), found)


@uncollected()
def export(
    run: RunDir,
    select: Annotated[str, typer.Option(metavar="best|knee|TRIAL", help="Which trial.")] = "knee",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file; default: standard output.")
    ] = None,
) -> None:
    """Writes a trial's config, with its measured figures as comments, for `nas train`."""

    opened, trials = open_run(run)
    try:
        # A trial named by its number needs no model: without kept means it is exported with its own figures.
        told = means_of(opened, trials) if select in ("best", "knee") else kept(opened, trials) or ()
        trial = select_trial(trials, opened.objectives, select, told)
    except ValueError as error:
        raise UserError(f"{error}") from error
    text = exported(opened, trial, told)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
        print(f"{named(output)}: trial {trial.number}; train it with: nas train {typed(output)} --run {typed(run)}")
