"""How well early epochs agreed with the last one in a run."""

import math
from collections.abc import Sequence

from nas.analysis.front import searched
from nas.ranks import rank_correlation
from nas.search import TrialRecord
from nas.search.rungs import tells

_FEWEST = 5


def early_ranks(trials: Sequence[TrialRecord], metric: str) -> dict[int, float]:
    """How well a metric predicts its final value: epoch at which trials were stopped -> rank correlation with the last.

    Uses the trials that were trained in full, and leaves out epochs with fewer than five of them. It is empty if no
    trial was stopped. Trials trained in full are the better ones, so their values are closer together and the
    correlation is lower than it would be for all launched trials.
    """
    stops = sorted({trial.last_epoch for trial in trials if trial.status == "stopped"})
    found = {
        stop: rank_correlation(early, ends)
        for stop, (early, ends) in _with_the_end(trials, metric, stops).items()
        if len(early) >= _FEWEST
    }
    return {stop: agreement for stop, agreement in found.items() if not math.isnan(agreement)}


def silent_rungs(trials: Sequence[TrialRecord], metric: str, rungs: Sequence[int]) -> dict[int, float]:
    """The rungs whose values say too little about the end (`nas.search.rungs.tells`) -> their rank correlation with it.

    The engine stops no trial there.
    """
    return {
        rung: rank_correlation(early, ends)
        for rung, (early, ends) in _with_the_end(trials, metric, rungs).items()
        if not tells(early, ends)
    }


def _with_the_end(
    trials: Sequence[TrialRecord], metric: str, epochs: Sequence[int]
) -> dict[int, tuple[list[float], list[float]]]:
    """Epoch -> a metric after it and at the end, of the trials that were trained in full and have it in every epoch."""
    complete = [t for t in searched(trials) if all(metric in record.metrics for record in t.epochs.values())]
    found = {}
    for epoch in epochs:
        reached = [trial for trial in complete if epoch in trial.epochs]
        early = [trial.epochs[epoch].metrics[metric] for trial in reached]
        found[epoch] = early, [trial.epochs[trial.last_epoch].metrics[metric] for trial in reached]
    return found
