"""Effects of several runs side by side: where the runs agree, and where they differ.

The runs' posteriors are independent, so a draw of one less a draw of another is a draw of their difference. All models
draw with the same random numbers, which would tie draws of equal index together; so each run's draws are shuffled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np

from nas.analysis.answer import Answer, PlaceEffect, together
from nas.analysis.evidence import Array, Place
from nas.analysis.intervals import Interval
from search_spaces.sites import Slot

Agreement: TypeAlias = Literal["agree", "sizes differ", "differ", "some can tell", "none can tell", "alone"]


@dataclass(frozen=True, slots=True)
class Gap:
    """By how much something is better in the run ``first`` than in the run ``second``, in the metric's unit."""

    first: int
    second: int
    difference: Interval


@dataclass(frozen=True, slots=True)
class EffectBeside:
    """An option at a place in several runs.

    ``effects``: by run, of those that have the place. ``gaps``: of each two of these runs; the intervals of all gaps of
    all places hold together with 95 %. ``agreement``:

    agree           all tell the same sign, and no two are told apart
    sizes differ    all tell the same sign, but two are told apart
    differ          two are told apart, or tell opposite signs
    some can tell   some tell a sign, the others neither confirm nor contradict it
    none can tell   none tells a sign
    alone           one run has the place
    """

    place: Place
    effects: Mapping[int, PlaceEffect]
    gaps: tuple[Gap, ...]
    agreement: Agreement

    @property
    def told(self) -> tuple[int, ...]:
        """The runs that tell the sign of the effect."""
        return tuple(run for run, effect in self.effects.items() if effect.gain.sign)

    @property
    def widest(self) -> Gap | None:
        """The gap that is furthest from 0, in units of its interval; None if only one run has the place."""
        return max(self.gaps, key=lambda gap: _distance(gap.difference), default=None)


def beside(answers: Mapping[int, Answer]) -> tuple[EffectBeside, ...]:
    """The effects of runs, place by place.

    Args:
        answers: By run, at least one. Their metrics and skeletons must be the same.

    Returns:
        The places in the order of the first run that has them. A place is the same in two runs if its blocks, its slot
        and its option are.
    """
    draws = _shuffled({run: answer.gains for run, answer in answers.items()})
    found: dict[tuple[tuple[str, ...], Slot, str], dict[int, int]] = {}
    for run, answer in answers.items():
        for column, effect in enumerate(answer.effects):
            found.setdefault((effect.place.blocks, effect.place.slot, effect.place.option), {})[run] = column
    pairs = [(columns, first, second) for columns in found.values() for first, second in combinations(columns, 2)]
    differences = iter(together([draws[a][:, columns[a]] - draws[b][:, columns[b]] for columns, a, b in pairs]))
    rows = []
    for columns in found.values():
        effects = {run: answers[run].effects[column] for run, column in columns.items()}
        gaps = tuple(Gap(a, b, next(differences)) for a, b in combinations(columns, 2))
        place = next(iter(effects.values())).place
        rows.append(EffectBeside(place, effects, gaps, _agreement([one.gain.sign for one in effects.values()], gaps)))
    return tuple(rows)


def takes_beside(answers: Mapping[int, Answer]) -> tuple[Gap, ...]:
    """The networks to take of each two runs; the intervals hold together with 95 %."""
    draws = _shuffled({run: answer.merits for run, answer in answers.items()})
    pairs = list(combinations(answers, 2))
    found = together([draws[first] - draws[second] for first, second in pairs])
    return tuple(Gap(first, second, one) for (first, second), one in zip(pairs, found, strict=True))


def _agreement(signs: Sequence[int], gaps: Sequence[Gap]) -> Agreement:
    if len(signs) == 1:
        return "alone"
    apart = any(gap.difference.sign for gap in gaps)
    if set(signs) in ({1}, {-1}):
        return "sizes differ" if apart else "agree"
    if apart or {1, -1} <= set(signs):
        return "differ"
    return "some can tell" if any(signs) else "none can tell"


def _shuffled(draws: Mapping[int, Array]) -> dict[int, Array]:
    """By run [draws, ...], as many of each run, in an order of the run's own."""
    rng = np.random.default_rng(0)
    count = min(map(len, draws.values()), default=0)
    return {run: rng.permutation(found)[:count] for run, found in draws.items()}


def _distance(found: Interval) -> float:
    return abs(found.value) / max(found.high - found.low, 1e-12)
