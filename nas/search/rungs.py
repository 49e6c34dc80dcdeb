"""Early stopping as pure functions: the epochs at which trials are compared (rungs), and which trials are promoted.

A trial trains from rung to rung. At a rung the scheme decides:

========== ============================================================================================
mo_asha    The trial waits. It is promoted once it is among the best 1/eta of all trials that reached the rung,
           and fewer than 1/eta were promoted so far. When nothing is left to propose, `nas.search.gain`
           promotes further trials.
hyperband  As mo_asha, in brackets that begin at different rungs. Trials are compared only within a bracket.
median     The trial goes on at once if it is in the better half of all that reached the rung; otherwise it ends.
none       There are no rungs.
========== ============================================================================================

"Best" always means `nas.search.pareto.ranking` over all objectives. By accuracy alone, the small and fast networks at
the cheap end of the front would be stopped first.

Sources: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), 2018, arXiv:1810.05934, algorithm 2;
Schmucker et al., Multi-objective Asynchronous Successive Halving, 2021, arXiv:2106.12639; Li et al., Hyperband, 2016,
arXiv:1603.06560; Golovin et al., Google Vizier, 2017, section 3.2.2 (median stopping).
"""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, TypeAlias

import numpy as np

from nas.search.pareto import layers, ranking, spread_order

Scheme: TypeAlias = Literal["mo_asha", "hyperband", "median", "none"]

_MEDIAN_NEEDS = 4
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


def choose_bracket(counts: Sequence[int], brackets: Sequence[Sequence[int]], eta: int) -> int:
    """The bracket of the next trial, so that all brackets spend about the same number of epochs.

    Args:
        counts: Trials in each bracket so far.
        brackets: The result of `ladders`.
        eta: 1/eta of the trials at a rung are promoted.
    """
    spent = [(count + 1) * _epochs_expected(ladder, eta) for count, ladder in zip(counts, brackets, strict=True)]
    return spent.index(min(spent))


def promotable(points: Mapping[int, Sequence[float]], settled: AbstractSet[int], eta: int) -> list[int]:
    """The trials to promote from a rung under successive halving, best first.

    Args:
        points: Objectives (minimised) of every trial that reached the rung.
        settled: The trials among them that were promoted already, or ended.
        eta: ``len(points) // eta`` trials are promoted in all. Trials that were promoted and later fall behind still
            count; otherwise every change of ranks would promote more.
    """
    numbers = sorted(points)
    array = np.array([points[number] for number in numbers])
    open_ = np.array([number not in settled for number in numbers])
    layer = layers(array)
    # The same order as `ranking`, without the cost of ordering the settled trials.
    chosen: list[int] = []
    left = len(numbers) // eta - int((~open_).sum())
    for index in range(int(layer.max(initial=-1)) + 1):
        if len(chosen) >= left:
            break
        members = np.flatnonzero(layer == index)
        if open_[members].any():
            order = members[spread_order(array[members])]
            chosen += [numbers[member] for member in order if open_[member]]
    return chosen[: max(left, 0)]


def in_better_half(points: Mapping[int, Sequence[float]], number: int) -> bool:
    """Whether a trial goes on under median stopping; always true with fewer than four trials at the rung."""
    if len(points) < _MEDIAN_NEEDS:
        return True
    numbers = sorted(points)
    better = ranking([points[other] for other in numbers])[: math.ceil(len(numbers) / 2)]
    return number in {numbers[index] for index in better}


def _epochs_expected(ladder: Sequence[int], eta: int) -> float:
    """Mean number of epochs of a trial if 1/eta of the trials at each rung are promoted."""
    steps = [stop - start for start, stop in zip((0, *ladder), ladder, strict=False)]
    return math.fsum(step / eta**index for index, step in enumerate(steps))
