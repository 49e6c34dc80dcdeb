"""The answer of a run: where attention pays, of which kind, how much, how sure that is, and which network to take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationInfo

from nas.analysis.evidence import Array, Place, Reading, read, share, to_value
from nas.analysis.foretell import trainings_to_decide
from nas.analysis.intervals import Interval
from nas.analysis.model import Posterior, posterior
from nas.search.metrics import Objective
from nas.search.pareto import minimised
from nas.search.records import TrialRecord
from search_spaces import SearchSpace

_ERROR = 0.05
_MOST_MORE = 1_000
_TOGETHER = 2
"""Networks with both placements that the effect of a pair needs."""
_UNSTABLE = 3.0
"""A network is unstable if its noise probably exceeds this many times the usual noise."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
"""For means over a normal distribution."""


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


def _numbered(number: object, info: ValidationInfo) -> TrialRecord:
    """The trial with this number; the context holds the trials."""
    trials: Sequence[TrialRecord] = info.context or ()
    if not isinstance(number, int) or not 0 <= number < len(trials) or trials[number].plan is None:
        raise ValueError(f"trial {number!r} is not one of the run, or was never launched")
    return trials[number]


@dataclass(frozen=True, slots=True)
class Standing:
    """A network that was trained in full.

    ``trial``: its first trial; ``values``: the metric of all its trainings in full. ``mean``: over seeds, in the
    metric's unit. ``on_front``: the probability that no other of these networks is both better and no dearer.
    ``best``: the probability that it has the best metric. ``level_with``: the trials from which it cannot be told.
    ``noise``: the standard deviation between its seeds. ``unstable``: it varies far more than the others.
    """

    trial: Annotated[TrialRecord, PlainValidator(_numbered), PlainSerializer(lambda trial: trial.number)]
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
    excludes 0. ``standings``: best mean first. ``take``: the trial to take, as in `Compared.take`; ``rival``: the one
    that may be better, if the two are not told apart, and ``more``: after how many more trainings one should know which
    network is best, as in `trainings_to_decide`. ``baseline``: the best baseline that costs no more than ``take``;
    ``over_baseline``: by how much ``take`` is better. ``baseline_best``: the probability that a baseline has the best
    metric of all.
    ``noise``: the standard deviation between seeds of a usual network; ``unexplained``: the standard deviation between
    networks that effects and pairs do not explain. All in the metric's unit.
    ``gains`` [draws, effects] and ``merits`` [draws]: the model's draws of ``effects`` and of the metric of ``take``
    (its negative if the metric is minimised), for differences between runs.
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
    gains: Array = field(repr=False, compare=False)
    merits: Array = field(repr=False, compare=False)

    def standing(self, trial: int) -> Standing | None:
        """The standing of the network whose first trial has this number."""
        return next((one for one in self.standings if one.trial.number == trial), None)


def answer(
    trials: Sequence[TrialRecord], objectives: Sequence[Objective], epochs: int, space: SearchSpace
) -> Answer | None:
    """What all trainings of a run say together.

    Args:
        trials: Of a run.
        objectives: Of the run.
        epochs: The full length of a trial.
        space: Of the run.

    Returns:
        None if no objective is a metric of training, or if fewer than three networks were trained in full.
    """
    found = read(trials, objectives, epochs, space)
    return None if found is None else stated(found, posterior(found.evidence), objectives)


_STANDINGS: TypeAdapter[tuple[Standing, ...]] = TypeAdapter(tuple[Standing, ...])


def stored(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """The standings of an answer as JSON values, with trials as their numbers."""
    found: list[dict[str, Any]] = _STANDINGS.dump_python(tuple(standings), mode="json")
    return found


def restored(data: object, trials: Sequence[TrialRecord]) -> tuple[Standing, ...]:
    """What `stored` returned, with the run's trials; raises a ValueError for anything else."""
    found = _STANDINGS.validate_python(data, context=trials)
    if not all(math.isfinite(one.mean.value) for one in found):
        raise ValueError("a mean is not finite")
    return found


def stated(reading: Reading, draws: Posterior, objectives: Sequence[Objective]) -> Answer:
    """The answer from the model's draws."""
    trainings = len(reading.evidence.network)
    gains = gains_of(reading, draws)
    names = sorted({place.option for place in reading.places})
    by_option = [gains[:, [place.option == name for place in reading.places]].mean(axis=1) for name in names]
    slope = _slope(reading, draws)
    compared = Compared(reading, draws, objectives)
    usual = _interval(draws.usual * slope)
    take = compared.take(usual.value)
    rival = compared.rival(take)
    baseline = compared.baseline(take)
    return Answer(
        trainings=trainings,
        networks=len(reading.networks),
        effects=_effects(reading, gains),
        options=dict(zip(names, together(by_option), strict=True)),
        pairs=_pairs(reading, draws, slope),
        standings=compared.standings(),
        take=compared.number(take),
        rival=None if rival is None else compared.number(rival),
        more=0 if rival is None else compared.more_to_decide(),
        baseline=None if baseline is None else compared.number(baseline),
        over_baseline=None if baseline is None else compared.difference(take, baseline),
        baseline_best=compared.baseline_best(),
        noise=usual,
        unexplained=_interval(draws.unexplained * slope),
        gains=gains,
        merits=compared.merits(take),
    )


def gains_of(reading: Reading, draws: Posterior) -> Array:
    """[draws, places] by how much each placement improves the metric against the empty slot, in the metric's unit.

    Each draw's gain is the mean over the run's networks: with what the network has elsewhere, the metric with the
    option in the place, less the metric with the place empty.
    """
    evidence, metric = reading.evidence, reading.metric
    x, range_ = evidence.placed, metric.high - metric.low
    same_group = (evidence.groups[:, None] == evidence.groups).astype(np.float64)
    found = np.empty(draws.mains.shape)
    for i, (f, mains, pairs) in enumerate(zip(draws.networks, draws.mains, draws.pairs, strict=True)):
        alone = mains + x @ pairs  # what each placement adds to each network
        empty = f[:, None] - (x * alone) @ same_group
        found[i] = range_ * (share(empty + alone) - share(empty)).mean(axis=0)
    return found


def together(draws: Sequence[Array]) -> list[Interval]:
    """Means and 95 % intervals that hold together, of quantities with draws [draws] each.

    All intervals have the same number of standard deviations: that within which, in 95 % of the draws, all are.
    """
    if not len(draws):
        return []
    array = np.stack(draws)
    means, deviations = array.mean(axis=1), array.std(axis=1)
    moved = np.abs(array - means[:, None]) / np.maximum(deviations, 1e-12)[:, None]
    reach = float(np.quantile(moved.max(axis=0), 1 - _ERROR)) * deviations
    return [Interval(float(m), float(m - r), float(m + r)) for m, r in zip(means, reach, strict=True)]


def _effects(reading: Reading, gains: Array) -> tuple[PlaceEffect, ...]:
    evidence = reading.evidence
    trainings = len(evidence.network)
    counts = (evidence.placed[evidence.network] > 0).sum(axis=0)
    costs = _added_costs(reading)
    return tuple(
        PlaceEffect(place, gain, int(counts[j]), {name: float(added[j]) for name, added in costs.items()}, more)
        for j, (place, gain) in enumerate(zip(reading.places, together(list(gains.T)), strict=True))
        for more in [_more_for_sign(gain, trainings)]
    )


def _more_for_sign(gain: Interval, trainings: int) -> int | None:
    """Further trainings after which the interval of a gain should exclude 0, if each tells as much as one so far."""
    if gain.sign:
        return 0
    reach = (gain.high - gain.low) / 2
    needed = trainings * ((reach / gain.value) ** 2 - 1) if gain.value else np.inf
    return max(int(np.ceil(needed)), 1) if needed <= _MOST_MORE else None


def _added_costs(reading: Reading) -> dict[str, Array]:
    """Measure -> what each placement adds [places], by least squares over the networks: exact where costs add up."""
    measures = [name for name in reading.networks[0].costs if all(name in one.costs for one in reading.networks)]
    x = np.column_stack([np.ones(len(reading.networks)), reading.evidence.placed])
    return {
        name: np.linalg.lstsq(x, np.array([one.costs[name].value for one in reading.networks]), rcond=1e-10)[0][1:]
        for name in measures
    }


def _pairs(reading: Reading, draws: Posterior, slope: Array) -> tuple[PairEffect, ...]:
    """The pairs of placements whose interval excludes 0."""
    x = (reading.evidence.placed > 0).astype(np.float64)
    first, second = np.nonzero(np.triu(x.T @ x >= _TOGETHER, 1))
    groups = reading.evidence.groups
    apart = groups[first] != groups[second]
    first, second = first[apart], second[apart]
    found = together(list((draws.pairs[:, first, second] * slope[:, None]).T))
    return tuple(
        PairEffect(reading.places[i], reading.places[j], gain)
        for i, j, gain in zip(first, second, found, strict=True)
        if gain.sign
    )


def _slope(reading: Reading, draws: Posterior) -> Array:
    """[draws] how many of the metric's units one unit of the model's scale is, on average over the networks."""
    shares = share(draws.networks)
    return np.asarray((reading.metric.high - reading.metric.low) * (shares * (1 - shares)).mean(axis=1))


def _interval(draws: Array) -> Interval:
    low, high = np.quantile(draws, [_ERROR / 2, 1 - _ERROR / 2])
    return Interval(float(draws.mean()), float(low), float(high))


class Compared:
    """The networks of a run that were trained in full, compared by their mean over seeds; by indices."""

    def __init__(self, reading: Reading, draws: Posterior, objectives: Sequence[Objective]) -> None:
        metric = reading.metric
        full = [i for i, ends in enumerate(reading.ends) if ends]
        self._trials = [reading.networks[i] for i in full]
        self._ends = [reading.ends[i] for i in full]
        f, noise = draws.networks[:, full], draws.noise[:, full]
        at = f[..., None] + noise[..., None] * _NODES
        self._values = to_value(at, metric) @ (_WEIGHTS / _WEIGHTS.sum())
        self._merits = self._values * (1 if metric.direction == "maximize" else -1)
        self._noise = noise * (metric.high - metric.low) * share(f) * (1 - share(f))
        self._loud = (noise > _UNSTABLE * draws.usual[:, None]).mean(axis=0) > 0.9
        costs = [objective.metric for objective in objectives if objective.metric != metric.metric]
        table = minimised(
            [[one.costs[name].value for name in costs] for one in self._trials], ["minimize"] * len(costs)
        )
        self._costs = table
        self._no_dearer = np.asarray((table[:, None] <= table).all(axis=2))
        self._best = np.bincount(self._merits.argmax(axis=1), minlength=len(full)) / len(f)
        self.order = np.argsort(-self._merits.mean(axis=0), kind="stable").tolist()

    def __len__(self) -> int:
        return len(self._trials)

    def number(self, index: int) -> int:
        """The trial's number."""
        return self._trials[index].number

    def take(self, noise: float) -> int:
        """The network to take: the best, or the cheapest of those that cost no more and cannot be told from it, if the
        expected loss is below the noise of one training.

        Args:
            noise: standard deviation between the seeds of a usual network, in the metric's unit.
        """
        best = self.order[0]
        behind = self._merits[:, [best]] - self._merits
        loss = np.maximum(behind, 0).mean(axis=0)
        level = self._better_than(best) > _ERROR / 2
        as_good = self._no_dearer[:, best] & level & (loss < noise)
        as_good[best] = True
        return int(min((i for i in self.order if as_good[i]), key=lambda i: tuple(self._costs[i])))

    def rival(self, index: int) -> int | None:
        """The network that is most probably better than one, among those that cannot be told from it; None: no such."""
        better = self._better_than(index)
        return int(better.argmax()) if better.max(initial=0) > _ERROR / 2 else None

    def _better_than(self, index: int) -> Array:
        """[networks] the probability that each one is better than this one."""
        return np.asarray((self._merits > self._merits[:, [index]]).mean(axis=0))

    def more(self, first: int, second: int) -> int | None:
        """Trainings of both, in turn, after which the sign of their difference is expected to be known."""
        difference = self._merits[:, first] - self._merits[:, second]
        noise = float(np.median(self._noise[:, first] ** 2 + self._noise[:, second] ** 2))
        mean, variance = float(difference.mean()), max(float(difference.var()), 1e-12)
        needed = noise * (1.96**2 / mean**2 - 1 / variance) if mean else np.inf
        return 2 * max(int(np.ceil(needed)), 1) if needed <= _MOST_MORE else None

    def more_to_decide(self) -> int | None:
        """Trainings after which the best network is expected to be known; None: too many."""
        return trainings_to_decide(self._merits, self._noise)

    def undecided(self) -> list[tuple[float, int, int]]:
        """The claims that are not certain: what it costs to be wrong, in the metric's unit, and the two networks.

        Claims: which network is best; that it is better than the best baseline that is no dearer; and for every
        network, whether one that is no dearer is better.
        """
        best = self.order[0]
        baseline = self.baseline(best)
        claims = {(best, baseline)} if baseline is not None else set()
        for i in range(len(self)):
            no_dearer = self._no_dearer[:, i] | (i == best)
            no_dearer[i] = False
            above = np.where(no_dearer, (self._merits > self._merits[:, [i]]).mean(axis=0), 0.0)
            claims.add((i, int(above.argmax())))
        return [(cost, i, j) for i, j in claims if (cost := self._cost_of_error(i, j)) > 0]

    def _cost_of_error(self, first: int, second: int) -> float:
        """The expected difference of two networks on the side that is less probable; 0 if the side is known."""
        difference = self._merits[:, first] - self._merits[:, second]
        above = float((difference > 0).mean())
        if not _ERROR / 2 < above < 1 - _ERROR / 2:
            return 0.0
        wrong = -difference if above >= 0.5 else difference
        return float(np.maximum(wrong, 0).mean())

    def merits(self, index: int) -> Array:
        """[draws] a network's metric, or its negative if the metric is minimised."""
        return np.asarray(self._merits[:, index])

    def seeds(self, index: int) -> int:
        """How many trainings in full a network has."""
        return len(self._ends[index])

    def certainty_gained(self, index: int, started: int) -> float:
        """By how much one more training would lower the variance of a network's mean, after `started` others."""
        variance = float(self._merits[:, index].var())
        noise = float(np.median(self._noise[:, index] ** 2))
        return variance / (1 + started * variance / noise) - variance / (1 + (started + 1) * variance / noise)

    def baseline(self, index: int) -> int | None:
        """The best baseline that costs no more than a network; None if there is none, or if the network is one."""
        if self._trials[index].origin.is_baseline:
            return None
        found = [i for i in self.order if self._trials[i].origin.is_baseline and self._no_dearer[i, index]]
        return found[0] if found else None

    def difference(self, first: int, second: int) -> Interval:
        """By how much the first is better."""
        return _interval(self._merits[:, first] - self._merits[:, second])

    def baseline_best(self) -> float:
        """The probability that a baseline has the best metric."""
        return float(sum(best for one, best in zip(self._trials, self._best, strict=True) if one.origin.is_baseline))

    def standings(self) -> tuple[Standing, ...]:
        """Best mean first."""
        return tuple(self._standing(i) for i in self.order)

    def _standing(self, i: int) -> Standing:
        merits = self._merits
        others = self._no_dearer[:, i].copy()
        others[i] = False
        beaten = (merits[:, others].max(axis=1, initial=-np.inf) > merits[:, i]).mean()
        above = (merits > merits[:, [i]]).mean(axis=0)
        level = (above > _ERROR / 2) & (above < 1 - _ERROR / 2)
        return Standing(
            trial=self._trials[i],
            values=self._ends[i],
            mean=_interval(self._values[:, i]),
            on_front=float(1 - beaten),
            best=float(self._best[i]),
            level_with=tuple(self._trials[j].number for j in self.order if level[j]),
            noise=float(np.median(self._noise[:, i])),
            unstable=bool(self._loud[i]) and len(self._ends[i]) > 1,
        )
