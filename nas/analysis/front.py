"""The Pareto front of a run's trials, and its growth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.search.metrics import Objective, metric_among
from nas.search.pareto import Front, Points, is_front, minimised, relative_hypervolume
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
    members = is_front(points_of(complete, objectives))
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
        if self._front.add(points_of([trial], self._objectives)[0]):
            self._hypervolume = relative_hypervolume(self._front.members, self._reference, self._objectives)
        if self._place is not None:
            merit, value = self._objectives[self._place].merit, values_of(trial)[self._place]
            self._best = value if self._best is None else max(self._best, value, key=merit)
        self.series.append(FrontGrowth(trial.number, self._hypervolume, len(self._front.members), self._best))


def values_of(trial: TrialRecord) -> tuple[float, ...]:
    """The values of a complete trial, one per objective."""
    assert trial.values is not None, trial.number
    return trial.values


def points_of(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Points:
    """The values of complete trials, all minimised, [trials, objectives]."""
    return minimised([values_of(trial) for trial in trials], [objective.direction for objective in objectives])
