"""Whether networks with an option still gain on the plain network when training ends.

New layers learn late. If a training ends before that, a search prefers the plain network, whatever its full length
would show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.analysis.evidence import placements
from nas.analysis.front import searched
from nas.search.metrics import Objective
from nas.search.records import TrialRecord

_FEWEST = 3
"""Trials with an option, and trials beyond the number of coefficients."""
_ERROR = 0.05
_DRAWS = 100_000


@dataclass(frozen=True, slots=True)
class Gaining:
    """An option whose networks gain on the plain network in the last third of the epochs.

    ``gain``: in that third, in the metric's unit; ``low``, ``high``: its interval; all options' intervals hold together
    with 95 %. ``trials``: how many have the option.
    """

    option: str
    gain: float
    low: float
    high: float
    trials: int


def still_gaining(trials: Sequence[TrialRecord], metric: Objective, epochs: int) -> list[Gaining]:
    """The options that still gain on the plain network when training ends, those that gain most first.

    Least squares: the improvement of each trial in the last third of its epochs, explained by which options it has
    anywhere. The constant is the plain network's improvement. Intervals are Student's, with Bonferroni's correction for
    the number of options.

    Args:
        trials: Of a run; only those trained in full count, without the repetitions of finalists.
        metric: The improvement is above 0 where it becomes better.
        epochs: The full length of a trial.

    Returns:
        Only options whose interval lies above 0. Empty with fewer than three epochs, or if too few trials are complete.
    """
    before, told = round(2 * epochs / 3), metric.metric
    if not 0 < before < epochs:
        return []
    complete = [
        trial
        for trial in searched(trials)
        if all(epoch in trial.epochs and told in trial.epochs[epoch].metrics for epoch in (before, epochs))
    ]
    held = [{option for _, _, option in placements(trial)} for trial in complete]
    counts = {option: sum(option in found for found in held) for option in sorted(set().union(*held))}
    options = [option for option, count in counts.items() if _FEWEST <= count <= len(complete) - 1]
    freedom = len(complete) - len(options) - 1
    if not options or freedom < _FEWEST:
        return []
    x = np.array([[1.0, *(option in found for option in options)] for found in held])
    early, late = ([metric.merit(trial.epochs[at].metrics[told]) for trial in complete] for at in (before, epochs))
    y = np.array(late) - np.array(early)
    inverse = np.linalg.pinv(x.T @ x)
    found = inverse @ x.T @ y
    variance = float(((y - x @ found) ** 2).sum()) / freedom
    drawn = np.abs(np.random.default_rng(0).standard_t(freedom, _DRAWS))
    reach = float(np.quantile(drawn, 1 - _ERROR / len(options))) * np.sqrt(variance * np.diag(inverse))
    gaining = [
        Gaining(option, gain, gain - margin, gain + margin, counts[option])
        for option, gain, margin in zip(options, found[1:].tolist(), reach[1:].tolist(), strict=True)
        if gain > margin
    ]
    return sorted(gaining, key=lambda one: -one.gain)
