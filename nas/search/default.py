"""The default sampler: neighbours of the front, ranked by the hypervolume that a surrogate expects of them.

For every trial:

1. Until there are enough trials to estimate main effects, propose the candidate that differs most from all trials, with
   rare levels first.
2. Then predict every objective with `nas.search.surrogate`. The last value of stopped and running trials is
   extrapolated to the full length (`nas.search.history.StudyHistory.targets`).
3. Make candidates from the front by recombination and one to three mutations; drop those that were already proposed.
4. Propose the candidate whose predicted objectives add most hypervolume to the front of predictions. Noise that made a
   trial look good does not hide its neighbours, and running trials count with their predictions, so that two workers do
   not get nearly equal proposals. Objectives that need no training are computed, not predicted. With constraints, the
   gain is multiplied by the probability that they hold.

Two choices matter most. Candidates stay near the front: a surrogate is least accurate far from all trials, and
maximising over the whole space would select such points. And the front consists of expectations (`nas.search.gain`).
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.search.gain import Gain, learn
from nas.search.history import Observation, StudyHistory
from nas.search.parameters import CLOSED, Axes
from nas.search.pareto import Points, is_front
from nas.search.surrogate import Levels, Likeness, Surrogate, Vector, fit
from search_spaces import Architecture, SearchSpace

_STARTUP = 16
_DESIGNS = 64
_CANDIDATES = 200
_CROSSED = 0.3
_FEWEST_TOLD = 4
_ASKED_FOR_COSTS = 12
_OPTIMISM = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about an architecture before it is trained.

    ``values``: of each objective, in the study's order; None for the training metric. ``seen``: whether it was proposed
    before.
    """

    values: tuple[float | None, ...]
    seen: bool = False


KnownOf: TypeAlias = Callable[[Architecture], Known]


@dataclass(frozen=True)
class FrontNeighbours:
    """A proposer for `nas.search.leveled`; see the module's text.

    ``space``: the space, if it is known. ``known``: gives objectives that need no training; only with `space`.
    """

    space: SearchSpace | None = None
    known: KnownOf | None = None

    def __call__(self, history: StudyHistory, rng: np.random.Generator) -> tuple[Levels, Mapping[str, Any]]:
        """The next levels [d], and the parameters of the trial that they were derived from."""
        axes, rows = history.axes, history.sample()
        levels = np.array([row.levels for row in rows], dtype=np.int64).reshape(len(rows), len(axes.axes))
        targets = history.targets(rows)
        likeness = Likeness.of(levels, levels, axes.sizes)
        holds = _learn_constraints(rows, likeness)
        # Extrapolated values of stopped trials count, because few of hundreds may be trained in full.
        described = np.array([bool(row.params) for row in rows], dtype=bool)
        informative = np.flatnonzero(np.isfinite(targets.values).all(axis=1) & described)
        if len(informative) < _STARTUP:
            return _differing(axes, levels, holds, rng), {}

        # Known costs are computed later for the best candidates; a rough model is enough to find these.
        rough = [self.known is not None and k != history.told for k in range(targets.values.shape[1])]
        models = [learn(likeness, targets, k, rough=rough[k]) for k in range(len(rough))]
        expected = _expect(models, likeness, 0.0)
        expected[:, rough] = np.where(np.isfinite(targets.values), targets.values, expected)[:, rough]
        finished = np.flatnonzero(targets.finished)
        fronts = [finished[is_front(targets.values[finished])], informative[is_front(expected[informative])]]
        parents = np.unique(np.concatenate(fronts))
        candidates, of = _neighbours(axes, levels, parents, history.tried, rng)
        if not len(candidates):
            return _differing(axes, levels, holds, rng), {}
        counting = targets.finished | np.array([row.open for row in rows], dtype=bool)
        gain = Gain.over(expected[counting])
        to_tried = Likeness.of(candidates, levels, axes.sizes)
        likely = holds(to_tried)
        for optimism in _OPTIMISM:
            # Start with the mean; become more optimistic only if no candidate is expected to gain.
            predicted = _expect(models, to_tried, optimism)
            score = likely * gain(predicted)
            if score.any():
                break
        if self.known is not None and self.space is not None:
            score = self._score_with_costs(history, candidates, predicted, likely, score, gain, rng)
        best = int(np.argmax(score))
        return candidates[best], rows[of[best]].params

    def _score_with_costs(
        self,
        history: StudyHistory,
        candidates: Levels,
        predicted: Points,
        likely: Vector,
        score: Vector,
        gain: Gain,
        rng: np.random.Generator,
    ) -> Vector:
        """New scores of the best candidates, with known objectives in place of predictions; 0 for the others."""
        assert self.space is not None
        assert self.known is not None
        again = np.zeros(len(score))
        for index in np.argsort(-score, kind="stable")[:_ASKED_FOR_COSTS].tolist():
            if again.max() >= score[index]:
                # The predicted scores of all others are lower than the best new score.
                break
            params = {
                axis.name: axis.value(level, rng)
                for axis, level in zip(history.axes.axes, candidates[index].tolist(), strict=True)
                if level != CLOSED
            }
            known = self.known(self.space.decode(params))
            exact = [
                expected if value is None else sign * value
                for sign, value, expected in zip(history.signs, known.values, predicted[index].tolist(), strict=True)
            ]
            if not known.seen:
                again[index] = likely[index] * gain(np.array([exact]))[0]
        return again if again.any() else score


def _learn_constraints(rows: Sequence[Observation], likeness: Likeness) -> Callable[[Likeness], Vector]:
    """A function: likeness of candidates to the rows -> probability [n] that they keep all constraints."""
    models = []
    for name in sorted({name for row in rows for name, value in row.constraints.items() if value > 0}):
        # Some constraints (out of memory) are stored only if broken, so rows that break nothing keep them.
        values = np.array([row.constraints.get(name, np.nan if _breaks(row) else -1.0) for row in rows])
        told = np.flatnonzero(~np.isnan(values))
        if len(told) >= _FEWEST_TOLD and np.ptp(values[told]) > 0:
            # An infinite violation counts as the largest finite one.
            most = np.abs(values[np.isfinite(values)]).max(initial=0.0) or 1.0
            models.append(fit(likeness, told, np.clip(values[told], -most, most)))

    def probability(candidates: Likeness) -> Vector:
        likely = np.ones(len(candidates.open))
        for model in models:
            likely *= model.probability_below(candidates, 0.0)
        return likely

    return probability


def _breaks(row: Observation) -> bool:
    return any(value > 0 for value in row.constraints.values())


def _expect(models: Sequence[Surrogate], likeness: Likeness, optimism: float) -> Points:
    """The expected objectives [n, m], minus `optimism` standard deviations."""
    return np.stack([model.expect(likeness, optimism) for model in models], axis=1)


def _differing(axes: Axes, tried: Levels, holds: Callable[[Likeness], Vector], rng: np.random.Generator) -> Levels:
    """The random candidate [d] with the largest distance from all trials, plus a bonus for rarely tried levels."""
    drawn = axes.draw(_DESIGNS, rng)
    if not len(tried):
        return np.asarray(drawn[0])
    apart = (drawn[:, None, :] != tried[None, :, :]).sum(axis=2).min(axis=1)
    counts = (drawn[:, None, :] == tried[None, :, :]).sum(axis=1)
    rarity = (1 / (1 + counts)).mean(axis=1)
    # The bonus of an axis is a full step of distance only if its level was never tried.
    score = (apart + rarity * len(axes.axes)) * holds(Likeness.of(drawn, tried, axes.sizes))
    return np.asarray(drawn[int(np.argmax(np.where(apart > 0, score, -1.0)))])


def _neighbours(
    axes: Axes,
    levels: Levels,
    parents: NDArray[np.int64],
    tried: AbstractSet[tuple[int, ...]],
    rng: np.random.Generator,
) -> tuple[Levels, NDArray[np.int64]]:
    """Candidates [n, d] that were not tried yet, and the parent row [n] of each."""
    d = len(axes.axes)
    of = rng.choice(parents, _CANDIDATES)
    other = rng.choice(parents, _CANDIDATES)
    crossed = (rng.random(_CANDIDATES) < _CROSSED)[:, None] & (rng.random((_CANDIDATES, d)) < 0.5)
    made = axes.mutate(np.where(crossed, levels[other], levels[of]), rng.integers(1, 4, _CANDIDATES), rng)
    _, first = np.unique(made, axis=0, return_index=True)
    first.sort()
    new = [index for index in first.tolist() if tuple(made[index].tolist()) not in tried]
    return made[new], of[new]
