"""The report's sentences and Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launch.reports.facts import Facts, group_letter
from launch.reports.failures import failure_lines
from launch.reports.tables import measure_amount
from launch.rundir.run import Run
from nas.analysis import searched
from nas.costs import MEASURES, UNITS
from nas.export import export
from nas.search import ACCURACY, TrialRecord
from search_spaces.errors import printable

FRONT_TITLE = "The front and the baselines"
FINALISTS_TITLE = "Finalists, trained again with other seeds"

LABELS: Mapping[str, str] = {name: f"{row.label}, {UNITS[row.unit].axis[1]}" for name, row in MEASURES.items()}
_REPETITIONS_ALONE = (
    "Means are over the repetitions alone: the value in the search is the highest of many, and so too high on average."
)
_SEARCH_COUNTED = (
    "With one repetition each, the mean includes the value in the search, which is the highest of many and so too high "
    "on average: set `search.finalist_seeds` to 2 or more to leave it out."
)
_HOW_TO_READ = (
    "Finalists that share a letter cannot be told apart in accuracy; each with an `a` may be the best. "
    "On the front: the probability that none of the other finalists is both as accurate and as cheap."
)
ONE_SEED = (
    "Accuracies are of one seed on the validation split: differences of a few points between members can be noise; "
    "test data was not touched."
)
TITLES: Mapping[str, str] = {
    "finalists": FINALISTS_TITLE,
    "progress": "Hypervolume and size of the front",
    "effects": "Where which attention pays",
    **{f"front-{measure}": f"Accuracy against {label}" for measure, label in LABELS.items()},
}


def markdown(facts: Facts, plots: Iterable[str]) -> str:
    """The report as Markdown. `plots`: names of PNG files in the same folder."""
    run = facts.run
    limits = [f"{measure} at most {measure_amount(limit, measure)}" for measure, limit in run.limits.items()]
    lines = [
        f"# {run.space.name or printable(run.folder.name)}: where attention pays",
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
    again = [finalist_cells(row) for row in facts.finalists]
    if again:
        lines += [f"## {FINALISTS_TITLE}", "", *_plain_table(again), "", reading(facts), ""]
    for name in plots:
        lines += [f"![{TITLES.get(name, name)}]({name}.png)", ""]
    if not again:
        lines += [ONE_SEED, ""]
    return "\n".join(lines)


def verdict(facts: Facts) -> str:
    """A few sentences: whether the search beat the baselines, and whether other seeds confirm it."""
    complete = searched(facts.trials)
    by_hand = [t for t in complete if t.origin.is_baseline]
    found = [t for t in complete if not t.origin.is_baseline]
    if not by_hand or not found:
        return "There is nothing to compare yet."
    best_hand = max(by_hand, key=_top1)
    best_found = max(found, key=_top1)
    gain = 100 * (_top1(best_found) - _top1(best_hand))
    name = best_hand.origin.name
    members = facts.front
    share = sum(not t.origin.is_baseline for t in members)
    standing = "level with" if abs(gain) < 0.05 else f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'}"
    compared = (
        f"On one seed each, the most accurate placement of the search (trial {best_found.number}, "
        f"{100 * _top1(best_found):.1f} %) is {standing} the best baseline ({name}, {100 * _top1(best_hand):.1f} %)."
    )
    front = f"The front has {len(members)} members: the search found {share}; the others are baselines."
    return " ".join(filter(None, [compared, front, _borne_out(facts)]))


def _borne_out(facts: Facts) -> str:
    """A sentence on the most accurate finalist over its repetitions; empty without finalists."""
    again = facts.finalists
    if not again:
        return ""
    first = again[0]
    stated = (
        f"Trained again, trial {first['trial']} ({first['origin']}) has the highest mean, {100 * first['mean']:.1f} % "
        f"({100 * first['low']:.1f} to {100 * first['high']:.1f} with 95 %)"
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
    early = f" Rank correlation with the final accuracy, over trials trained in full: {agreed}." if agreed else ""
    again = f" Repetitions of finalists took {row['finalist_epochs']} more." if row["finalist_epochs"] else ""
    return (
        f"{row['proposals']} architectures proposed: {row['launched']} trained ({row['complete']} in full, "
        f"{row['stopped']} stopped early, {row['failed']} failed), {sum(over.values())} over the budget{stages}, "
        f"{row['duplicates']} known already and not trained again. {row['epochs']} epochs instead of the "
        f"{row['full_epochs']} of training each in full: {100 * row['saved']:.0f} % saved.{early}{again}"
    )


def finalist_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A finalist's row as text."""
    return {
        "trial": str(row["trial"]),
        "from": row["origin"],
        "seeds": str(row["seeds"]),
        "mean top-1": f"{100 * row['mean']:.1f} %",
        "95 % interval": f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
        "in the search": f"{100 * row['searched']:.1f} %",
        "on the front": probability(row["on_front"]),
        "group": row["groups"],
    }


def reading(facts: Facts) -> str:
    """How to read the finalists' table."""
    repeated = [t.origin for t in facts.trials if t.origin.is_finalist and t.status == "complete"]
    counted = _SEARCH_COUNTED if len(repeated) == len(set(repeated)) else _REPETITIONS_ALONE
    return f"{counted} {_HOW_TO_READ}"


def probability(value: float) -> str:
    """A share in percent, never 0 % or 100 %: a simulation proves no certainty."""
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def exported(run: Run, trial: TrialRecord) -> str:
    """A trial's config with its figures as comments."""
    figures_of = {
        measure: f"{measure_amount(figure.value, measure)} ({figure.source})"
        for measure, figure in {**trial.costs, **run.measured.get(trial.number, {})}.items()
    }
    if trial.epochs:
        last = trial.last_epoch
        top1 = 100 * trial.epochs[last].metrics[ACCURACY]
        figures_of = {
            ACCURACY: f"{top1:.2f} % on validation after {last} epochs of proxy training",
            **figures_of,
        }
    return export(trial.architecture, {"run": printable(run.folder.name), "trial": str(trial.number), **figures_of})


def _top1(trial: TrialRecord) -> float:
    return trial.epochs[trial.last_epoch].metrics[ACCURACY]


def cells(run: Run, row: Mapping[str, Any]) -> list[str]:
    """A row of the front as text: origin, top-1, each cost, placements."""
    top1 = "-" if row[ACCURACY] is None else f"{100 * row[ACCURACY]:.1f} %"
    if row["status"] != "complete":
        top1 += f" ({row['status']})"
    costs = []
    for measure in run.measures:
        measured, value = row[f"{measure}_measured"], row[measure]
        costs.append("-" if value is None else measure_amount(value if measured is None else measured, measure))
    return [row["origin"], top1, *costs, row["summary"]]


def _plain_table(cells: Sequence[Mapping[str, str]]) -> list[str]:
    lines = ["| " + " | ".join(cells[0]) + " |", "|" + "---|" * len(cells[0])]
    return lines + ["| " + " | ".join(row.values()) + " |" for row in cells]


def _table(run: Run, table: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ["trial", "from", "top-1", *(f"{measure}" for measure in run.measures), "placements"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in table:
        mark = "**" if row["front"] else ""
        lines.append("| " + " | ".join([f"{mark}{row['trial']}{mark}", *cells(run, row)]) + " |")
    return lines
