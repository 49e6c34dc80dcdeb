"""A run's answer in sentences: what pays, what does not, which network to take, and what would decide more."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from launch.reports.tables import measure_amount, metric_amount, metric_figure, metric_range, probability
from launch.rundir.run import Run
from nas.analysis.answer import Answer, PlaceEffect, Standing
from nas.analysis.evidence import Place
from nas.analysis.intervals import Interval

_MOST_NAMED = 3
"""Effects that a sentence names; the picture has all."""


def sentences(run: Run, answer: Answer) -> list[str]:
    """The answer, the most important first: what pays and which network to take, or if nothing pays the other way."""
    first = [_pays(run, answer), _take(run, answer)]
    return [
        *(first if any(effect.gain.sign > 0 for effect in answer.effects) else reversed(first)),
        *_hurts(run, answer),
        *_undecided(run, answer),
        *_unstable(run, answer),
    ]


def interval(run: Run, found: Interval, *, difference: bool = True) -> str:
    """`38.0 points (31.2 to 44.0)`, or `98.8 % (97.1 to 99.6)` for a value instead of a difference."""
    metric = run.metric
    unit = metric.shown.difference if difference else metric.shown.symbol
    low, high = sorted((found.low, found.high))
    return " ".join(filter(None, [metric_figure(found.value, metric), unit])) + f" ({metric_range(low, high, metric)})"


def place_name(place: Place, among: Iterable[Place]) -> str:
    """`aa in layer3.0`; `aa everywhere` for a choice of the whole network; with the slot if the option has several."""
    slots = {other.slot for other in among if other.option == place.option}
    where = "everywhere" if place.label == "*" else f"in {place.label}"
    return f"{place.option} {where}" + (f" ({place.slot})" if len(slots) > 1 else "")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def against_baseline(answer: Answer) -> str:
    """How the network to take stands to the best baseline that costs no more, which the answer must have."""
    assert answer.over_baseline is not None
    assert answer.baseline is not None
    stands = {1: "is better than", 0: "cannot be told from", -1: "is worse than"}[answer.over_baseline.sign]
    return f"{stands} {_standing(answer, answer.baseline).trial.origin.name}, the best baseline that costs no more"


def as_dict(answer: Answer) -> dict[str, Any]:
    """The answer for programs, in base units; trials by their numbers."""
    return {
        **{name: getattr(answer, name) for name in ("trainings", "networks", "take", "rival", "more", "baseline")},
        "over_baseline": None if answer.over_baseline is None else asdict(answer.over_baseline),
        "baseline_best": answer.baseline_best,
        "noise": asdict(answer.noise),
        "unexplained": asdict(answer.unexplained),
        "options": {name: asdict(gain) for name, gain in answer.options.items()},
        "effects": [asdict(effect) for effect in answer.effects],
        "pairs": [asdict(pair) for pair in answer.pairs],
    }


def _pays(run: Run, answer: Answer) -> str:
    paying = sorted((e for e in answer.effects if e.gain.sign > 0), key=lambda e: -e.gain.value)
    if not paying:
        tried = listed(sorted(answer.options))
        return f"No placement of {tried} has a gain that {answer.trainings} trainings can show." if tried else ""
    named = [f"{_name(e, answer)} adds {interval(run, e.gain)}{_for(run, e)}" for e in paying[:_MOST_NAMED]]
    more = f", and {len(paying) - _MOST_NAMED} more placements gain" if len(paying) > _MOST_NAMED else ""
    options = {e.place.option for e in paying}
    rest = sorted(set(answer.options) - options)
    nothing = f"; {listed(rest)} {_verb(rest)} no gain that {answer.trainings} trainings can show" if rest else ""
    text = f"{listed(named)}{more}{nothing}."
    return text[0].upper() + text[1:]


def _take(run: Run, answer: Answer) -> str:
    chosen = _standing(answer, answer.take)
    text = f"Take trial {answer.take} ({_from(chosen)}{interval(run, chosen.mean, difference=False)})"
    if answer.over_baseline is not None:
        by = ", by" if answer.over_baseline.sign > 0 else "; the gain is"
        text += f": it {against_baseline(answer)}{by} {interval(run, answer.over_baseline)}"
    text += "."
    if answer.rival is not None:
        when = (
            "300 more trainings would not decide which network is best"
            if answer.more is None
            else f"about {answer.more} more trainings would decide which network is best"
        )
        text += f" Trial {answer.rival} may be better; {when}."
    if answer.baseline_best >= 0.05:
        text += f" A baseline is best of all with a probability of {probability(answer.baseline_best)}."
    return text


def _hurts(run: Run, answer: Answer) -> Iterable[str]:
    bad = sorted((e for e in answer.effects if e.gain.sign < 0), key=lambda e: e.gain.value)
    if bad:
        named = [f"{_name(e, answer)} ({interval(run, e.gain)})" for e in bad[:_MOST_NAMED]]
        yield f"Worse than the empty slot: {listed(named)}."


def _undecided(run: Run, answer: Answer) -> Iterable[str]:
    """The undecided gain that the fewest further trainings would decide."""
    open_ = [(e.more, e) for e in answer.effects if not e.gain.sign and e.more is not None and e.gain.value > 0]
    if open_:
        more, effect = min(open_, key=lambda pair: pair[0])
        yield (
            f"Nearest to a decision: {_name(effect, answer)}, {interval(run, effect.gain)}; "
            f"about {more} more trainings would tell."
        )


def _unstable(run: Run, answer: Answer) -> Iterable[str]:
    for one in answer.standings:
        if one.unstable:
            values = listed([metric_amount(value, run.metric) for value in sorted(one.values)])
            yield f"Trial {one.trial.number} is unstable: its seeds give {values}."


def _for(run: Run, effect: PlaceEffect) -> str:
    """` for 2.9 ms`: what the place adds of the first cost among the objectives."""
    measure = next((name for name in run.config.objectives if name in effect.costs), None)
    if measure is None or effect.costs[measure] <= 0:
        return ""
    return f" for {measure_amount(effect.costs[measure], measure)}" + ("" if measure.endswith("_ms") else f" {measure}")


def _name(effect: PlaceEffect, answer: Answer) -> str:
    return place_name(effect.place, [other.place for other in answer.effects])


def _standing(answer: Answer, number: int) -> Standing:
    found = answer.standing(number)
    assert found is not None, number
    return found


def _from(standing: Standing) -> str:
    return f"the baseline {standing.trial.origin.name}, " if standing.trial.origin.is_baseline else ""


def _verb(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
