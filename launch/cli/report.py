"""`nas status`, `nas report`, `nas export`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import Json, RunDir, new_console
from launch.errors import UserError
from launch.files import in_words, write_text
from launch.reports import status as reports
from launch.reports.facts import facts_of
from launch.reports.report import exported, print_report, write
from launch.reports.tables import print_json
from launch.rundir.run import open_run
from nas.analysis import select as select_trial
from search_spaces.errors import printable


def status(run: RunDir, json: Json = False) -> None:
    """Where a run stands, also from another machine: what trains where, what waits for what, how long it may take."""
    found = reports.status(*open_run(run))
    if json:
        print_json(found)
    else:
        reports.show(new_console(), found)


def report(run: RunDir, json: Json = False) -> None:
    """Draws a run's report anew from its journal, also while it is under way, and prints the front."""
    facts = facts_of(*open_run(run))
    try:
        write(facts)
    except (
        OSError
    ) as error:  # the run is another's, or on a disk that is read-only or full: it can be read all the same
        told = in_words(error)
        if told is None:
            raise
        print_report(new_console(), facts, run, json=json, written=False)
        print(printable(f"nas: the report's files are not written: {told}"), file=sys.stderr)
    else:
        print_report(new_console(), facts, run, json=json)


def export(
    run: RunDir,
    select: Annotated[str, typer.Option(metavar="best|knee|TRIAL", help="Which trial.")] = "knee",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; by default standard output.")] = None,
) -> None:
    """Writes a trial's config, with its measured figures as comments; `nas train` takes it on."""

    opened, trials = open_run(run)
    try:
        trial = select_trial(trials, opened.objectives, select)
    except ValueError as error:
        raise UserError(f"{error}") from error
    text = exported(opened, trial)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
        print(printable(f"{output}: trial {trial.number}; train it with: nas train {output} --run {run}"))
