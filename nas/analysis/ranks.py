"""Rank correlations."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.analysis.front import searched
from nas.search import TrialRecord

_FEWEST = 5


def ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: npt.NDArray[np.float64] = (last - (counts + 1) / 2)[inverse]
    return shared


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation: 1 for the same order, -1 for the opposite one; NaN if either input is constant.

    Raises:
        ValueError: the inputs differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values against {len(second)}: both need one value for every network")
    a, b = ranks(first), ranks(second)
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


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
