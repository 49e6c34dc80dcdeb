"""Seconds and megabytes of a report at several sizes of a run, and whether a browser opens it without errors.

    python benchmarks/report.py
    python benchmarks/report.py --trials 10 300 --runs build/runs    # keeps the runs, or uses those that are there

Runs are made by `benchmarks/engine.py`: trials of three epochs that are not trained. "written" is processor time,
from the journal to the files. If a Chromium is found, it opens the page without a network: "opened" is the time until
all pictures are drawn, by the page's clock, and what the page writes to the console is counted by level.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import optuna
from engine import grow, processor

from launch.reports import report
from launch.reports.facts import facts_of
from launch.rundir import names
from launch.rundir.run import open_run
from nas.search.reading import uncollected

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_CONSOLE = re.compile(r":(INFO|WARNING|ERROR):CONSOLE")
_DRAWN = re.compile(r'data-drawn="(.*?)"')


def opened(page: Path, browser: str) -> tuple[str, str]:
    """How many pictures the page has drawn, in which time, and the messages on its console by level."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--enable-logging=stderr"),
            *("--v=0", "--virtual-time-budget=60000", "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}"),
            "--window-size=1200,20000",  # all pictures are in view
            *("--dump-dom", page.resolve().as_uri()),
        ]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    drawn = _DRAWN.search(found.stdout)
    levels = Counter(_CONSOLE.findall(found.stderr))
    said = ", ".join(f"{count} {level.lower()}" for level, count in levels.items())
    return "nothing is drawn" if drawn is None else drawn[1], said or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 300, 5_000])
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="keep the runs here, by their size")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    print("| trials | written, s | page, MB | opened | console |", "|---:|---:|---:|---:|---|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for trials in arguments.trials:
            run = (arguments.runs or Path(folder)) / str(trials)
            if not run.is_dir():
                grow(run, trials)
            with uncollected():
                spent = processor(lambda: report.write(facts_of(*open_run(run))))  # noqa: B023  # called at once
            page = run / names.REPORT / "report.html"
            shown, said = ("no browser", "") if browser is None else opened(page, browser)
            size = page.stat().st_size / 1e6
            print(f"| {trials:,} | {spent:.1f} | {size:.1f} | {shown} | {said} |", flush=True)


if __name__ == "__main__":
    main()
