"""The report's sentences and Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch.reports.answer import interval, place_name, sentences
from launch.reports.facts import Facts
from launch.reports.failures import failure_lines
from launch.reports.tables import measure_amount, metric_amount, metric_figure, metric_range, probability
from launch.rundir.run import Run
from nas.analysis import Standing
from nas.costs import MEASURES, UNITS
from nas.export import export
from nas.search import Metric, TrialRecord
from search_spaces.errors import named, printable

FRONT_TITLE = "The front and the baselines"
STANDINGS_TITLE = "The networks compared, by all trainings together"
PAIRS_TITLE = "Placements that do more, or less, together"
_MOST_PAIRS = 12

LABELS: Mapping[str, str] = {name: f"{row.label}, {UNITS[row.unit].axis[1]}" for name, row in MEASURES.items()}
_HOW_TO_READ = (
    "Means are over seeds, as the model of all trainings expects them: the best of many values on one seed is too good "
    "on average, and is drawn towards what its placements explain. Level with: the trials that cannot be told from it "
    "with 95 %. On the front: the probability that no other network trained in full is both better and no dearer."
)
_ONE_SEED = (
    "Each trial's {label} is that of one seed on the validation split: small differences between members can be noise; "
    "test data was not touched."
)
_TITLES: Mapping[str, str] = {
    "standings": STANDINGS_TITLE,
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
    """The remark on results without an answer."""
    return _ONE_SEED.format(label=metric.label)


def heading(facts: Facts) -> str:
    """The title of the report."""
    return f"{facts.run.space.name or named(facts.run.folder.name)}: where attention pays"


def paragraphs(facts: Facts) -> list[str]:
    """What was searched, what was spent, and what failed."""
    run = facts.run
    limits = [f"{measure} at most {measure_amount(limit, measure)}" for measure, limit in run.limits.items()]
    return [
        f"{run.config.data.name}, {run.space.skeleton.family}, {run.space.size:,} architectures in the space. "
        f"Budget: {', '.join(limits) or 'none'}.",
        spent_text(facts),
        *failure_lines(facts.failures),
    ]


def pair_cells(facts: Facts) -> list[dict[str, str]]:
    """The pairs of placements that do more or less together than apart, the largest first; at most `_MOST_PAIRS`."""
    answer = facts.answer
    if answer is None:
        return []
    among = [effect.place for effect in answer.effects]
    return [
        {
            "placement": place_name(pair.first, among),
            "with": place_name(pair.second, among),
            f"{facts.run.metric.label} beyond the sum of both": interval(facts.run, pair.gain),
        }
        for pair in sorted(answer.pairs, key=lambda pair: -abs(pair.gain.value))[:_MOST_PAIRS]
    ]


def pairs_text(facts: Facts) -> str:
    """A line on the pairs that `pair_cells` leaves out, or that there are none; empty if there is nothing to say."""
    if facts.answer is None:
        return ""
    if not facts.answer.pairs:
        return "No two placements are seen to do more, or less, together than the sum of both."
    left = len(facts.answer.pairs) - _MOST_PAIRS
    return f"{left} more pairs are in nas report --json." if left > 0 else ""


def markdown(facts: Facts, plots: Iterable[str]) -> str:
    """The report as Markdown. `plots`: names of PNG files in the same folder."""
    run = facts.run
    lines = [
        f"# {heading(facts)}",
        "",
        *(part for text in paragraphs(facts) for part in (text, "")),
        verdict(facts),
        "",
        f"## {FRONT_TITLE}",
        "",
        *_table(facts.run, facts.rows),
        "",
    ]
    standings = [standing_cells(row, run.metric) for row in facts.standings]
    if standings:
        lines += [f"## {STANDINGS_TITLE}", "", *_plain_table(standings), "", how_to_read(), ""]
    if pairs := pair_cells(facts):
        lines += [f"## {PAIRS_TITLE}", "", *_plain_table(pairs), ""]
    if more := pairs_text(facts):
        lines += [more, ""]
    for name in plots:
        lines += [f"![{title(name, run.metric)}]({name}.png)", ""]
    if not standings:
        lines += [one_seed(run.metric), ""]
    return "\n".join(lines)


def verdict(facts: Facts) -> str:
    """What the run says, in a few sentences."""
    return " ".join(said(facts))


def said(facts: Facts) -> list[str]:
    """The sentences of `verdict`, the most important first."""
    if facts.answer is None:
        return ["Fewer than three networks were trained in full, so there is no answer yet."]
    return list(filter(None, [*sentences(facts.run, facts.answer), _too_short(facts)]))


def _too_short(facts: Facts) -> str:
    """A sentence on the options that still gain on the plain network when training ends; empty if none does."""
    if not facts.gaining:
        return ""
    metric = facts.run.metric
    gains = ", ".join(
        f"{row['option']} {metric_figure(row['gain'], metric)} ({metric_range(row['low'], row['high'], metric)})"
        for row in facts.gaining
    )
    unit = f" {metric.shown.difference}" if metric.shown.difference else ""
    return (
        f"Training may be too short for this space: in its last third, networks with these options still gain on the "
        f"plain network,{unit} with 95 %: {gains}. A longer training may rank them higher (trainer.epochs)."
    )


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
    again = f" Trainings with new seeds took {row['finalist_epochs']} more." if row["finalist_epochs"] else ""
    return (
        f"{row['proposals']} architectures proposed: {row['launched']} trained ({row['complete']} in full, "
        f"{row['stopped']} stopped early, {row['failed']} failed), {sum(over.values())} over the budget{stages}, "
        f"{row['duplicates']} known already and not trained again. {row['epochs']} epochs instead of the "
        f"{row['full_epochs']} of training each in full: {100 * row['saved']:.0f} % saved.{early}{silent}{again}"
    )


def standing_cells(row: Mapping[str, Any], metric: Metric) -> dict[str, str]:
    """A row of `Facts.standings` as text."""
    return {
        "trial": str(row["trial"]),
        "from": row["origin"] + (" (unstable)" if row["unstable"] else ""),
        "seeds": str(row["seeds"]),
        f"mean {metric.label}": metric_amount(row["mean"], metric),
        "95 % interval": metric_range(row["low"], row["high"], metric),
        "best": probability(row["best"]),
        "on the front": probability(row["on_front"]),
        "level with": ", ".join(map(str, row["level"])),
    }


def how_to_read() -> str:
    """How to read the table of standings."""
    return _HOW_TO_READ


def exported(run: Run, trial: TrialRecord, standings: Sequence[Standing]) -> str:
    """A trial's config with its figures as comments: its mean among the standings with its interval, if it has one."""
    figures_of = {
        measure: f"{measure_amount(figure.value, measure)} ({figure.source})"
        for measure, figure in {**trial.costs, **run.measured.get(trial.number, {})}.items()
    }
    standing = next((one for one in standings if one.trial.number == trial.number), None)
    value = trial.latest(run.metric.name)
    if standing is not None:
        seeds = len(standing.values)
        told = f"{interval(run, standing.mean, difference=False)}, with {seeds} seed{'s' if seeds > 1 else ''},"
        figures_of = {run.metric.name: f"{told} {_after(trial)}", **figures_of}
    elif value is not None:
        figures_of = {run.metric.name: f"{metric_amount(value, run.metric, more=1)} {_after(trial)}", **figures_of}
    failed = f" (failed: {printable(trial.reason)[:200]})" if trial.status == "failed" else ""
    name = f"{trial.number}{failed}"
    return export(trial.architecture, {"run": named(run.folder.name), "trial": name, **figures_of})


def _after(trial: TrialRecord) -> str:
    return f"on validation after {trial.last_epoch} epochs of proxy training"


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
