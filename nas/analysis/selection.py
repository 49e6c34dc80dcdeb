"""The front by the means of a run's answer, and the selection of one trial."""

from collections.abc import Sequence

from nas.analysis.answer import Standing
from nas.analysis.front import front_of, points_of
from nas.search.metrics import Objective, metric_among
from nas.search.pareto import Points, is_front, knee, minimised
from nas.search.records import TrialRecord


def front_by_means(standings: Sequence[Standing], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The members of the Pareto front by the answer's means and the costs, sorted by the last objective."""
    trials = [standing.trial for standing in standings]
    points = _points_by_means(standings, trials, objectives)
    members = [i for i, member in enumerate(is_front(points)) if member]
    return [trials[i] for i in sorted(members, key=lambda i: (points[i, -1], trials[i].number))]


def select(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective], which: str, standings: Sequence[Standing]
) -> TrialRecord:
    """The trial that `which` names: ``best`` (by the metric), ``knee`` (best compromise), or a trial's number.

    Best and knee are chosen by the means of the standings of the run's answer, among the networks that are on the front
    by them, because the value of one seed that is the best of many is too good. Without standings, they are chosen
    among the front of the search's values.

    Raises:
        ValueError: There is no such trial, it was never launched, or no trial has been trained in full yet.
    """
    if which in ("best", "knee"):
        members = front_by_means(standings, objectives) if standings else front_of(trials, objectives)
        if not members:
            raise ValueError(f"no trial is trained in full yet, so there is no {which}; name a trial by its number")
        if which == "best" and standings:
            return standings[0].trial
        points = _points_by_means(standings, members, objectives) if standings else points_of(members, objectives)
        if which == "knee":
            return members[knee(points)]
        first = metric_among([objective.metric for objective in objectives]) or 0
        return members[min(range(len(members)), key=lambda index: (points[index, first], members[index].number))]
    by_number = {str(trial.number): trial for trial in trials}
    if which not in by_number:
        raise ValueError(f"there is no trial {which!r}; name best, knee, or a number from 0 to {len(by_number) - 1}")
    trial = by_number[which]
    if trial.plan is None:
        raise ValueError(f"trial {which} was never launched ({trial.reason or trial.status}); choose another")
    return trial


def _points_by_means(
    standings: Sequence[Standing], trials: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> Points:
    means = {standing.trial.number: standing.mean.value for standing in standings}
    values = [
        [trial.costs[one.metric].value if one.metric in trial.costs else means[trial.number] for one in objectives]
        for trial in trials
    ]
    return minimised(values, [objective.direction for objective in objectives])
