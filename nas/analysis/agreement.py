"""How much an epoch says about the end: rank correlations, signal, and which early stopping they allow.

Several networks are trained with several seeds each. The accuracies after an epoch are compared with those at the end
of full trainings, which may be of the same trainings or of others (with less data, or smaller images).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.analysis.intervals import Interval
from nas.search.rungs import rung_epochs

Values = NDArray[np.float64]
"""[seeds, networks], a metric in its own unit."""
Samples = NDArray[np.float64]
"""[draws, seeds, networks]"""

_DRAWS = 1_000
_ENOUGH = 0.9
"""Share of the agreement between two seeds at the end that a rung or a cheaper training needs."""
_FAINT = 0.5
"""If two seeds agree with less at the end, a training in full does not tell the networks apart."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the values after one epoch say.

    ``own_end``: rank correlation with the end of the same seed. ``other_end``: with the end of another seed.
    ``spread``: standard deviation between seeds, in the metric's unit. ``signal``: standard deviation between networks,
    without the part that the seeds cause, over `spread`.
    """

    own_end: Interval
    other_end: Interval
    spread: float
    signal: Interval


@dataclass(frozen=True, slots=True)
class Advice:
    """``min_epochs`` and ``eta`` for early stopping; None: train all in full. ``why``: the reason in one sentence."""

    rung: tuple[int, int] | None
    why: str


def agreement(values: Values, ends: Values, seed: int = 0) -> Agreement:
    """Compares values with those at the end, for the same seeds and networks.

    The intervals are quantiles over bootstrap samples of the networks (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, section 13.3). Samples in which all values are equal are left out.

    Raises:
        ValueError: the shapes differ, or there are fewer than three networks.
    """
    if values.shape != ends.shape or values.shape[1] < 3:
        raise ValueError(f"values {values.shape} and ends {ends.shape}: both need the same seeds, and 3 networks")
    networks = values.shape[1]
    drawn = np.random.default_rng(seed).integers(networks, size=(_DRAWS, networks))
    drawn = np.concatenate([np.arange(networks)[None], drawn])
    sampled, sampled_ends = (np.moveaxis(found[:, drawn], 1, 0) for found in (values, ends))
    own, other = _correlations(sampled, sampled_ends)
    return Agreement(
        _interval(own), _interval(other), float(_between_seeds(values[None])[0]), _interval(_signals(sampled))
    )


def advise(epochs: Sequence[Agreement]) -> Advice:
    """The cheapest early stopping whose first rung is enough: it agrees with the end as well as another seed does.

    Args:
        epochs: For each epoch of trainings in full.
    """
    ceiling = epochs[-1].other_end
    if not ceiling.value >= _FAINT or not ceiling.low > 0:
        return Advice(
            None,
            f"two seeds agree with {ceiling} at the end, so one training in full does not tell these networks "
            "apart: train for longer or on more data, or decide with more seeds",
        )
    total = len(epochs)
    telling = [number for number, epoch in enumerate(epochs[:-1], 1) if enough(epoch.other_end, ceiling)]
    for eta in (3, 2):
        rungs = [rung for rung in rung_epochs(total, 1, eta)[:-1] if rung in telling]
        if rungs:
            found = epochs[rungs[0] - 1].other_end
            return Advice(
                (rungs[0], eta),
                f"epoch {rungs[0]} agrees with the end of another seed with {found}; the end itself with {ceiling}",
            )
    best = max((epoch.other_end for epoch in epochs[: total // 2]), key=lambda found: found.value, default=None)
    reached = "" if best is None else f" ({best} at best)"
    return Advice(
        None,
        f"no epoch of the first half agrees with the end{reached} nearly as well as another seed does ({ceiling})",
    )


def enough(found: Interval, ceiling: Interval) -> bool:
    """Whether values agree with the end of another seed nearly as well as the end itself does.

    Args:
        found: `Agreement.other_end` of the values.
        ceiling: That of the ends of trainings in full.
    """
    return found.value >= _ENOUGH * ceiling.value and found.low > 0


def _interval(found: NDArray[np.float64]) -> Interval:
    """The first value, and quantiles of the others."""
    known = found[1:][np.isfinite(found[1:])]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return Interval(float(found[0]), float(low), float(high))


def _correlations(values: Samples, ends: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rank correlations with the ends of the same seed, and with those of another; means over seeds, [draws]."""
    with np.errstate(invalid="ignore"):
        found = _standard_ranks(values) @ np.swapaxes(_standard_ranks(ends), 1, 2)  # [draws, seeds, seeds of the end]
    same = np.eye(found.shape[1], dtype=bool)
    return _mean(found[:, same]), _mean(found[:, ~same])


def _standard_ranks(values: Samples) -> Samples:
    """Ranks over the networks, centred and with norm 1; equal values share their mean rank. NaN if all are equal."""
    column, row = values[..., :, None], values[..., None, :]
    ranks = (column > row).sum(axis=-1) + (column == row).sum(axis=-1) / 2
    ranks -= ranks.mean(axis=-1, keepdims=True)
    return np.asarray(ranks / np.linalg.norm(ranks, axis=-1, keepdims=True))


def _mean(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the last axis, without NaN; NaN where nothing is left."""
    known = np.isfinite(found)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, found, 0).sum(axis=-1) / known.sum(axis=-1))


def _between_seeds(values: Samples) -> NDArray[np.float64]:
    """Standard deviation between seeds, [draws]; NaN with one seed."""
    if values.shape[1] < 2:
        return np.full(len(values), np.nan)
    return np.asarray(np.sqrt(values.var(axis=1, ddof=1).mean(axis=-1)))


def _signals(values: Samples) -> NDArray[np.float64]:
    within = _between_seeds(values)
    between = values.mean(axis=1).var(axis=-1, ddof=1) - within**2 / values.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.sqrt(np.maximum(between, 0.0)) / within
    return np.where(within > 0, found, np.nan)
