"""`nas report`."""

import sys

from launch.cli.options import Json, RunDir, new_console
from launch.files import in_words
from launch.reports.facts import facts_of
from launch.reports.report import print_report, write
from launch.rundir.run import open_run
from nas.search.reading import uncollected
from search_spaces.errors import printable


@uncollected()
def report(run: RunDir, json: Json = False) -> None:
    """Writes a run's report from its journal, also during the search, and prints the front."""
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
