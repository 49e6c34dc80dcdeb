"""What the pictures of a run show, computed once: `plots` and `figures` draw the same data.

Values of the metric are scaled for the reader (a share in percent), and costs are in the unit of their axis.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from launch.reports.facts import Facts, in_short, origin_of
from nas.analysis import front_of, progress
from nas.analysis.answer import Answer, PlaceEffect
from nas.analysis.evidence import placements
from nas.costs import MEASURES, UNITS
from nas.search import Metric, TrialRecord
from search_spaces import SearchSpace
from search_spaces.sites import EMPTY, SLOTS, Slot

State: TypeAlias = Literal["front", "complete", "stopped"]

_FIRST_EARLIER = 8
_RELAXED = 0.1
"""By how much a limit is relaxed: a share of it."""
PLAIN = "plain"
"""Stands for the networks without a placement."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A trial in the pictures of the front.

    ``option``: see `main_option`. ``mean``: over its seeds; the last value of a trial that was stopped. ``low``,
    ``high``: the 95 % interval, None where there is none. ``costs``: by measure. ``summary``: its placements in short.
    """

    trial: int
    state: State
    origin: str
    baseline: str
    option: str
    mean: float
    low: float | None
    high: float | None
    seeds: int
    costs: Mapping[str, float]
    summary: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the placement map."""

    slot: Slot
    option: str


@dataclass(frozen=True, slots=True)
class PlacementMap:
    """The effects by place (rows, in the order of the network) and by slot and option (columns).

    ``cells``: (row, column) -> effect; the gain in base units. A pair that was never tried is absent.
    """

    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[int, int], PlaceEffect]

    def as_table(self, factor: float) -> dict[str, dict[str, float]]:
        """Option and slot -> place -> gain times ``factor``; a pair that was never tried is absent."""
        return {
            f"{column.option}, {column.slot}": {
                self.rows[row]: factor * self.cells[row, index].gain.value
                for row in range(len(self.rows))
                if (row, index) in self.cells
            }
            for index, column in enumerate(self.columns)
        }


@dataclass(frozen=True, slots=True)
class Rate:
    """The gain of an effect per unit of the cost that it adds, with the gain's interval; the cost counts as exact."""

    effect: PlaceEffect
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Grown:
    """The hypervolume (share of its box) after a number of finished trials, and the epochs spent until then."""

    trials: int
    epochs: int
    hypervolume: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Proposals that a limit refused. ``over``: above it. ``relaxed``: those that a limit 10 % higher would admit."""

    measure: str
    over: int
    relaxed: int


@dataclass(frozen=True, slots=True)
class Curve:
    """A trial's metric after each of its epochs."""

    trial: int
    option: str
    front: bool
    epochs: tuple[int, ...]
    values: tuple[float, ...]


def scaled(value: float, measure: str) -> float:
    """A cost in the unit of its axis."""
    return value / UNITS[MEASURES[measure].unit].axis[0]


def axis(metric: Metric) -> str:
    """The title of an axis with the metric."""
    return ", ".join(filter(None, [f"validation {metric.label}", metric.shown.symbol]))


def options_of(space: SearchSpace, trials: Iterable[TrialRecord]) -> tuple[str, ...]:
    """`PLAIN`, then the space's options in its order, then those that only baselines have."""
    offered = [offer.option for offers in space.offers.values() for offer in offers]
    tried = sorted({option for trial in trials if trial.plan is not None for _, _, option in placements(trial)})
    empty = set(EMPTY.values())
    return tuple(dict.fromkeys([PLAIN, *(option for option in (*offered, *tried) if option not in empty)]))


def main_option(options: Sequence[str], order: Sequence[str]) -> str:
    """The option by which a network is coloured: the one in most of its slots; at a tie the first in `order`."""
    counts = Counter(options)
    return max(order, key=lambda option: counts[option]) if counts else PLAIN


def dots(facts: Facts) -> list[Dot]:
    """The trained trials, without the repetitions of finalists; those without a value are left out.

    With an answer, a trial's value is the mean of its network's seeds.
    """
    run, answer = facts.run, facts.answer
    members = {trial.number for trial in facts.front}
    standings = {standing.trial.number: standing for standing in answer.standings} if answer is not None else {}
    order = options_of(run.space, facts.trials)
    places = _order(run.space)
    factor = run.metric.shown.factor
    found = []
    for trial in facts.trials:
        value = trial.latest(run.metric.name)
        if trial.plan is None or trial.origin.is_finalist or value is None:
            continue
        standing = standings.get(trial.number) if trial.status == "complete" else None
        held = sorted(placements(trial), key=lambda place: places[place[0], place[1]])
        options = [option for _, _, option in held]
        found.append(
            Dot(
                trial=trial.number,
                state="front" if trial.number in members else "complete" if trial.status == "complete" else "stopped",
                origin=origin_of(trial),
                baseline=trial.origin.name,
                option=main_option(options, order),
                mean=factor * (value if standing is None else standing.mean.value),
                low=None if standing is None else factor * standing.mean.low,
                high=None if standing is None else factor * standing.mean.high,
                seeds=1 if standing is None else len(standing.values),
                costs={name: scaled(figure.value, name) for name, figure in trial.costs.items()},
                summary=in_short(run.space.blocks, held),
            )
        )
    return found


def earlier(facts: Facts) -> Iterator[Facts]:
    """The facts when the run had 8, 16, 32, ... proposals: its trials and front of that time, without an answer."""
    count = _FIRST_EARLIER
    while count < len(facts.trials):
        trials = facts.trials[:count]
        yield replace(facts, trials=trials, front=front_of(trials, facts.run.objectives), answer=None)
        count *= 2


def staircase(found: Iterable[Dot], measure: str, *, higher_is_better: bool) -> list[Dot]:
    """The trials with a better mean than every cheaper one, cheapest first; only those trained in full."""
    sign = 1.0 if higher_is_better else -1.0
    complete = [dot for dot in found if dot.state != "stopped" and measure in dot.costs]
    steps: list[Dot] = []
    for dot in sorted(complete, key=lambda dot: (dot.costs[measure], -sign * dot.mean)):
        if not steps or sign * dot.mean > sign * steps[-1].mean:
            steps.append(dot)
    return steps


def placement_map(answer: Answer, space: SearchSpace) -> PlacementMap:
    """The answer's effects as rows and columns."""
    places = _order(space)

    def first(effect: PlaceEffect) -> int:
        return min(places[block, effect.place.slot] for block in effect.place.blocks)

    ordered = sorted(answer.effects, key=first)
    rows = tuple(dict.fromkeys(effect.place.label for effect in ordered))
    kinds = list(options_of(space, ()))
    kinds += [effect.place.option for effect in ordered]
    columns = sorted(
        {(SLOTS.index(effect.place.slot), kinds.index(effect.place.option)) for effect in ordered}
    )  # by slot, and within it by option
    named = tuple(Column(SLOTS[slot], kinds[kind]) for slot, kind in columns)
    cells = {
        (rows.index(effect.place.label), named.index(Column(effect.place.slot, effect.place.option))): effect
        for effect in ordered
    }
    return PlacementMap(rows, named, cells)


def rates(effects: Iterable[PlaceEffect], measure: str, metric: Metric) -> list[Rate]:
    """The gains per added cost, the highest lower bound first; effects that add nothing are left out."""
    found = []
    for effect in effects:
        added = scaled(effect.costs.get(measure, 0.0), measure)
        if added > 0:
            value, low, high = (
                metric.shown.factor * gain / added for gain in (effect.gain.value, effect.gain.low, effect.gain.high)
            )
            found.append(Rate(effect, value, low, high))
    return sorted(found, key=lambda rate: -rate.low)


def curves(facts: Facts, most: int) -> tuple[list[Curve], int]:
    """Learning curves of at most `most` trials, and the number of trials that have one.

    The front's members and the baselines come first; the others are every n-th trial by number.
    """
    run = facts.run
    members = {trial.number for trial in facts.front}
    order = options_of(run.space, facts.trials)
    trained = [
        trial
        for trial in facts.trials
        if trial.plan is not None and not trial.origin.is_finalist and trial.latest(run.metric.name) is not None
    ]
    kept = [trial for trial in trained if trial.number in members or trial.origin.is_baseline]
    kept_numbers = {trial.number for trial in kept}
    others = [trial for trial in trained if trial.number not in kept_numbers]
    room = max(most - len(kept), 0)
    if len(others) > room:
        others = [others[round(i * len(others) / room)] for i in range(room)]
    factor, name = run.metric.shown.factor, run.metric.name
    found = []
    for trial in sorted([*kept, *others], key=lambda trial: trial.number):
        told = [
            (epoch, record.metrics[name]) for epoch, record in sorted(trial.epochs.items()) if name in record.metrics
        ]
        found.append(
            Curve(
                trial=trial.number,
                option=main_option([option for _, _, option in placements(trial)], order),
                front=trial.number in members,
                epochs=tuple(epoch for epoch, _ in told),
                values=tuple(factor * value for _, value in told),
            )
        )
    return found, len(trained)


def growth(facts: Facts) -> list[Grown]:
    """The hypervolume after each trial in full, by number; the epochs are those of all trials up to that number."""
    spent = list(itertools.accumulate(0 if trial.origin.is_finalist else len(trial.epochs) for trial in facts.trials))
    until = {trial.number: epochs for trial, epochs in zip(facts.trials, spent, strict=True)}
    series = progress(facts.trials, facts.run.objectives, facts.run.reference)
    return [Grown(count, until[one.number], one.hypervolume) for count, one in enumerate(series, 1)]


def refused(facts: Facts) -> list[Refused]:
    """What each limit refused, as far as the run knows: who broke a counted limit was not measured."""
    verdicts = [
        trial.budget.violations
        for trial in facts.trials
        if trial.status == "rejected" and trial.budget is not None and not trial.budget.feasible
    ]
    return [
        Refused(
            limit,
            over=sum(violations.get(limit, 0.0) > 0 for violations in verdicts),
            relaxed=sum(
                0 < violations.get(limit, 0.0) <= _RELAXED
                and all(value <= 0 for name, value in violations.items() if name != limit)
                for violations in verdicts
            ),
        )
        for limit in facts.run.limits
    ]


def _order(space: SearchSpace) -> Mapping[tuple[str, Slot], int]:
    """(Block, slot) -> its place in the network."""
    return {
        (block.name, slot): index * len(SLOTS) + SLOTS.index(slot)
        for index, block in enumerate(space.blocks)
        for slot in block.sites
    }
