"""Regularized evolution, for several objectives.

Real et al., Regularized Evolution for Image Classifier Architecture Search, 2018, arXiv:1802.01548, algorithm 1: draw
some of the youngest trials and mutate the best of them in one place. Old trials leave the population, however good.
There are two differences. The parent is a random non-dominated trial of the draw. And evolution begins once there are
enough trials to draw, because a search that stops most trials early might never fill its population.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.search.history import StudyHistory
from nas.search.pareto import is_front
from nas.search.surrogate import Levels

_POPULATION = 30
_DRAWN = 10
_LOOKED_AT = 50 * _POPULATION
"""Sizes of population and draw for searches of hundreds of trials; the paper uses 100 and 25 for 20,000. Most trials
are stopped early and do not count, so `_LOOKED_AT` is larger than the population."""


def evolve(history: StudyHistory, rng: np.random.Generator) -> tuple[Levels, Mapping[str, Any]]:
    """A proposer of `nas.search.leveled`."""
    rows = history.rows[-_LOOKED_AT:]
    targets = history.targets(rows)
    finished = np.flatnonzero(targets.finished)
    if len(finished) < _DRAWN:
        return np.asarray(history.axes.draw(1, rng)[0]), {}
    drawn = rng.choice(finished[-_POPULATION:], _DRAWN, replace=False)
    parent = rows[int(rng.choice(drawn[is_front(targets.values[drawn])]))]
    levels = np.array([parent.levels], dtype=np.int64)
    return np.asarray(history.axes.mutate(levels, np.ones(1, np.int64), rng)[0]), parent.params
