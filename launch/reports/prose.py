"""The report's sentences and Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch.reports.facts import Facts, group_letter
from launch.reports.failures import failure_lines
from launch.reports.tables import measure_amount, metric_amount, metric_figure
from launch.rundir.run import Run
from nas.analysis import searched
from nas.costs import MEASURES, UNITS
from nas.export import export
from nas.search import Metric, TrialRecord
from search_spaces.errors import named, printable

FRONT_TITLE = "The front and the baselines"
FINALISTS_TITLE = "Finalists, trained again with other seeds"

LABELS: Mapping[str, str] = {name: f"{row.label}, {UNITS[row.unit].axis[1]}" for name, row in MEASURES.items()}
_REPETITIONS_ALONE = (
    "Means include only the repetitions: the value in the search is the best of many, so on average it is too good."
)
_SEARCH_COUNTED = (
    "With one repetition each, the mean includes the value in the search, which is the best of many and so too good "
    "on average: set `search.finalist_seeds` to 2 or more to leave it out."
)
_HOW_TO_READ = (
    "Finalists that share a letter cannot be told apart in {label}; each with an `a` may be the best. "
    "On the front: the probability that none of the other finalists is both as good and as cheap."
)
_ONE_SEED = (
    "Each trial's {label} is that of one seed on the validation split: small differences between members can be noise; "
    "test data was not touched."
)
_TITLES: Mapping[str, str] = {
    "finalists": FINALISTS_TITLE,
    "progress": "Hypervolume and size of the front",
    "effects": "Where which attention pays",
}


def title(name: str, metric: Metric) -> str:
    """The title of a picture of the report."""
    measure = name.removeprefix("front-")
    if name not in _TITLES and measure in LABELS:
        return f"{metric.label[0].upper()}{metric.label[1:]} against {LABELS[measure]}"
    return _TITLES.get(name, name)


def one_seed(metric: Metric) -> str:
    """The remark on results without finalists."""
    return _ONE_SEED.format(label=metric.label)


def markdown(facts: Facts, plots: Iterable[str]) -> str:
    """The report as Markdown. `plots`: names of PNG files in the same folder."""
    run = facts.run
    limits = [f"{measure} at most {measure_amount(limit, measure)}" for measure, limit in run.limits.items()]
    lines = [
        f"# {run.space.name or named(run.folder.name)}: where attention pays",
        "",
        f"{run.config.data.name}, {run.space.skeleton.family}, {run.space.size:,} architectures in the space. "
        f"Budget: {', '.join(limits) or 'none'}.",
        "",
        spent_text(facts),
        "",
        *(part for line in failure_lines(facts.failures) for part in (line, "")),
        verdict(facts),
        "",
        f"## {FRONT_TITLE}",
        "",
        *_table(facts.run, facts.rows),
        "",
    ]
    again = [finalist_cells(row, run.metric) for row in facts.finalists]
    if again:
        lines += [f"## {FINALISTS_TITLE}", "", *_plain_table(again), "", reading(facts), ""]
    for name in plots:
        lines += [f"![{title(name, run.metric)}]({name}.png)", ""]
    if not again:
        lines += [one_seed(run.metric), ""]
    return "\n".join(lines)


def verdict(facts: Facts) -> str:
    """A few sentences: whether the search beat the baselines, and whether other seeds confirm it."""
    metric = facts.run.metric
    complete = [(t, value) for t in searched(facts.trials) if (value := t.latest(metric.name)) is not None]
    baselines = [pair for pair in complete if pair[0].origin.is_baseline]
    found = [pair for pair in complete if not pair[0].origin.is_baseline]
    if not baselines or not found:
        return "There is nothing to compare yet."
    best_baseline, baseline = max(baselines, key=lambda pair: metric.objective.merit(pair[1]))
    best_found, value = max(found, key=lambda pair: metric.objective.merit(pair[1]))
    members = facts.front
    share = sum(not t.origin.is_baseline for t in members)
    compared = (
        f"On one seed each, the best placement of the search (trial {best_found.number}, {metric.label} "
        f"{metric_amount(value, metric)}) is {_standing(value - baseline, metric)} the best baseline "
        f"({best_baseline.origin.name}, {metric_amount(baseline, metric)})."
    )
    front = f"The front has {len(members)} members: the search found {share}; the others are baselines."
    return " ".join(filter(None, [compared, front, _borne_out(facts), _too_short(facts)]))


def _too_short(facts: Facts) -> str:
    """A sentence on the options that still gain on the plain network when training ends; empty if none does."""
    if not facts.gaining:
        return ""
    metric = facts.run.metric
    gains = ", ".join(
        f"{row['option']} {metric_figure(row['gain'], metric)} "
        f"({metric_figure(row['low'], metric)} to {metric_figure(row['high'], metric)})"
        for row in facts.gaining
    )
    unit = f" {metric.shown.difference}" if metric.shown.difference else ""
    return (
        f"Training may be too short for this space: in its last third, networks with these options still gain on the "
        f"plain network,{unit} with 95 %: {gains}. A longer training may rank them higher (trainer.epochs)."
    )


def _standing(difference: float, metric: Metric) -> str:
    """`0.3 points above`, or `level with` where the difference is too small to be shown."""
    figure = metric_figure(abs(difference), metric)
    if float(figure) == 0:
        return "level with"
    return " ".join(filter(None, [figure, metric.shown.difference, "above" if difference > 0 else "below"]))


def _borne_out(facts: Facts) -> str:
    """A sentence on the best finalist over its repetitions; empty without finalists."""
    again, metric = facts.finalists, facts.run.metric
    if not again:
        return ""
    first = again[0]
    stated = (
        f"Trained again, trial {first['trial']} ({first['origin']}) has the best mean, "
        f"{metric_amount(first['mean'], metric)} "
        f"({metric_figure(first['low'], metric)} to {metric_figure(first['high'], metric)} with 95 %)"
    )
    level = [f"{row['trial']} ({row['origin']})" for row in again[1:] if group_letter(0) in row["groups"]]
    if not level:
        return f"{stated}" + (", and no other finalist is level with it." if len(again) > 1 else ".")
    return f"{stated}; it cannot be told apart from {', '.join(level)}."


def spent_text(facts: Facts) -> str:
    """`Facts.spent` in sentences."""
    row = facts.spent
    over, stages = row["rejected"], ""
    if over:
        stages = " (" + ", ".join(f"{count} by {stage}" for stage, count in over.items()) + ")"
    agreed = " and ".join(f"{value:.2f} at epoch {epoch}" for epoch, value in row["early_ranks"].items())
    label = facts.run.metric.label
    early = f" Rank correlation with the final {label}, over trials trained in full: {agreed}." if agreed else ""
    silent = "".join(
        f" At epoch {epoch} the {label} says too little about the end (rank correlation {value:.2f}), so no trial was "
        "stopped there; nas proxy measures which epoch says enough."
        for epoch, value in row["silent_rungs"].items()
    )
    again = f" Repetitions of finalists took {row['finalist_epochs']} more." if row["finalist_epochs"] else ""
    return (
        f"{row['proposals']} architectures proposed: {row['launched']} trained ({row['complete']} in full, "
        f"{row['stopped']} stopped early, {row['failed']} failed), {sum(over.values())} over the budget{stages}, "
        f"{row['duplicates']} known already and not trained again. {row['epochs']} epochs instead of the "
        f"{row['full_epochs']} of training each in full: {100 * row['saved']:.0f} % saved.{early}{silent}{again}"
    )


def finalist_cells(row: Mapping[str, Any], metric: Metric) -> dict[str, str]:
    """A finalist's row as text."""
    return {
        "trial": str(row["trial"]),
        "from": row["origin"],
        "seeds": str(row["seeds"]),
        f"mean {metric.label}": metric_amount(row["mean"], metric),
        "95 % interval": f"{metric_figure(row['low'], metric)} to {metric_figure(row['high'], metric)}",
        "in the search": metric_amount(row["searched"], metric),
        "on the front": probability(row["on_front"]),
        "group": row["groups"],
    }


def reading(facts: Facts) -> str:
    """How to read the finalists' table."""
    repeated = [t.origin for t in facts.trials if t.origin.is_finalist and t.status == "complete"]
    counted = _SEARCH_COUNTED if len(repeated) == len(set(repeated)) else _REPETITIONS_ALONE
    return f"{counted} {_HOW_TO_READ.format(label=facts.run.metric.label)}"


def probability(value: float) -> str:
    """A share in percent, never 0 % or 100 %: a simulation proves no certainty."""
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def exported(run: Run, trial: TrialRecord) -> str:
    """A trial's config with its figures as comments."""
    figures_of = {
        measure: f"{measure_amount(figure.value, measure)} ({figure.source})"
        for measure, figure in {**trial.costs, **run.measured.get(trial.number, {})}.items()
    }
    value = trial.latest(run.metric.name)
    if value is not None:
        figure = metric_amount(value, run.metric, more=1)
        figures_of = {
            run.metric.name: f"{figure} on validation after {trial.last_epoch} epochs of proxy training",
            **figures_of,
        }
    failed = f" (failed: {printable(trial.reason)[:200]})" if trial.status == "failed" else ""
    name = f"{trial.number}{failed}"
    return export(trial.architecture, {"run": named(run.folder.name), "trial": name, **figures_of})


def metric_cell(run: Run, row: Mapping[str, Any]) -> str:
    """The metric of a row as text; ``-`` if there is none."""
    value = row[run.metric.name]
    return "-" if value is None else metric_amount(value, run.metric)


def header(run: Run) -> list[str]:
    """The heading of the table whose rows `cells` makes, after the trial's number."""
    return ["from", run.metric.label, *run.measures, "placements"]


def cells(run: Run, row: Mapping[str, Any]) -> list[str]:
    """A row of the front as text: origin, metric, each cost, placements."""
    told = metric_cell(run, row)
    if row["status"] != "complete":
        told += f" ({row['status']})"
    costs = []
    for measure in run.measures:
        measured, value = row[f"{measure}_measured"], row[measure]
        costs.append("-" if value is None else measure_amount(value if measured is None else measured, measure))
    return [row["origin"], told, *costs, row["summary"]]


def _plain_table(cells: Sequence[Mapping[str, str]]) -> list[str]:
    lines = ["| " + " | ".join(cells[0]) + " |", "|" + "---|" * len(cells[0])]
    return lines + ["| " + " | ".join(row.values()) + " |" for row in cells]


def _table(run: Run, table: Sequence[Mapping[str, Any]]) -> list[str]:
    heading = ["trial", *header(run)]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in table:
        mark = "**" if row["front"] else ""
        lines.append("| " + " | ".join([f"{mark}{row['trial']}{mark}", *cells(run, row)]) + " |")
    return lines
