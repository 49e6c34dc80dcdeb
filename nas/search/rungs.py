"""Early stopping as pure functions: the epochs at which trials are compared (rungs), and which trials are promoted.

A trial trains from rung to rung. At a rung the scheme decides:

========== ============================================================================================
mo_asha    The trial waits. 1/eta of all trials that reached the rung are promoted, those with the largest gain
           that the surrogate expects at the end (`nas.search.gain`). When nothing is left to propose, further
           trials are promoted by the same expectation.
hyperband  As mo_asha, in brackets that begin at different rungs. Trials are compared only within a bracket.
median     The trial goes on at once if it is in the better half of all that reached the rung; otherwise it ends.
none       There are no rungs.
========== ============================================================================================

Where the surrogate expects no gain or is not fitted yet, and under median, "best" means `nas.search.pareto.ranking`
over all objectives. By accuracy alone, the small and fast networks at the cheap end of the front would be stopped
first.

A rung that says nothing about the end (`tells`) stops nobody.

Sources: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), 2018, arXiv:1810.05934, algorithm 2;
Schmucker et al., Multi-objective Asynchronous Successive Halving, 2021, arXiv:2106.12639; Li et al., Hyperband, 2016,
arXiv:1603.06560; Golovin et al., Google Vizier, 2017, section 3.2.2 (median stopping).
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from nas.ranks import rank_correlation
from nas.search.pareto import layers, ranking, spread_order

Scheme: TypeAlias = Literal["mo_asha", "hyperband", "median", "none"]

_MEDIAN_NEEDS = 4
FEWEST_TO_DOUBT = 8
_SAYS_LITTLE = 0.5
_DEVIATIONS_90 = 1.28
_ALMOST_1 = 0.999
_MOST_STOPS = 2


def rung_epochs(epochs: int, min_epochs: int, eta: int) -> tuple[int, ...]:
    """The rungs, ascending: each is about 1/eta of the next, and the last is always `epochs`.

    Raises:
        ValueError: `min_epochs` is not within 1 and `epochs`, or `eta` is less than 2.
    """
    if not 1 <= min_epochs <= epochs:
        raise ValueError(f"min_epochs is {min_epochs}; it must be from 1 to {epochs}, the epochs of the full length")
    if eta < 2:
        raise ValueError(f"eta is {eta}; it must be 2 or more")
    rungs = [epochs]
    while (below := round(epochs / eta ** len(rungs))) >= min_epochs and below < rungs[0]:
        rungs.insert(0, below)
    return tuple(rungs)


def ladders(scheme: Scheme, epochs: int, min_epochs: int, eta: int) -> tuple[tuple[int, ...], ...]:
    """The brackets of a scheme: for each, the rungs of its trials; the last rung is `epochs`.

    Except in Hyperband, at most two rungs come before it. Results after 1/27 of the training misled the samplers that
    learn, and this cost more than the earlier rung saved (docs/search.md).
    """
    if scheme == "none":
        return ((epochs,),)
    rungs = rung_epochs(epochs, min_epochs, eta)
    if scheme == "hyperband":
        return tuple(rungs[start:] for start in range(len(rungs)))
    return (rungs[-1 - _MOST_STOPS :],)


def below_the_end(brackets: Sequence[Sequence[int]]) -> list[int]:
    """The epochs at which a trial of some bracket may be stopped, ascending."""
    return sorted({rung for ladder in brackets for rung in ladder[:-1]})


def choose_bracket(counts: Sequence[int], brackets: Sequence[Sequence[int]], eta: int) -> int:
    """The bracket of the next trial, so that all brackets spend about the same number of epochs.

    Args:
        counts: Trials in each bracket so far.
        brackets: The result of `ladders`.
        eta: 1/eta of the trials at a rung are promoted.
    """
    spent = [(count + 1) * _epochs_expected(ladder, eta) for count, ladder in zip(counts, brackets, strict=True)]
    return spent.index(min(spent))


def promotable(
    points: Mapping[int, Sequence[float]],
    waiting: AbstractSet[int],
    room: int,
    gains: Mapping[int, float] = MappingProxyType({}),
) -> list[int]:
    """The trials to promote from a rung, best first.

    Args:
        points: Objectives (minimised) of every trial that reached the rung.
        waiting: The trials among them that can be promoted.
        room: How many at most. Under successive halving: 1/eta of the trials that reached the rung, less those that
            were promoted already. A promoted trial that later falls behind still counts; otherwise every change of
            ranks would promote more.
        gains: What some of them are expected to add to the front at full length. Those that are expected to add
            something come first, by their gain; the points decide among the others.
    """
    hopeful = {number: gain for number, gain in gains.items() if gain > 0 and number in waiting}
    chosen = sorted(hopeful, key=lambda number: (-hopeful[number], number))
    if len(chosen) < room:
        numbers = sorted(points)
        array = np.array([points[number] for number in numbers])
        open_ = np.array([number in waiting and number not in hopeful for number in numbers])
        layer = layers(array)
        # The same order as `ranking`, without the cost of ordering the other trials.
        for index in range(int(layer.max(initial=-1)) + 1):
            if len(chosen) >= room:
                break
            members = np.flatnonzero(layer == index)
            if open_[members].any():
                order = members[spread_order(array[members])]
                chosen += [numbers[member] for member in order if open_[member]]
    return chosen[:room]


def in_better_half(points: Mapping[int, Sequence[float]], number: int) -> bool:
    """Whether a trial goes on under median stopping; always true with fewer than four trials at the rung."""
    if len(points) < _MEDIAN_NEEDS:
        return True
    numbers = sorted(points)
    better = ranking([points[other] for other in numbers])[: math.ceil(len(numbers) / 2)]
    return number in {numbers[index] for index in better}


def tells(early: Sequence[float], ends: Sequence[float]) -> bool:
    """Whether values at a rung say something about the end; true as long as too few trials show that they do not.

    They do not if Spearman's rank correlation is below 0.5 with a confidence of 90 % (one-sided, by Fisher's
    transformation with the standard error 1.06 / sqrt(n - 3) of Fieller, Hartley and Pearson, Tests for rank
    correlation coefficients, 1957).

    Args:
        early: The metric at the rung, for trials that were trained in full.
        ends: Their metric at the end.
    """
    if len(early) < FEWEST_TO_DOUBT:
        return True
    found = rank_correlation(early, ends)
    if math.isnan(found):
        return True
    deviation = 1.06 / math.sqrt(len(early) - 3)
    return math.atanh(min(max(found, -_ALMOST_1), _ALMOST_1)) + _DEVIATIONS_90 * deviation > math.atanh(_SAYS_LITTLE)


def _epochs_expected(ladder: Sequence[int], eta: int) -> float:
    """Mean number of epochs of a trial if 1/eta of the trials at each rung are promoted."""
    steps = [stop - start for start, stop in zip((0, *ladder), ladder, strict=False)]
    return math.fsum(step / eta**index for index, step in enumerate(steps))
