"""The report of a run, drawn from its journal into `RUN/report/`.

report.html, report.md   what was found, for reading; the HTML holds its pictures
*.png                    the pictures
front.json               the front with its figures, for programs
front-<trial>.yaml       every member of the front, ready for `nas train`
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from launch import pictures
from launch.run import Run
from launch.tables import amount
from launch.tensorboard import png
from nas.analysis import effects, front_of, progress, searched
from nas.analysis.effects import as_table
from nas.costs import UNITS
from nas.export import export
from nas.search import ACCURACY, TrialRecord

HAND = "hand:"


def rows(run: Run, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The front and the hand placements, a row each: figures as numbers in base units, and who beats whom.

    ``beaten_by`` of a hand placement: the searched members of the front that are nowhere worse and somewhere better.
    """
    front = front_of(trials, run.objectives)
    members = {trial.number for trial in front}
    beside = [t for t in trials if t.origin.startswith(HAND) and t.number not in members]
    found = []
    for trial in [*front, *beside]:
        row: dict[str, Any] = {
            "trial": trial.number,
            "front": trial.number in members,
            "origin": trial.origin.removeprefix(HAND) + " (by hand)" if trial.origin.startswith(HAND) else "searched",
            "status": trial.status,
            ACCURACY: trial.epochs[trial.last_epoch].val_top1 if trial.epochs else None,
            "epochs": trial.last_epoch,
        }
        for measure in run.measures:
            row[measure] = trial.costs.get(measure, {}).get("value")
            row[f"{measure}_measured"] = run.measured.get(trial.number, {}).get(measure, {}).get("value")
        row["placements"] = {
            f"{block}.{slot}": choice.option
            for block, slots in (trial.architecture.placements if trial.plan is not None else {}).items()
            for slot, choice in slots.items()
        }
        found.append(row)
    return found


def figures(run: Run, trials: Sequence[TrialRecord]) -> dict[str, Figure]:
    """The pictures by name: one front for each cost, progress, and where which attention pays."""
    members = {trial.number for trial in front_of(trials, run.objectives)}
    made: dict[str, Figure] = {}
    for measure in run.measures:
        points = [
            pictures.Point(
                x=_scaled(trial.costs[measure]["value"], measure),
                y=100 * trial.epochs[trial.last_epoch].val_top1,
                on_front=trial.number in members,
                hand=trial.origin.removeprefix(HAND) if trial.origin.startswith(HAND) else "",
                complete=trial.status == "complete",
            )
            for trial in trials
            if trial.epochs and measure in trial.costs and not trial.origin.startswith("finalist:")
        ]
        limit = run.limits.get(measure)
        made[f"front-{measure}"] = pictures.front(
            points,
            x_label=_LABELS[measure],
            y_label="validation top-1, %",
            limit=None if limit is None else _scaled(limit, measure),
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
    by_status = {
        status: sum(t.status == status for t in trials) for status in ("complete", "stopped", "failed", "duplicate")
    }
    rejected: dict[str, int] = {}
    for trial in trials:
        if trial.status == "rejected":
            stage = trial.budget.get("stage", "training")
            rejected[stage] = rejected.get(stage, 0) + 1
    limits = (
        ", ".join(f"{measure} at most {_amount(limit, measure)}" for measure, limit in run.limits.items()) or "none"
    )
    epochs = sum(len(trial.epochs) for trial in trials)
    lines = [
        f"# {run.space.name}: where attention pays",
        "",
        f"{run.config.data.name}, {run.space.skeleton.family}, {run.space.size:,} architectures in the space. "
        f"Budget: {limits}.",
        "",
        f"{by_status['complete']} trials trained in full, {by_status['stopped']} stopped early, {epochs} epochs; "
        f"{sum(rejected.values())} rejected by the budget before training"
        + (f" ({', '.join(f'{count} {stage}' for stage, count in rejected.items())})" if rejected else "")
        + f"; {by_status['duplicate']} known already; {by_status['failed']} failed.",
        "",
        verdict(run, trials),
        "",
        "## The front, and what was placed by hand",
        "",
        *_table(run, table),
        "",
    ]
    for name in figures(run, trials):
        lines += [f"![{_TITLES.get(name, name)}]({name}.png)", ""]
    lines += [
        "Accuracies are of one seed on the validation split: differences of a few points between members can be noise; "
        "test data was not touched."
        if not run.config.search.finalist_seeds
        else "",
        "",
    ]
    return "\n".join(lines)


def verdict(run: Run, trials: Sequence[TrialRecord]) -> str:
    """In a sentence or two, whether the search beat the hand placements, honestly."""
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
        f"The best placement found by the search (trial {best_found.number}, {100 * _top1(best_found):.1f} %) is "
        f"{standing} the best by hand ({name}, {100 * _top1(best_hand):.1f} %)."
    )
    return f"{compared} Of the {len(members)} members of the front the search found {share}; the others are by hand."


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
    page.write_text(_page(run, text, table, images))
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
            ACCURACY: f"{100 * trial.epochs[last].val_top1:.2f} % on validation after {last} epochs of proxy training",
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
_TITLES: Mapping[str, str] = {
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
    return trial.epochs[trial.last_epoch].val_top1


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
    placed = ", ".join(f"{place} {option}" for place, option in row["placements"].items()) or "plain"
    return [row["origin"], top1, *costs, placed]


def _page(run: Run, text: str, table: Sequence[Mapping[str, Any]], images: Mapping[str, bytes]) -> str:
    """One HTML file that needs no other."""
    lines = text.splitlines()
    paragraphs = [line for line in lines[2 : lines.index("## The front, and what was placed by hand")] if line]
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
<h2>The front, and what was placed by hand</h2>
<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>
{shown}
</html>
"""
