"""The Pareto front of a run's trials, its growth, and the selection of one trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nas.analysis.finalists import finalists, values_of
from nas.search.metrics import Objective, metric_among
from nas.search.pareto import Front, Points, is_front, knee, minimised, relative_hypervolume
from nas.search.records import TrialRecord


@dataclass(frozen=True, slots=True)
class FrontGrowth:
    """The state of the search after trial ``number`` was trained in full.

    ``hypervolume``: share of the reference box. ``front``: number of members. ``best``: the best value of the metric of
    training so far; None if all objectives are costs.
    """

    number: int
    hypervolume: float
    front: int
    best: float | None = None


def searched(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that the search trained in full: no repetitions of finalists, no duplicates."""
    return [t for t in trials if t.status == "complete" and not t.origin.is_finalist]


def front_of(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The members of the Pareto front, sorted by the last objective."""
    complete = searched(trials)
    if not complete:
        return []
    members = is_front(_points(complete, objectives))
    found = [trial for trial, member in zip(complete, members, strict=True) if member]
    return sorted(found, key=lambda trial: (values_of(trial)[-1], trial.number))


def progress(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective], reference: Mapping[str, float]
) -> list[FrontGrowth]:
    """The state of the search after each trial that was trained in full, in the order of their numbers.

    Args:
        trials: Of a run.
        objectives: Of the run.
        reference: The reference point of the hypervolume, as the engine chose it.
    """
    growing = GrowingFront(objectives, reference)
    for trial in searched(trials):
        growing.add(trial)
    return growing.series


class GrowingFront:
    """A Pareto front that grows trial by trial; ``series``: the state of the search after each trial."""

    def __init__(self, objectives: Sequence[Objective], reference: Mapping[str, float]) -> None:
        self._objectives = objectives
        self._reference = reference
        self._front = Front(len(objectives))
        self._hypervolume = 0.0
        self._best: float | None = None
        self._place = metric_among([objective.metric for objective in objectives])
        self.series: list[FrontGrowth] = []

    def add(self, trial: TrialRecord) -> None:
        """Adds a trial that the search trained in full."""
        if self._front.add(_points([trial], self._objectives)[0]):
            self._hypervolume = relative_hypervolume(self._front.members, self._reference, self._objectives)
        if self._place is not None:
            merit, value = self._objectives[self._place].merit, values_of(trial)[self._place]
            self._best = value if self._best is None else max(self._best, value, key=merit)
        self.series.append(FrontGrowth(trial.number, self._hypervolume, len(self._front.members), self._best))


def select(trials: Sequence[TrialRecord], objectives: Sequence[Objective], which: str) -> TrialRecord:
    """The trial that `which` names: ``best`` (by the metric), ``knee`` (best compromise), or a trial's number.

    If finalists were trained again, best and knee are chosen among them, by the means of their repetitions, because one
    seed is not enough for a comparison. Otherwise they are chosen among the members of the front.

    Raises:
        ValueError: There is no such trial, it was never launched, or no trial has been trained in full yet.
    """
    if which in ("best", "knee"):
        again = finalists(trials, objectives)
        members = [finalist.trial for finalist in again] or front_of(trials, objectives)
        if not members:
            raise ValueError(f"no trial is trained in full yet, so there is no {which}; name a trial by its number")
        first = metric_among([objective.metric for objective in objectives]) or 0
        values = np.array([values_of(trial) for trial in members])
        if again:
            values[:, first] = [finalist.mean for finalist in again]
        points = _minimised(values, objectives)
        if which == "knee":
            return members[knee(points)]
        return members[min(range(len(members)), key=lambda index: (points[index, first], members[index].number))]
    by_number = {str(trial.number): trial for trial in trials}
    if which not in by_number:
        raise ValueError(f"there is no trial {which!r}; name best, knee, or a number from 0 to {len(by_number) - 1}")
    trial = by_number[which]
    if trial.plan is None:
        raise ValueError(f"trial {which} was never launched ({trial.reason or trial.status}); choose another")
    return trial


def _points(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Points:
    return _minimised([values_of(trial) for trial in trials], objectives)


def _minimised(values: ArrayLike, objectives: Sequence[Objective]) -> Points:
    return minimised(values, [objective.direction for objective in objectives])
