"""The answer of a run: where attention pays, of which kind, how much, how sure that is, and which network to take."""

from collections.abc import Mapping
from dataclasses import dataclass

from nas.analysis.intervals import Interval
from nas.search.records import TrialRecord
from search_spaces.sites import Slot


@dataclass(frozen=True, slots=True)
class Place:
    """An option in a slot of the blocks that choose together. ``label``: of the blocks, as `Group.label`."""

    label: str
    blocks: tuple[str, ...]
    slot: Slot
    option: str


@dataclass(frozen=True, slots=True)
class PlaceEffect:
    """By how much an option at a place improves the metric against the empty slot.

    ``gain``: in the metric's unit, above 0 where it is better, averaged over what the run's networks have elsewhere.
    The intervals of all places hold together with 95 %. ``trainings``: with the option there, stopped ones included.
    ``costs``: by measure, what the option there adds, in base units. ``more``: further trainings in full after which
    the sign is expected to be known; 0 if it is known, None if a thousand would not be enough.
    """

    place: Place
    gain: Interval
    trainings: int
    costs: Mapping[str, float]
    more: int | None


@dataclass(frozen=True, slots=True)
class PairEffect:
    """By how much two placements together improve the metric beyond the sum of both. The intervals of all pairs hold
    together with 95 %.
    """

    first: Place
    second: Place
    gain: Interval


@dataclass(frozen=True, slots=True)
class Standing:
    """A network that was trained in full.

    ``trial``: its first trial; ``values``: the metric of all its trainings in full. ``mean``: over seeds, in the
    metric's unit. ``on_front``: the probability that no other of these networks is both better and no dearer.
    ``best``: the probability that it has the best metric. ``level_with``: the trials from which it cannot be told.
    ``noise``: the standard deviation between its seeds. ``unstable``: it varies far more than the others.
    """

    trial: TrialRecord
    values: tuple[float, ...]
    mean: Interval
    on_front: float
    best: float
    level_with: tuple[int, ...]
    noise: float
    unstable: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What all trainings of a run say together.

    ``trainings``: those used, in full or stopped; ``networks``: distinct ones among them. ``options``: the effect of
    each option, averaged over its places; their intervals hold together with 95 %. ``pairs``: those whose interval
    excludes 0. ``standings``: best mean first. ``take``: the trial to take; ``rival``: the one that may be better, if
    the two are not told apart, and ``more``: how many more trainings of the two are expected to decide (as in
    `PlaceEffect`). ``baseline``: the best baseline that costs no more than ``take``; ``over_baseline``: by how much
    ``take`` is better. ``baseline_best``: the probability that a baseline has the best metric of all.
    ``noise``: the standard deviation between seeds of a usual network; ``unexplained``: the standard deviation between
    networks that effects and pairs do not explain. All in the metric's unit.
    """

    trainings: int
    networks: int
    effects: tuple[PlaceEffect, ...]
    options: Mapping[str, Interval]
    pairs: tuple[PairEffect, ...]
    standings: tuple[Standing, ...]
    take: int
    rival: int | None
    more: int | None
    baseline: int | None
    over_baseline: Interval | None
    baseline_best: float
    noise: Interval
    unexplained: Interval
