"""The facts of a report, computed once from a run and its trials; text, HTML, plots and JSON are made from them."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from launch.reports.failures import failures
from launch.rundir.run import Run
from nas.analysis import account, early_ranks, finalists, front_of, silent_rungs, still_gaining
from nas.analysis.answer import Answer
from nas.search import Figure, TrialRecord
from nas.search.rungs import below_the_end
from search_spaces import Architecture
from search_spaces.sites import Block, Slot


@dataclass(frozen=True)
class Facts:
    """The summary of one run.

    ``front``: its members, cheapest first. ``rows``: the front and the baselines, one row each.
    ``finalists``: one row each. ``spent``: numbers of proposals and epochs. ``failures``: one row per reason.
    ``gaining``: one row for each option that still gains on the plain network when training ends.
    ``answer``: what all trainings say together; None if too few can say anything.
    """

    run: Run
    trials: Sequence[TrialRecord]
    front: Sequence[TrialRecord]
    rows: Sequence[Mapping[str, Any]]
    finalists: Sequence[Mapping[str, Any]]
    spent: Mapping[str, Any]
    failures: Sequence[Mapping[str, Any]]
    gaining: Sequence[Mapping[str, Any]]
    answer: Answer | None = None


def facts_of(run: Run, trials: Sequence[TrialRecord]) -> Facts:
    """Summarizes a run."""
    front = front_of(trials, run.objectives)
    return Facts(
        run,
        trials,
        front,
        _rows(run, trials, front),
        _finalist_rows(run, trials),
        _spent(run, trials),
        failures(trials),
        [asdict(one) for one in still_gaining(trials, run.metric.objective, run.config.trainer.epochs)],
    )


def _rows(run: Run, trials: Sequence[TrialRecord], front: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The front and the baselines, one row each; figures are numbers in base units."""
    members = {trial.number for trial in front}
    beside = [t for t in trials if t.origin.is_baseline and t.number not in members]
    found = []
    baselines = run.space.baselines()
    for trial in [*front, *beside]:
        row: dict[str, Any] = {
            "trial": trial.number,
            "front": trial.number in members,
            "origin": origin_of(trial),
            "status": trial.status,
            run.metric.name: trial.latest(run.metric.name),
            "epochs": trial.last_epoch,
        }
        for measure in run.measures:
            row[measure] = _value(trial.costs.get(measure))
            row[f"{measure}_measured"] = _value(run.measured.get(trial.number, {}).get(measure))
        # A baseline over the budget was never launched, but the space knows its architecture.
        architecture = baselines[trial.origin.name] if trial.plan is None else trial.architecture
        row["placements"] = {
            f"{block}.{slot}": choice.option
            for block, slots in architecture.placements.items()
            for slot, choice in slots.items()
        }
        row["summary"] = placed(architecture)
        found.append(row)
    return found


def _finalist_rows(run: Run, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The finalists, best first, one row each; values are in the metric's own unit, probabilities are shares.

    ``groups``: letters. Finalists that share a letter cannot be told apart by the metric; each with an ``a`` may be
    best. ``accuracies``: the metric's values, whatever it is.
    """
    return [
        {
            "trial": finalist.trial.number,
            "origin": origin_of(finalist.trial),
            "seeds": len(finalist.values),
            "mean": finalist.mean,
            "low": finalist.low,
            "high": finalist.high,
            "searched": finalist.trial.latest(run.metric.name),
            "on_front": finalist.on_front,
            "groups": "".join(group_letter(group) for group in finalist.groups),
            "accuracies": list(finalist.values),
        }
        for finalist in finalists(trials, run.objectives)
    ]


def _spent(run: Run, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    """Numbers of proposals and epochs: `nas.analysis.Account`, the saved share of training, `early_ranks`,
    `silent_rungs`.
    """
    found = account(trials, run.config.trainer.epochs)
    saved = 1 - found.epochs / found.full_epochs if found.full_epochs else 0.0
    agreement = early_ranks(trials, run.metric.name)
    rungs = below_the_end(run.config.search.brackets(run.config.trainer.epochs))
    silent = silent_rungs(trials, run.metric.name, rungs)
    return {
        **asdict(found),
        "rejected": dict(found.rejected),
        "saved": saved,
        "early_ranks": agreement,
        "silent_rungs": silent,
    }


def placed(architecture: Architecture) -> str:
    """The placements in short: ``se everywhere, aa in layer2 layer3.0``; ``plain`` if there are none."""
    return in_short(
        architecture.blocks,
        [
            (block, slot, choice.option)
            for block, slots in architecture.placements.items()
            for slot, choice in slots.items()
        ],
    )


def in_short(blocks: Sequence[Block], placements: Iterable[tuple[str, Slot, str]]) -> str:
    """As `placed`, from the network's blocks and (block, slot, option) of every placement."""
    where: dict[tuple[str, Slot], set[str]] = {}
    for block, slot, option in placements:
        where.setdefault((option, slot), set()).add(block)
    return ", ".join(f"{option} {_places(blocks, slot, found)}" for (option, slot), found in where.items()) or "plain"


def _places(blocks: Sequence[Block], slot: Slot, found: Set[str]) -> str:
    """Names of blocks; a whole stage by its own name; ``everywhere`` for all blocks with the slot."""
    stages: dict[str, list[str]] = {}
    for block in blocks:
        if slot in block.sites:
            stages.setdefault(block.name.partition(".")[0], []).append(block.name)
    if found >= {name for members in stages.values() for name in members}:
        return "everywhere"
    names = []
    for stage, members in stages.items():
        names += [stage] if found >= set(members) else [name for name in members if name in found]
    return f"in {' '.join(names)}"


def origin_of(trial: TrialRecord) -> str:
    """The origin of a trial as text."""
    return f"{trial.origin.name} (baseline)" if trial.origin.is_baseline else "searched"


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def group_letter(group: int) -> str:
    """The letter of a group; ``a`` is the group of the best."""
    return chr(ord("a") + group)
