"""The report of a run, drawn from its journal into `RUN/report/`.

report.html, report.md   what was found, for reading; the HTML holds its pictures
*.png                    the pictures
front.json               the front with its figures, for programs
front-<trial>.yaml       every member of the front, ready for `nas train`
"""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from launch import pictures
from launch.run import Run
from launch.tables import amount
from launch.tensorboard import png
from nas.analysis import account, early_ranks, effects, finalists, front_of, progress, searched
from nas.analysis.effects import as_table
from nas.costs import UNITS
from nas.export import export
from nas.search import ACCURACY, TrialRecord, records
from search_spaces import Architecture
from search_spaces.sites import Slot

HAND = records.HAND

FRONT_TITLE = "The front, and what was placed by hand"
FINALISTS_TITLE = "Finalists, trained again with other seeds"


def rows(run: Run, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The front and the hand placements, a row each: figures as numbers in base units, and who beats whom.

    ``beaten_by`` of a hand placement: the searched members of the front that are nowhere worse and somewhere better.
    """
    front = front_of(trials, run.objectives)
    members = {trial.number for trial in front}
    beside = [t for t in trials if t.origin.startswith(HAND) and t.number not in members]
    found = []
    by_hand = {f"{HAND}{name}": architecture for name, architecture in run.space.hand_placements().items()}
    for trial in [*front, *beside]:
        row: dict[str, Any] = {
            "trial": trial.number,
            "front": trial.number in members,
            "origin": _origin(trial),
            "status": trial.status,
            ACCURACY: trial.epochs[trial.last_epoch].metrics[ACCURACY] if trial.epochs else None,
            "epochs": trial.last_epoch,
        }
        for measure in run.measures:
            row[measure] = trial.costs.get(measure, {}).get("value")
            row[f"{measure}_measured"] = run.measured.get(trial.number, {}).get(measure, {}).get("value")
        # A hand placement that was over budget was never launched, and is known all the same.
        architecture = by_hand[trial.origin] if trial.plan is None else trial.architecture
        row["placements"] = {
            f"{block}.{slot}": choice.option
            for block, slots in architecture.placements.items()
            for slot, choice in slots.items()
        }
        row["summary"] = placed(architecture)
        found.append(row)
    return found


def placed(architecture: Architecture) -> str:
    """What stands where, in few words: ``se everywhere, aa in layer2 layer3.0``; ``plain`` where nothing does."""
    where: dict[tuple[str, Slot], set[str]] = {}
    for block, slots in architecture.placements.items():
        for slot, choice in slots.items():
            where.setdefault((choice.option, slot), set()).add(block)
    return (
        ", ".join(f"{option} {_places(architecture, slot, found)}" for (option, slot), found in where.items())
        or "plain"
    )


def _places(architecture: Architecture, slot: Slot, found: Set[str]) -> str:
    """Blocks by name, a stage of them by its own name, all that have the slot as ``everywhere``."""
    stages: dict[str, list[str]] = {}
    for block in architecture.blocks:
        if slot in block.sites:
            stages.setdefault(block.name.partition(".")[0], []).append(block.name)
    if found >= {block for blocks in stages.values() for block in blocks}:
        return "everywhere"
    names = []
    for stage, blocks in stages.items():
        names += [stage] if found >= set(blocks) else [block for block in blocks if block in found]
    return f"in {' '.join(names)}"


def finalist_rows(run: Run, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The finalists, most accurate first, a row each; accuracies and probabilities are shares.

    ``groups``: letters; finalists that share one cannot be told apart in accuracy, and each with an ``a`` may be best.
    """
    return [
        {
            "trial": finalist.trial.number,
            "origin": _origin(finalist.trial),
            "seeds": len(finalist.accuracies),
            "mean": finalist.mean,
            "low": finalist.low,
            "high": finalist.high,
            "searched": finalist.trial.epochs[finalist.trial.last_epoch].metrics[ACCURACY],
            "on_front": finalist.on_front,
            "groups": "".join(_letter(group) for group in finalist.groups),
            "accuracies": list(finalist.accuracies),
        }
        for finalist in finalists(trials, run.objectives)
    ]


def finalist_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A finalist's row as people read it."""
    return {
        "trial": str(row["trial"]),
        "from": row["origin"],
        "seeds": str(row["seeds"]),
        "mean top-1": f"{100 * row['mean']:.1f} %",
        "95 % interval": f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
        "in the search": f"{100 * row['searched']:.1f} %",
        "on the front": _probability(row["on_front"]),
        "group": row["groups"],
    }


def spent(run: Run, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """Where proposals and epochs went: `nas.analysis.Account`, the share of training that was saved, `early_ranks`."""
    found = account(trials, run.config.trainer.epochs)
    saved = 1 - found.epochs / found.full_epochs if found.full_epochs else 0.0
    return {**asdict(found), "rejected": dict(found.rejected), "saved": saved, "early_ranks": early_ranks(trials)}


def spent_text(run: Run, trials: Sequence[TrialRecord]) -> str:
    """As `spent`, in sentences."""
    row = spent(run, trials)
    over, stages = row["rejected"], ""
    if over:
        stages = " (" + ", ".join(f"{count} by {stage}" for stage, count in over.items()) + ")"
    agreed = " and ".join(f"{value:.2f} at epoch {epoch}" for epoch, value in row["early_ranks"].items())
    early = f" Rank correlation with the end, of those trained in full: {agreed}." if agreed else ""
    again = f" Repetitions of finalists took {row['finalist_epochs']} more." if row["finalist_epochs"] else ""
    return (
        f"{row['proposals']} architectures proposed: {row['launched']} trained ({row['complete']} in full, "
        f"{row['stopped']} stopped early, {row['failed']} failed), {sum(over.values())} over the budget{stages}, "
        f"{row['duplicates']} known already and not trained again. {row['epochs']} epochs instead of the "
        f"{row['full_epochs']} of training each in full: {100 * row['saved']:.0f} % saved.{early}{again}"
    )


def figures(run: Run, trials: Sequence[TrialRecord]) -> dict[str, Figure]:
    """The pictures by name: one front for each cost, progress, and where which attention pays."""
    members = {trial.number for trial in front_of(trials, run.objectives)}
    made: dict[str, Figure] = {}
    for measure in run.measures:
        points = [
            pictures.Point(
                x=_scaled(trial.costs[measure]["value"], measure),
                y=100 * trial.epochs[trial.last_epoch].metrics[ACCURACY],
                on_front=trial.number in members,
                hand=trial.origin.removeprefix(HAND) if trial.origin.startswith(HAND) else "",
                complete=trial.status == "complete",
            )
            for trial in trials
            if trial.epochs and measure in trial.costs and not trial.origin.startswith(records.FINALIST)
        ]
        limit = run.limits.get(measure)
        made[f"front-{measure}"] = pictures.front(
            points,
            x_label=_LABELS[measure],
            y_label="validation top-1, %",
            limit=None if limit is None else _scaled(limit, measure),
        )
    again = finalist_rows(run, trials)
    if again:
        made["finalists"] = pictures.finalists(
            [
                pictures.Repeated(
                    name=f"{row['trial']} {row['origin']}",
                    values=[100 * accuracy for accuracy in row["accuracies"]],
                    mean=100 * row["mean"],
                    low=100 * row["low"],
                    high=100 * row["high"],
                    note=f"on the front: {_probability(row['on_front'])}   {row['groups']}",
                )
                for row in again
            ],
            label="validation top-1, %",
        )
    series = progress(trials, run.objectives, run.reference)
    if series:
        made["progress"] = pictures.progress([p.hypervolume for p in series], [p.front for p in series])
    table = as_table(effects(trials, run.config.trainer.epochs))
    if table:
        made["effects"] = pictures.effects(table, unit="points of top-1 against leaving it empty")
    return made


def markdown(run: Run, trials: Sequence[TrialRecord]) -> str:
    """The report as text; pictures are named by file."""
    table = rows(run, trials)
    limits = (
        ", ".join(f"{measure} at most {_amount(limit, measure)}" for measure, limit in run.limits.items()) or "none"
    )
    lines = [
        f"# {run.space.name}: where attention pays",
        "",
        f"{run.config.data.name}, {run.space.skeleton.family}, {run.space.size:,} architectures in the space. "
        f"Budget: {limits}.",
        "",
        spent_text(run, trials),
        "",
        verdict(run, trials),
        "",
        f"## {FRONT_TITLE}",
        "",
        *_table(run, table),
        "",
    ]
    again = [finalist_cells(row) for row in finalist_rows(run, trials)]
    if again:
        lines += [f"## {FINALISTS_TITLE}", "", *_plain_table(again), "", _reading(trials), ""]
    for name in figures(run, trials):
        lines += [f"![{_TITLES.get(name, name)}]({name}.png)", ""]
    if not again:
        lines += [_ONE_SEED, ""]
    return "\n".join(lines)


def verdict(run: Run, trials: Sequence[TrialRecord]) -> str:
    """In a few sentences, whether the search beat the hand placements, and what of it other seeds bear out."""
    complete = searched(trials)
    by_hand = [t for t in complete if t.origin.startswith(HAND)]
    found = [t for t in complete if not t.origin.startswith(HAND)]
    if not by_hand or not found:
        return "There is nothing to compare yet."
    best_hand = max(by_hand, key=_top1)
    best_found = max(found, key=_top1)
    gain = 100 * (_top1(best_found) - _top1(best_hand))
    name = best_hand.origin.removeprefix(HAND)
    members = front_of(trials, run.objectives)
    share = sum(not t.origin.startswith(HAND) for t in members)
    standing = "level with" if abs(gain) < 0.05 else f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'}"
    compared = (
        f"On one seed each, the most accurate placement of the search (trial {best_found.number}, "
        f"{100 * _top1(best_found):.1f} %) is {standing} the best by hand ({name}, {100 * _top1(best_hand):.1f} %)."
    )
    front = f"Of the {len(members)} members of the front the search found {share}; the others are by hand."
    return " ".join(filter(None, [compared, front, _borne_out(run, trials)]))


def _borne_out(run: Run, trials: Sequence[TrialRecord]) -> str:
    """What the finalists' repetitions say of who is most accurate; empty if there are none."""
    again = finalist_rows(run, trials)
    if not again:
        return ""
    first = again[0]
    stated = (
        f"Trained again, trial {first['trial']} ({first['origin']}) has the highest mean, {100 * first['mean']:.1f} % "
        f"({100 * first['low']:.1f} to {100 * first['high']:.1f} with 95 %)"
    )
    level = [f"{row['trial']} ({row['origin']})" for row in again[1:] if _letter(0) in row["groups"]]
    if not level:
        return f"{stated}" + (", and no other finalist is level with it." if len(again) > 1 else ".")
    return f"{stated}; it cannot be told apart from {', '.join(level)}."


def write(run: Run, trials: Sequence[TrialRecord]) -> Path:
    """Writes the report; returns its HTML file."""
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("front-*.yaml"):
        stale.unlink()
    images = {name: png(figure) for name, figure in figures(run, trials).items()}
    for name, data in images.items():
        (folder / f"{name}.png").write_bytes(data)
    table = rows(run, trials)
    (folder / "front.json").write_text(json.dumps([row for row in table if row["front"]], indent=2) + "\n")
    for trial in front_of(trials, run.objectives):
        (folder / f"front-{trial.number}.yaml").write_text(exported(run, trial))
    text = markdown(run, trials)
    (folder / "report.md").write_text(text)
    page = folder / "report.html"
    page.write_text(_page(run, trials, text, table, images))
    return page


def exported(run: Run, trial: TrialRecord) -> str:
    """A trial's config with its figures as comments."""
    figures_of = {
        measure: f"{_amount(estimate['value'], measure)} ({estimate['source']})"
        for measure, estimate in {**trial.costs, **run.measured.get(trial.number, {})}.items()
    }
    if trial.epochs:
        last = trial.last_epoch
        figures_of = {
            ACCURACY: f"{100 * _top1(trial):.2f} % on validation after {last} epochs of proxy training",
            **figures_of,
        }
    return export(trial.architecture, {"run": run.folder.name, "trial": str(trial.number), **figures_of})


_LABELS: Mapping[str, str] = {
    "latency_ms": "latency, ms",
    "train_step_ms": "training step, ms",
    "peak_memory_train": "peak memory of training, MiB",
    "peak_memory_infer": "peak memory of inference, MiB",
    "params": "parameters, M",
    "macs": "multiply-adds, M",
}
_REPETITIONS_ALONE = (
    "Means are of the repetitions alone: the value in the search is the highest of many, and so too high on average."
)
_SEARCH_COUNTED = (
    "With one repetition each, the value in the search counts too, though it is the highest of many and so too high on "
    "average: `search.finalist_seeds` of 2 or more leave it out."
)
_HOW_TO_READ = (
    "Finalists that share a letter cannot be told apart in accuracy; any with an `a` may be the best. "
    "On the front: the probability that none of the other finalists is both as accurate and as cheap."
)
_ONE_SEED = (
    "Accuracies are of one seed on the validation split: differences of a few points between members can be noise; "
    "test data was not touched."
)
_TITLES: Mapping[str, str] = {
    "finalists": FINALISTS_TITLE,
    "progress": "Hypervolume and size of the front",
    "effects": "Where which attention pays",
    **{f"front-{measure}": f"Accuracy against {label}" for measure, label in _LABELS.items()},
}
_SCALES: Mapping[str, float] = {"bytes": 2**20, "": 1e6, "ms": 1.0}


def _scaled(value: float, measure: str) -> float:
    return value / _SCALES[UNITS[measure]]


def _amount(value: float, measure: str) -> str:
    return amount(value, UNITS[measure])


def _top1(trial: TrialRecord) -> float:
    return trial.epochs[trial.last_epoch].metrics[ACCURACY]


def _origin(trial: TrialRecord) -> str:
    return f"{trial.origin.removeprefix(HAND)} (by hand)" if trial.origin.startswith(HAND) else "searched"


def _reading(trials: Sequence[TrialRecord]) -> str:
    """How the finalists' table is to be read."""
    repeated = [t.origin for t in trials if t.origin.startswith(records.FINALIST) and t.status == "complete"]
    counted = _SEARCH_COUNTED if len(repeated) == len(set(repeated)) else _REPETITIONS_ALONE
    return f"{counted} {_HOW_TO_READ}"


def _letter(group: int) -> str:
    return chr(ord("a") + group)


def _probability(value: float) -> str:
    """No simulation shows that anything is certain."""
    return "> 99 %" if value > 0.99 else "< 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def _plain_table(cells: Sequence[Mapping[str, str]]) -> list[str]:
    lines = ["| " + " | ".join(cells[0]) + " |", "|" + "---|" * len(cells[0])]
    return lines + ["| " + " | ".join(row.values()) + " |" for row in cells]


def _table(run: Run, table: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ["trial", "from", "top-1", *(f"{measure}" for measure in run.measures), "placements"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in table:
        mark = "**" if row["front"] else ""
        lines.append("| " + " | ".join([f"{mark}{row['trial']}{mark}", *_cells(run, row)]) + " |")
    return lines


def _cells(run: Run, row: Mapping[str, Any]) -> list[str]:
    top1 = "-" if row[ACCURACY] is None else f"{100 * row[ACCURACY]:.1f} %"
    if row["status"] != "complete":
        top1 += f" ({row['status']})"
    costs = []
    for measure in run.measures:
        measured, value = row[f"{measure}_measured"], row[measure]
        costs.append("-" if value is None else _amount(value if measured is None else measured, measure))
    return [row["origin"], top1, *costs, row["summary"]]


def _page(
    run: Run,
    trials: Sequence[TrialRecord],
    text: str,
    table: Sequence[Mapping[str, Any]],
    images: Mapping[str, bytes],
) -> str:
    """One HTML file that needs no other."""
    lines = text.splitlines()
    paragraphs = [line for line in lines[2 : lines.index(f"## {FRONT_TITLE}")] if line]
    header = ["trial", "from", "top-1", *run.measures, "placements"]
    body = "".join(
        f"<tr class={'front' if row['front'] else 'other'}><td>{row['trial']}</td>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(run, row))
        + "</tr>"
        for row in table
    )
    shown = "".join(
        f'<figure><img alt="{html.escape(_TITLES.get(name, name))}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{html.escape(_TITLES.get(name, name))}</figcaption></figure>"
        for name, data in images.items()
    )
    heading = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    again = _finalists_html([finalist_cells(row) for row in finalist_rows(run, trials)], _reading(trials))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(run.space.name or run.folder.name)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #e4e7eb; vertical-align: top }}
tr.front td:first-child {{ font-weight: 700; color: #0b6e4f }} tr.other {{ color: #7b8794 }}
figure {{ margin: 1.5rem 0 }} img {{ max-width: 100% }} figcaption {{ font-size: 13px; color: #7b8794 }}
</style>
<h1>{html.escape(lines[0].removeprefix("# "))}</h1>
{"".join(f"<p>{html.escape(p)}</p>" for p in paragraphs)}
<h2>{FRONT_TITLE}</h2>
<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>
{again}
{shown}
</html>
"""


def _finalists_html(cells: Sequence[Mapping[str, str]], reading: str) -> str:
    if not cells:
        return f"<p>{_ONE_SEED}</p>"
    heading = "".join(f"<th>{html.escape(name)}</th>" for name in cells[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.values()) + "</tr>" for row in cells
    )
    reading = re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(reading))
    table = f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
    return f"<h2>{FINALISTS_TITLE}</h2>{table}<p>{reading}</p>"
