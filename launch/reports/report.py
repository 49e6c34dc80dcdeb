"""The report of a run, written from its journal into `RUN/report/` or printed on a terminal.

report.html, report.md   the results as text; the HTML contains the pictures
*.png                    the pictures
front.json               the front with its figures, for programs
front-<trial>.yaml       every member of the front, ready for `nas train`
means.json               the answer's means, for `nas export` (`launch.reports.kept`)
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from launch.files import naming
from launch.reports import drawn, html, plots
from launch.reports.answer import as_dict
from launch.reports.facts import Facts
from launch.reports.failures import failure_lines
from launch.reports.figures import pictures
from launch.reports.health import health
from launch.reports.kept import keep
from launch.reports.prose import (
    LABELS,
    PAIRS_TITLE,
    STANDINGS_TITLE,
    exported,
    markdown,
    metric_cell,
    pair_cells,
    pairs_text,
    spent_text,
    standing_cells,
    verdict,
)
from launch.reports.tables import json_text, measure_amount, print_json, print_table, probability
from launch.rundir import names
from nas.analysis import progress
from search_spaces.errors import named, typed


def write(facts: Facts) -> Path:
    """Writes the report; returns its HTML file. Raises an OSError that names the file that could not be written."""
    folder = facts.run.folder / names.REPORT
    with naming(folder):
        return _write(facts, folder)


def _write(facts: Facts, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("front-*.yaml"):
        stale.unlink()
    images = {name: plots.png(figure) for name, figure in figures(facts).items()}
    for name, data in images.items():
        (folder / f"{name}.png").write_bytes(data)
    (folder / "front.json").write_text(json_text([row for row in facts.rows if row["front"]]))
    for trial in facts.front:
        (folder / f"front-{trial.number}.yaml").write_text(exported(facts.run, trial, facts.means))
    keep(facts.run, facts.means)
    (folder / "report.md").write_text(markdown(facts, images))
    page = folder / "report.html"
    page.write_text(html.page(facts, pictures(facts), health(facts)))
    return page


def fronts(facts: Facts) -> dict[str, Figure]:
    """The pictures of the front by name, one for each cost."""
    run, metric = facts.run, facts.run.metric
    dots = drawn.dots(facts)
    return {
        f"front-{measure}": plots.front(
            [
                plots.Point(dot.costs[measure], dot.mean, dot.state == "front", dot.baseline, dot.state != "stopped")
                for dot in dots
                if measure in dot.costs
            ],
            x_label=LABELS[measure],
            y_label=drawn.axis(metric),
            direction=metric.direction,
            limit=drawn.scaled(run.limits[measure], measure) if measure in run.limits else None,
        )
        for measure in run.measures
    }


def figures(facts: Facts) -> dict[str, Figure]:
    """The pictures by name: one front for each cost, progress, and where which attention pays."""
    metric, shown = facts.run.metric, facts.run.metric.shown
    made = fronts(facts)
    if facts.standings:
        made["standings"] = plots.standings(
            [
                plots.Repeated(
                    name=f"{row['trial']} {row['origin']}",
                    values=[shown.factor * value for value in row["values"]],
                    mean=shown.factor * row["mean"],
                    low=shown.factor * row["low"],
                    high=shown.factor * row["high"],
                    note=f"on the front: {probability(row['on_front'])}",
                )
                for row in facts.standings
            ],
            label=drawn.axis(metric),
        )
    series = progress(facts.trials, facts.run.objectives, facts.run.reference)
    if series:
        made["progress"] = plots.progress([p.hypervolume for p in series], [p.front for p in series])
    table: Mapping[str, Mapping[str, float]] = (
        {} if facts.answer is None else drawn.placement_map(facts.answer, facts.run.space).as_table(shown.factor)
    )
    if table:
        unit = " of ".join(filter(None, [shown.difference, metric.label]))
        side = "over" if metric.direction == "maximize" else "below"
        made["effects"] = plots.effects(table, unit=f"{unit} {side} the empty choice", decimals=shown.decimals)
    return made


def print_report(console: Console, facts: Facts, shown: Path, *, json: bool, written: bool = True) -> None:
    """Prints the front, the standings and the answer, as tables or as JSON.

    `shown`: the run's folder as the user named it. `written`: whether the report's files were written.
    """
    run = facts.run
    if json:
        print_json(
            {
                "run": str(shown),
                "objectives": list(run.config.objectives),
                "limits": dict(run.limits),
                "trials": len(facts.trials),
                "statuses": dict(Counter(trial.status for trial in facts.trials)),
                "verdict": verdict(facts),
                "rows": facts.rows,
                "standings": facts.standings,
                "answer": None if facts.answer is None else as_dict(facts.answer),
                "account": facts.spent,
                "failures": facts.failures,
            }
        )
        return
    lines = []
    for row in facts.rows:
        line = {"trial": row["trial"], "front": "*" if row["front"] else "", "from": row["origin"]}
        line[run.metric.label] = metric_cell(run, row)
        for name in run.measures:
            measured = row[f"{name}_measured"]
            value = row[name] if measured is None else measured
            line[name] = "-" if value is None else measure_amount(value, name)
        line["placements"] = row["summary"]
        lines.append(line)
    print_table(console, lines)
    if facts.standings:
        print_table(console, [standing_cells(row, run.metric) for row in facts.standings], title=f"\n{STANDINGS_TITLE}")
    if pairs := pair_cells(facts):
        print_table(console, pairs, title=f"\n{PAIRS_TITLE}")
    console.print(f"\n{spent_text(facts)}\n\n{verdict(facts)}")
    if more := pairs_text(facts):
        console.print(more)
    for why in failure_lines(facts.failures):
        console.print(why, soft_wrap=True)
    page = f"report {named(shown / names.REPORT / 'report.html')}   " if written else ""
    console.print(f"{page}export: nas export {typed(shown)} --select knee -o best.yaml", soft_wrap=True)
