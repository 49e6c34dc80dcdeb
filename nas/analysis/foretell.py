"""Foretells how many more trainings will tell which network is best, by going on in worlds drawn from the posterior.

In each world one draw is the truth. The belief is normal at first, with the mean and the covariance of all draws. Of
the best network and the one nearest to it, that is trained next whose mean gets more certain, and the belief changes by
its value. A formula for one pair would not do: when one rival is beaten, another follows, and the belief may turn.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_WORLDS = 100
_MOST = 300
"""Trainings after which a world counts as undecided."""
_MOST_NETWORKS = 12
_HOPELESS = 0.002
"""Networks that are better than the best with less than this probability are left out."""
_CERTAIN = 1.96
"""Standard deviations of a difference that are a decision with 95 %."""


def trainings_to_decide(merits: Array, noise: Array) -> int | None:
    """The number of trainings after which half of the worlds are decided; None if it exceeds `_MOST`.

    Args:
        merits: [draws, networks] higher is better.
        noise: [draws, networks] standard deviation between the trainings of a network, above 0.
    """
    best = merits.mean(axis=0).argmax()
    better = (merits > merits[:, [best]]).mean(axis=0)
    better[best] = 1.0
    chosen = np.argsort(-better, kind="stable")[:_MOST_NETWORKS]
    chosen = chosen[better[chosen] > _HOPELESS]
    merits = merits[:, chosen]
    at = np.linspace(0, len(merits) - 1, min(_WORLDS, len(merits))).astype(int)
    truth, variance = merits[at], noise[at][:, chosen] ** 2
    mean = np.repeat(merits.mean(axis=0)[None], len(at), axis=0)
    covariance = np.repeat(np.cov(merits, rowvar=False).reshape(1, len(chosen), -1), len(at), axis=0)
    rng, world = np.random.default_rng(0), np.arange(len(at))
    decided = np.zeros(len(at), dtype=bool)
    for trainings in range(_MOST + 1):
        first, second, certain = _nearest(mean, covariance)
        decided |= certain
        if 2 * decided.sum() >= len(at):
            return trainings
        gains = [covariance[world, i, i] ** 2 / (covariance[world, i, i] + variance[world, i]) for i in (first, second)]
        trained = np.where(gains[0] >= gains[1], first, second)
        noise_of = variance[world, trained]
        value = truth[world, trained] + np.sqrt(noise_of) * rng.normal(size=len(at))
        column = covariance[world, :, trained]
        gain = column / (column[world, trained] + noise_of)[:, None]
        mean = mean + gain * (value - mean[world, trained])[:, None]
        covariance = covariance - gain[:, :, None] * column[:, None, :]
    return None


def _nearest(mean: Array, covariance: Array) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """For each world: the best network, the one that is nearest to it in standard deviations, and whether the two are
    told apart.
    """
    world = np.arange(len(mean))
    best = mean.argmax(axis=1)
    own = np.diagonal(covariance, axis1=1, axis2=2)
    variance = own[world, best][:, None] + own - 2 * covariance[world, best]
    distance = (mean[world, best][:, None] - mean) / np.sqrt(np.maximum(variance, 1e-18))
    distance[world, best] = np.inf
    nearest = distance.argmin(axis=1)
    return best, nearest, distance[world, nearest] > _CERTAIN
