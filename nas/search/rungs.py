"""Early stopping as pure functions: at which epochs trials are compared, and who goes on.

A trial trains from rung to rung. What happens there depends on the scheme:

========== ============================================================================================
mo_asha    It waits. It goes on as soon as it is among the best 1/eta of all that reached the rung, however late, and
           fewer than 1/eta went on so far. When nothing is left to propose, `nas.search.gain` says who else does.
hyperband  As mo_asha, in brackets that begin at different rungs and do not compare with each other.
median     It goes on at once if it is in the better half of all that reached the rung, else it ends.
none       There are no rungs.
========== ============================================================================================

"Best" is always `nas.search.pareto.ranking` of all objectives: by accuracy alone the small, fast networks that make the
cheap end of the front are stopped first.

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
    """The epochs at which trials are compared, ascending; the last is always `epochs`, each about 1/eta of the next.

    Raises:
        ValueError: `min_epochs` is not within 1 and `epochs`, or `eta` is less than 2.
    """
    if not 1 <= min_epochs <= epochs:
        raise ValueError(f"min_epochs is {min_epochs}; it must lie within 1 and the {epochs} epochs of the full length")
    if eta < 2:
        raise ValueError(f"eta is {eta}; it must be 2 or more")
    rungs = [epochs]
    while (below := round(epochs / eta ** len(rungs))) >= min_epochs and below < rungs[0]:
        rungs.insert(0, below)
    return tuple(rungs)


def ladders(scheme: Scheme, epochs: int, min_epochs: int, eta: int) -> tuple[tuple[int, ...], ...]:
    """The brackets of a scheme: the rungs that a trial of each climbs, ending at `epochs`.

    Nobody is stopped more than twice on the way, but in Hyperband, which hedges: what a trial shows after a
    twenty-seventh of its training misled the samplers that learn more than it saved (docs/search.md).
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
        brackets: What `ladders` returned.
        eta: The share that goes on at a rung is 1/eta.
    """
    spent = [(count + 1) * _epochs_expected(ladder, eta) for count, ladder in zip(counts, brackets, strict=True)]
    return spent.index(min(spent))


def promotable(points: Mapping[int, Sequence[float]], settled: AbstractSet[int], eta: int) -> list[int]:
    """Who goes on from a rung under successive halving, best first.

    Args:
        points: Objectives, to be made small, of every trial that reached the rung.
        settled: Those of them that went on already, or ended.
        eta: ``len(points) // eta`` go on in all. As more reach the rung, some that went on fall behind: they still
            count, or else as many more would go on as ranks change.
    """
    numbers = sorted(points)
    array = np.array([points[number] for number in numbers])
    open_ = np.array([number not in settled for number in numbers])
    layer = layers(array)
    # What `ranking` would put first, without putting the settled ones in order.
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
    """Whether a trial goes on under median stopping. With fewer than four trials to compare, all do."""
    if len(points) < _MEDIAN_NEEDS:
        return True
    numbers = sorted(points)
    better = ranking([points[other] for other in numbers])[: math.ceil(len(numbers) / 2)]
    return number in {numbers[index] for index in better}


def _epochs_expected(ladder: Sequence[int], eta: int) -> float:
    """Epochs that a trial costs on average, when 1/eta of those at a rung go on."""
    steps = [stop - start for start, stop in zip((0, *ladder), ladder, strict=False)]
    return math.fsum(step / eta**index for index, step in enumerate(steps))
