"""What trials are expected to add to the hypervolume of a front that is itself an expectation.

Of the front the surrogate's expectations count, not the values told: noise that made a trial look good does not hide
its neighbours. The reference point lies well beyond the front's ends: at them, nothing that extends the front would
ever gain anything.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from nas.search.history import Row, StudyHistory, Targets
from nas.search.pareto import Points, hypervolume, hypervolume_gains, is_front, ranking
from nas.search.surrogate import Likeness, Surrogate, Vector, fit

_BEYOND_THE_FRONT = 0.5
_ENOUGH_FOR_ROUGH = 128
_FEWEST = 5
_SHARE_TO_SPEND = 0.4
"""Of the epochs of everyone in full: while fewer are spent, whatever may add anything is worth a training."""
_WORTH = 0.006
"""Of the front's hypervolume: what is worth a training beyond them."""
_NODES = ((0.0, 2 / 3), (3**0.5, 1 / 6), (-(3**0.5), 1 / 6))
"""Gauss and Hermite's three, for an expectation over a normal distribution: standard deviations, and weights."""


@dataclass(frozen=True)
class Gain:
    """What points, to be made small, add to the hypervolume of a front; each objective scaled to the front's range."""

    front: Points
    reference: Vector
    spans: Vector

    @classmethod
    def over(cls, expected: Points) -> "Gain":
        """Of the front of these points [n, m]."""
        front = expected[is_front(expected)]
        spans = np.ptp(front, axis=0)
        spans = np.where(spans > 0, spans, np.ptp(expected, axis=0))
        spans = np.where(spans > 0, spans, 1.0)
        return cls(front, front.max(axis=0) + _BEYOND_THE_FRONT * spans, spans)

    def __call__(self, points: Points) -> Vector:
        """Of points [n, m]: [n], zero where nothing."""
        return hypervolume_gains(self.front / self.spans, self.reference / self.spans, points / self.spans)

    @property
    def whole(self) -> float:
        """The front's own hypervolume, in the same unit."""
        return hypervolume(self.front / self.spans, self.reference / self.spans)


def learn(likeness: Likeness, targets: Targets, objective: int, *, rough: bool = False) -> Surrogate:
    """A surrogate of one objective from the trials that know it; a rough one is additive, from a part of them."""
    known = np.flatnonzero(np.isfinite(targets.values[:, objective]))
    if rough and len(known) > _ENOUGH_FOR_ROUGH:
        known = known[np.linspace(0, len(known) - 1, _ENOUGH_FOR_ROUGH).astype(int)]
    y, variances = targets.values[known, objective], targets.variances[known, objective]
    return fit(likeness, known, y, variances, additive=rough)


def most_promising(
    history: StudyHistory, left: Mapping[int, int], in_full: AbstractSet[int], *, spent: int, of_all: int
) -> int | None:
    """Whom to train on when nothing is left to propose: who is expected to add most to the front for an epoch.

    Where a share of every rung goes on, as much is spent whatever there is to gain. This spends less where early epochs
    tell the end well, and more where they do not: the less certain an expectation, the more there is to gain.

    Args:
        history: With every epoch told.
        left: The trials that wait -> epochs up to the full length.
        in_full: Those that are complete, or on their way there, and count as if they had arrived.
        spent: Epochs, with those that are under way.
        of_all: Epochs of everyone in full.

    Returns:
        None: Nobody is expected to add as much as 0.6 % to the front's hypervolume, or anything within 40 % of the
        epochs of everyone in full. As long as nobody is in full, it is the best of those that came farthest.
    """
    rows, told = history.closing(), history.accuracy
    targets = history.targets(rows)
    waiting = np.array([index for index, row in enumerate(rows) if row.number in left], dtype=np.int64)
    front = np.array([index for index, row in enumerate(rows) if row.number in in_full], dtype=np.int64)
    if not len(waiting):
        return None
    numbers: list[int] = [rows[index].number for index in waiting.tolist()]
    epochs = np.array([left[number] for number in numbers])
    if not len(front):
        # So few trials that no rung's share was a whole one: the best of those that came farthest.
        far: list[Row] = [rows[index] for index in waiting[epochs == epochs.min()].tolist()]
        points = [[*row.values[:told], row.curve[max(row.curve)], *row.values[told + 1 :]] for row in far]
        return far[ranking(points)[0]].number
    if np.isfinite(targets.values[:, told]).sum() < _FEWEST:
        return None
    levels = np.array([row.levels for row in rows], dtype=np.int64).reshape(len(rows), -1)
    likeness = Likeness.of(levels, levels, history.axes.sizes)
    accuracy = learn(likeness, targets, told)
    # A hand placement outside the space has no levels to be judged by: its value stands.
    outside = np.array([not row.params for row in rows], dtype=bool) & np.isfinite(targets.values[:, told])

    def expected(deviations: float) -> Points:
        points = targets.values.copy()
        points[:, told] = np.where(outside, points[:, told], accuracy.expect(likeness, deviations))
        return points

    gain = Gain.over(expected(0.0)[front])
    gains = np.zeros(len(waiting))
    for deviations, weight in _NODES:
        gains += weight * gain(expected(deviations)[waiting])
    worth = gains > _WORTH * gain.whole
    if not worth.any():
        worth = (gains > 0) & (spent + epochs <= _SHARE_TO_SPEND * of_all)
    return numbers[int(np.argmax(np.where(worth, gains / epochs, -1.0)))] if worth.any() else None
