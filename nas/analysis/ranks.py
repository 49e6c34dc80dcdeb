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
    complete = searched(trials)
    stops = sorted({trial.last_epoch for trial in trials if trial.status == "stopped"})
    found: dict[int, float] = {}
    for stop in stops:
        both = [
            (t.epochs[stop].metrics[metric], t.epochs[t.last_epoch].metrics[metric])
            for t in complete
            if stop in t.epochs and all(metric in record.metrics for record in t.epochs.values())
        ]
        if len(both) >= _FEWEST:
            found[stop] = rank_correlation(*zip(*both, strict=True))
    return {stop: agreement for stop, agreement in found.items() if not math.isnan(agreement)}


def silent_rungs(trials: Sequence[TrialRecord], metric: str, rungs: Sequence[int]) -> dict[int, float]:
    """The rungs whose values say too little about the end (`nas.search.rungs.tells`) -> their rank correlation with it.

    The engine stops no trial there.
    """
    found: dict[int, float] = {}
    for rung in rungs:
        both = [
            (trial.epochs[rung].metrics[metric], trial.epochs[trial.last_epoch].metrics[metric])
            for trial in searched(trials)
            if rung in trial.epochs and all(metric in record.metrics for record in trial.epochs.values())
        ]
        early, ends = [one for one, _ in both], [end for _, end in both]
        if not tells(early, ends):
            found[rung] = rank_correlation(early, ends)
    return found
