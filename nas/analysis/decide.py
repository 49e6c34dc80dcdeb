"""Deciding on purpose: which network is trained next with a new seed, so that the answer gets more certain.

An answer claims that some networks are on the front, that others are not, and which one is best. A claim is about two
networks, and it is wrong if the sign of their difference is. What it costs to be wrong is the expected difference on
the wrong side (the opportunity cost of Chick and Inoue, New two-stage and sequential procedures for selecting the best
simulated system, Operations Research 49, 2001). The claim that costs most is decided first. Of its two networks, the
one is trained whose mean a further seed makes more certain, as in top-two sampling (Russo, Simple Bayesian algorithms
for best arm identification, 2016, arXiv:1602.08448). A network with one seed comes first: its noise is not known.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from nas.analysis.answer import Compared
from nas.analysis.evidence import read
from nas.analysis.model import posterior
from nas.search.metrics import Objective
from nas.search.records import TrialRecord
from search_spaces import SearchSpace

_SWEEPS, _KEPT = 480, 400
"""Fewer than for a report: the search waits for it."""


def most_telling(
    trials: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    epochs: int,
    space: SearchSpace,
    *,
    left: int,
    running: Mapping[int, int] = MappingProxyType({}),
) -> int | None:
    """The trial whose network should be trained next with a new seed.

    Args:
        trials: Of a run.
        objectives: Of the run.
        epochs: The full length of a trial.
        space: Of the run.
        left: How many trainings may still be started. A claim that they cannot decide is left undecided.
        running: First trial of a network -> its trainings that were started already.

    Returns:
        None if every claim is decided with 95 %, or cannot be decided with `left` trainings.
    """
    reading = read(trials, objectives, epochs, space)
    if reading is None or left < 1:
        return None
    draws = posterior(reading.evidence, sweeps=_SWEEPS, kept=_KEPT)
    compared = Compared(reading, draws, objectives)
    started = np.array([running.get(compared.number(i), 0) for i in range(len(compared))])
    for _, first, second in sorted(compared.undecided(), reverse=True):
        once = [i for i in (first, second) if compared.seeds(i) + started[i] == 1]
        if once:  # its noise is not known yet, so nor is what a further seed would tell
            return compared.number(once[0])
        needed = compared.more(first, second)
        if needed is not None and needed <= left + started[first] + started[second]:
            gains = [compared.certainty_gained(i, int(started[i])) for i in (first, second)]
            return compared.number(first if gains[0] >= gains[1] else second)
    return None
