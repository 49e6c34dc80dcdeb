"""The hypervolume that trials are expected to add to a front of expected values.

The front consists of the surrogate's expectations, not of measured values, so that noise which made a trial look good
does not hide its neighbours. The reference point lies well beyond the ends of the front; otherwise points that extend
the front would gain nothing.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from nas.search.history import StudyHistory, Targets
from nas.search.pareto import Points, hypervolume, hypervolume_gains, is_front, ranking
from nas.search.surrogate import Likeness, Surrogate, Vector, fit

_BEYOND_THE_FRONT = 0.5
_ENOUGH_FOR_ROUGH = 128
_FEWEST = 5
_SHARE_TO_SPEND = 0.4
"""Share of the epochs that training all trials in full would take. Below it, any expected gain justifies training."""
_WORTH = 0.006
"""Share of the front's hypervolume that a trial must be expected to add, to be trained beyond `_SHARE_TO_SPEND`."""
_NODES = ((0.0, 2 / 3), (3**0.5, 1 / 6), (-(3**0.5), 1 / 6))
"""Gauss-Hermite quadrature with three nodes, for a normal distribution: (standard deviations, weight)."""


@dataclass(frozen=True)
class Hopes:
    """Trial -> the hypervolume that it is expected to add, and the front's own hypervolume in the same unit."""

    gains: Mapping[int, float]
    whole: float


@dataclass(frozen=True)
class Gain:
    """The hypervolume that points (minimised) add to a front; each objective is scaled by the front's range."""

    front: Points
    reference: Vector
    spans: Vector

    @classmethod
    def over(cls, expected: Points) -> "Gain":
        """The gain over the front of these points [n, m]."""
        front = expected[is_front(expected)]
        spans = np.ptp(front, axis=0)
        spans = np.where(spans > 0, spans, np.ptp(expected, axis=0))
        spans = np.where(spans > 0, spans, 1.0)
        return cls(front, front.max(axis=0) + _BEYOND_THE_FRONT * spans, spans)

    def __call__(self, points: Points) -> Vector:
        """Gains [n] of points [n, m]; 0 for a dominated point."""
        return hypervolume_gains(self.front / self.spans, self.reference / self.spans, points / self.spans)

    @property
    def whole(self) -> float:
        """The front's own hypervolume, in the same unit."""
        return hypervolume(self.front / self.spans, self.reference / self.spans)


def learn(likeness: Likeness, targets: Targets, objective: int, *, rough: bool = False) -> Surrogate:
    """A surrogate of one objective, fitted to the trials with a value; with `rough`, additive and on a part of them."""
    known = np.flatnonzero(np.isfinite(targets.values[:, objective]))
    if rough and len(known) > _ENOUGH_FOR_ROUGH:
        known = known[np.linspace(0, len(known) - 1, _ENOUGH_FOR_ROUGH).astype(int)]
    y, variances = targets.values[known, objective], targets.variances[known, objective]
    return fit(likeness, known, y, variances, additive=rough)


def expected_gains(history: StudyHistory, candidates: AbstractSet[int], in_full: AbstractSet[int]) -> Hopes | None:
    """The gain that unfinished trials are expected to bring to the front of the complete ones.

    The surrogate expects the end of every trial, from its levels and from its curve so far
    (`nas.search.history.StudyHistory.targets`). Where early epochs say nothing about the end, the levels alone count.

    Args:
        history: Includes all epochs so far.
        candidates: The trials in question.
        in_full: Trials that are complete or training to full length; both count as complete.

    Returns:
        None if too few trials tell about the end, or `in_full` is empty.
    """
    rows, told = history.closing(), history.told
    targets = history.targets(rows)
    open_ = np.array([index for index, row in enumerate(rows) if row.number in candidates], dtype=np.int64)
    front = np.array([index for index, row in enumerate(rows) if row.number in in_full], dtype=np.int64)
    if not len(open_) or not len(front) or np.isfinite(targets.values[:, told]).sum() < _FEWEST:
        return None
    levels = np.array([row.levels for row in rows], dtype=np.int64).reshape(len(rows), -1)
    likeness = Likeness.of(levels, levels, history.axes.sizes)
    learnt = learn(likeness, targets, told)
    # A baseline outside the space has no levels for the surrogate, so its own value is used.
    outside = np.array([not row.params for row in rows], dtype=bool) & np.isfinite(targets.values[:, told])

    def expected(deviations: float) -> Points:
        points = targets.values.copy()
        points[:, told] = np.where(outside, points[:, told], learnt.expect(likeness, deviations))
        return points

    gain = Gain.over(expected(0.0)[front])
    gains = np.zeros(len(open_))
    for deviations, weight in _NODES:
        gains += weight * gain(expected(deviations)[open_])
    return Hopes(
        {rows[index].number: one for index, one in zip(open_.tolist(), gains.tolist(), strict=True)}, gain.whole
    )


def most_promising(
    history: StudyHistory, left: Mapping[int, int], in_full: AbstractSet[int], *, spent: int, of_all: int
) -> int | None:
    """The waiting trial to continue when nothing is left to propose: the largest expected gain per remaining epoch.

    Promoting a fixed share of every rung would spend the same epochs whatever the possible gain. This rule spends less
    where early epochs predict the end well, and more where they do not, because uncertain trials have more to gain.

    Args:
        history: Includes all epochs so far.
        left: Waiting trial -> epochs left to the full length.
        in_full: Trials that are complete or training to full length; both count as complete.
        spent: Epochs spent, including those in progress.
        of_all: Epochs that training all trials in full would take.

    Returns:
        The trial's number. None if no trial is expected to add 0.6 % to the front's hypervolume, nor anything at all
        while less than 40 % of `of_all` is spent. If `in_full` is empty: the best of the trials with the most epochs.
    """
    if not in_full:
        # There are so few trials that no rung promoted any.
        rows, told = history.closing(), history.told
        far = [row for row in rows if row.number in left and left[row.number] == min(left.values())]
        points = [[*row.values[:told], row.curve[max(row.curve)], *row.values[told + 1 :]] for row in far]
        return far[ranking(points)[0]].number
    hopes = expected_gains(history, left.keys(), in_full)
    if hopes is None:
        return None
    worth = {number: gain for number, gain in hopes.gains.items() if gain > _WORTH * hopes.whole}
    if not worth:
        worth = {n: gain for n, gain in hopes.gains.items() if gain > 0 and spent + left[n] <= _SHARE_TO_SPEND * of_all}
    return max(worth, key=lambda number: worth[number] / left[number], default=None)
