"""What the finalists' repetitions with other seeds say: which differences are real, and which are noise.

The value by which a finalist was chosen is the highest of many, so it is too high on average; it is left out, and only
the repetitions count. All finalists are taken to vary alike between seeds: with two or three repetitions each, a
variance of one's own would be no estimate at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from nas.search.pareto import minimised
from nas.search.records import Objective, TrialRecord, accuracy_among

_DRAWS = 20_000
_DRAWS_OF_PAIRS = 5_000
"""Of whom every pair is compared: n times the memory."""
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Finalist:
    """A member of the front that was trained again.

    ``trial``: the one of the search. ``accuracies``: what is averaged. ``mean``, ``low``, ``high``: accuracy and its
    95 % interval. ``on_front``: the probability that, of the finalists, it is on the front. ``groups``: the groups
    that it belongs to, by number; two finalists that share one cannot be told apart in accuracy. Group 0 holds the
    most accurate: any of its members may be the best.
    """

    trial: TrialRecord
    accuracies: tuple[float, ...]
    mean: float
    low: float
    high: float
    on_front: float
    groups: tuple[int, ...]


def finalists(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[Finalist]:
    """The finalists whose repetitions are complete, most accurate first.

    With one repetition each there is no variance to see between them; the value of the search is then counted as well.

    Given the pooled variance s^2 of nu degrees of freedom, the true means are drawn from their posterior under
    Jeffreys' prior: sigma^2 ~ nu s^2 / chi^2_nu, mu_i ~ N(mean_i, sigma^2 / k_i). Intervals and probabilities are
    shares of the draws. Two finalists can be told apart if the difference of their means exceeds its standard error by
    more than 95 % of the draws' largest such excess, over all pairs at once (Tukey & Kramer, by simulation); groups
    are the longest stretches of the order in which no pair can. Costs count as they are.

    Args:
        trials: Of a run.
        objectives: Of the run, accuracy among them.

    Returns:
        Nothing if accuracy is not an objective, or nothing was repeated.
    """
    place = accuracy_among([objective.metric for objective in objectives])
    if place is None:
        return []
    by_number = {trial.number: trial for trial in trials}
    repeated: dict[int, list[float]] = {}
    for trial in trials:
        if trial.origin.trial is not None and trial.status == "complete":
            repeated.setdefault(trial.origin.trial, []).append(values_of(trial)[place])
    if not repeated:
        return []
    if all(len(accuracies) == 1 for accuracies in repeated.values()):
        for number, accuracies in repeated.items():
            accuracies.insert(0, values_of(by_number[number])[place])

    order = sorted(repeated, key=lambda number: (-float(np.mean(repeated[number])), number))
    counts = np.array([len(repeated[number]) for number in order])
    means = np.array([np.mean(repeated[number]) for number in order])
    squares = sum(float(np.square(np.array(repeated[n]) - np.mean(repeated[n])).sum()) for n in order)
    freedom = int((counts - 1).sum())
    variance = max(squares / freedom, _SMALLEST_VARIANCE)

    rng = np.random.default_rng(0)
    sigma = np.sqrt(variance * freedom / rng.chisquare(freedom, size=(_DRAWS, 1)))
    draws = means + sigma * rng.normal(size=(_DRAWS, len(order))) / np.sqrt(counts)
    low, high = np.clip(np.quantile(draws, [0.025, 0.975], axis=0), 0.0, 1.0)  # no accuracy lies beyond
    on_front = _front_shares(
        draws[:_DRAWS_OF_PAIRS], [values_of(by_number[number]) for number in order], objectives, place
    )
    groups = _groups(means, counts, variance, draws)
    return [
        Finalist(
            trial=by_number[number],
            accuracies=tuple(repeated[number]),
            mean=float(means[i]),
            low=float(low[i]),
            high=float(high[i]),
            on_front=float(on_front[i]),
            groups=tuple(index for index, group in enumerate(groups) if i in group),
        )
        for i, number in enumerate(order)
    ]


def values_of(trial: TrialRecord) -> tuple[float, ...]:
    """The objectives of a trial that is complete."""
    assert trial.values is not None, trial.number
    return trial.values


def _front_shares(
    draws: NDArray[np.float64], values: Sequence[Sequence[float]], objectives: Sequence[Objective], place: int
) -> NDArray[np.float64]:
    """The share of accuracies drawn [draws, n] in which each of n finalists is on their front.

    Draws are never equal, so one is off it exactly if another is more accurate and nowhere dearer.
    """
    costs = np.delete(minimised(values, [objective.direction for objective in objectives]), place, axis=1)
    no_dearer = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    sign = 1.0 if objectives[place].direction == "maximize" else -1.0
    better = sign * draws[:, :, None] > sign * draws[:, None, :]
    return np.asarray(1 - (better & no_dearer).any(axis=1).mean(axis=0))


def _groups(
    means: NDArray[np.float64], counts: NDArray[np.int64], variance: float, draws: NDArray[np.float64]
) -> list[range]:
    """The longest stretches of finalists, by falling mean, of which no two can be told apart."""
    n = len(means)
    pairs = list(combinations(range(n), 2))
    if not pairs:
        return [range(n)]
    first, second = np.array(pairs).T
    error = np.sqrt(variance * (1 / counts[first] + 1 / counts[second]))
    moved = draws - means
    largest = (np.abs(moved[:, first] - moved[:, second]) / error).max(axis=1)
    apart = (means[first] - means[second]) / error > np.quantile(largest, 0.95)
    told = {pair for pair, differs in zip(pairs, apart.tolist(), strict=True) if differs}
    found: list[range] = []
    for start in range(n):
        stop = start + 1
        while stop < n and not any((i, stop) in told for i in range(start, stop)):
            stop += 1
        if not found or stop > found[-1].stop:
            found.append(range(start, stop))
    return found
