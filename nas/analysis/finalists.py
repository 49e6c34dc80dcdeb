"""Compares the finalists by their repetitions with new seeds: which differences are real, and which are noise.

The value by which the search selected a finalist is biased upwards, because it is the highest of many. So only the
repetitions count. We assume the same variance between seeds for all finalists, because two or three repetitions are
too few to estimate a variance for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nas.search.metrics import Objective, metric_among
from nas.search.pareto import minimised
from nas.search.records import TrialRecord

_DRAWS = 20_000
_DRAWS_OF_PAIRS = 5_000
"""Fewer draws where all pairs of the n finalists are compared, which needs n times the memory."""
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Finalist:
    """An architecture that was trained again with new seeds.

    ``trial``: its trial in the search. ``values``: those of the metric that ``mean`` averages. ``low``, ``high``: the
    95 % interval of the mean. ``on_front``: the probability that it is on the Pareto front of the finalists.
    ``groups``: the numbers of its groups. Finalists of one group do not differ significantly in the metric. Group 0 has
    the best ones: any of its members may be the best.
    """

    trial: TrialRecord
    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    on_front: float
    groups: tuple[int, ...]


def finalists(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[Finalist]:
    """The finalists with complete repetitions, best first.

    If every finalist has only one repetition, there is no variance to estimate, so the search's value counts as well.

    Given the pooled variance s^2 with nu degrees of freedom, the true means are drawn from their posterior under
    Jeffreys' prior: sigma^2 ~ nu s^2 / chi^2_nu, mu_i ~ N(mean_i, sigma^2 / k_i). Intervals are quantiles of the draws,
    and probabilities are shares of them. Two finalists differ significantly if the difference of their means, divided
    by its standard error, exceeds the 95 % quantile (over draws) of the largest such ratio among all pairs
    (Tukey-Kramer, by simulation). Groups are the longest stretches of the order without a significant difference.
    Costs are taken as exact.

    Args:
        trials: Of a run.
        objectives: Of the run.

    Returns:
        An empty list if all objectives are costs, or if no repetition is complete.
    """
    place = metric_among([objective.metric for objective in objectives])
    if place is None:
        return []
    metric = objectives[place]
    by_number = {trial.number: trial for trial in trials}
    repeated: dict[int, list[float]] = {}
    for trial in trials:
        if trial.origin.trial is not None and trial.status == "complete":
            repeated.setdefault(trial.origin.trial, []).append(values_of(trial)[place])
    if not repeated:
        return []
    if all(len(values) == 1 for values in repeated.values()):
        for number, values in repeated.items():
            values.insert(0, values_of(by_number[number])[place])

    order = sorted(repeated, key=lambda number: (-metric.merit(float(np.mean(repeated[number]))), number))
    counts = np.array([len(repeated[number]) for number in order])
    means = np.array([np.mean(repeated[number]) for number in order])
    squares = sum(float(np.square(np.array(repeated[n]) - np.mean(repeated[n])).sum()) for n in order)
    freedom = int((counts - 1).sum())
    variance = max(squares / freedom, _SMALLEST_VARIANCE)

    rng = np.random.default_rng(0)
    sigma = np.sqrt(variance * freedom / rng.chisquare(freedom, size=(_DRAWS, 1)))
    draws = means + sigma * rng.normal(size=(_DRAWS, len(order))) / np.sqrt(counts)
    low, high = np.clip(np.quantile(draws, [0.025, 0.975], axis=0), metric.low, metric.high)
    on_front = _front_shares(
        draws[:_DRAWS_OF_PAIRS], [values_of(by_number[number]) for number in order], objectives, place
    )
    groups = _groups(means, counts, variance, draws)
    return [
        Finalist(
            trial=by_number[number],
            values=tuple(repeated[number]),
            mean=float(means[i]),
            low=float(low[i]),
            high=float(high[i]),
            on_front=float(on_front[i]),
            groups=tuple(index for index, group in enumerate(groups) if i in group),
        )
        for i, number in enumerate(order)
    ]


def values_of(trial: TrialRecord) -> tuple[float, ...]:
    """The values of a complete trial, one per objective."""
    assert trial.values is not None, trial.number
    return trial.values


def _front_shares(
    draws: NDArray[np.float64], values: Sequence[Sequence[float]], objectives: Sequence[Objective], place: int
) -> NDArray[np.float64]:
    """For each of n finalists, the share of the draws [draws, n] in which it is on their Pareto front.

    Two draws are never equal, so a finalist is off the front exactly if another one's metric is better and no cost of
    that one is higher.
    """
    costs = np.delete(minimised(values, [objective.direction for objective in objectives]), place, axis=1)
    no_dearer = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    merits = objectives[place].merit(1.0) * draws
    better = merits[:, :, None] > merits[:, None, :]
    return np.asarray(1 - (better & no_dearer).any(axis=1).mean(axis=0))


def _groups(
    means: NDArray[np.float64], counts: NDArray[np.int64], variance: float, draws: NDArray[np.float64]
) -> list[range]:
    """The longest stretches of finalists, best mean first, in which no two differ significantly."""
    n = len(means)
    pairs = list(combinations(range(n), 2))
    if not pairs:
        return [range(n)]
    first, second = np.array(pairs).T
    error = np.sqrt(variance * (1 / counts[first] + 1 / counts[second]))
    moved = draws - means
    largest = (np.abs(moved[:, first] - moved[:, second]) / error).max(axis=1)
    apart = np.abs(means[first] - means[second]) / error > np.quantile(largest, 0.95)
    told = {pair for pair, differs in zip(pairs, apart.tolist(), strict=True) if differs}
    found: list[range] = []
    for start in range(n):
        stop = start + 1
        while stop < n and not any((i, stop) in told for i in range(start, stop)):
            stop += 1
        if not found or stop > found[-1].stop:
            found.append(range(start, stop))
    return found
