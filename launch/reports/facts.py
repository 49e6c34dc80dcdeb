"""The facts of a report, computed once from a run and its trials; text, HTML, plots and JSON are made from them."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from launch.reports.failures import failures
from launch.rundir.run import Run
from nas.analysis import (
    Answer,
    Standing,
    account,
    answer,
    early_ranks,
    front_by_means,
    front_of,
    silent_rungs,
    still_gaining,
)
from nas.search import Figure, TrialRecord
from nas.search.rungs import below_the_end
from search_spaces import Architecture
from search_spaces.sites import Block, Slot

_MOST_STANDINGS = 16


@dataclass(frozen=True)
class Facts:
    """The summary of one run.

    ``front``: its members, cheapest first. ``rows``: the front and the baselines, one row each.
    ``answer``: of all trainings together; None before three networks were trained in full. ``standings``: one row for
    each network that may matter. ``spent``: numbers of proposals and epochs. ``failures``: one row per reason.
    ``gaining``: one row for each option that still gains on the plain network when training ends.
    """

    run: Run
    trials: Sequence[TrialRecord]
    front: Sequence[TrialRecord]
    rows: Sequence[Mapping[str, Any]]
    answer: Answer | None
    standings: Sequence[Mapping[str, Any]]
    spent: Mapping[str, Any]
    failures: Sequence[Mapping[str, Any]]
    gaining: Sequence[Mapping[str, Any]]

    @property
    def means(self) -> Sequence[Standing]:
        """The answer's standings; empty without an answer."""
        return self.answer.standings if self.answer else ()


def facts_of(run: Run, trials: Sequence[TrialRecord]) -> Facts:
    """Summarizes a run."""
    found = answer(trials, run.objectives, run.config.trainer.epochs, run.space)
    front = front_of(trials, run.objectives) if found is None else front_by_means(found.standings, run.objectives)
    return Facts(
        run,
        trials,
        front,
        _rows(run, trials, front, found),
        found,
        _standing_rows(found, front),
        _spent(run, trials),
        failures(trials),
        [asdict(one) for one in still_gaining(trials, run.metric.objective, run.config.trainer.epochs)],
    )


def _rows(
    run: Run, trials: Sequence[TrialRecord], front: Sequence[TrialRecord], found: Answer | None
) -> list[dict[str, Any]]:
    """The front and the baselines, one row each; figures are numbers in base units.

    The metric is the answer's mean over seeds with its interval, or without an answer the trial's value.
    """
    means = {one.trial.number: one for one in found.standings} if found else {}
    members = {trial.number for trial in front}
    beside = [t for t in trials if t.origin.is_baseline and t.number not in members]
    rows = []
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
        if (standing := means.get(trial.number)) is not None:
            row[run.metric.name] = standing.mean.value
            row |= {"low": standing.mean.low, "high": standing.mean.high, "seeds": len(standing.values)}
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
        rows.append(row)
    return rows


def _standing_rows(found: Answer | None, front: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The networks that may matter, best mean first: the front, baselines, and those with several seeds.

    Values are in the metric's own unit, probabilities are shares. ``level``: the trials from which it cannot be told.
    """
    members = {trial.number for trial in front}
    return [
        {
            "trial": one.trial.number,
            "origin": origin_of(one.trial),
            "seeds": len(one.values),
            "mean": one.mean.value,
            "low": one.mean.low,
            "high": one.mean.high,
            "on_front": one.on_front,
            "best": one.best,
            "level": list(one.level_with),
            "unstable": one.unstable,
            "values": list(one.values),
        }
        for one in (found.standings if found else ())
        if one.trial.number in members or one.trial.origin.is_baseline or len(one.values) > 1
    ][:_MOST_STANDINGS]


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
