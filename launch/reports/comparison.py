"""Several runs side by side: what differs between them, and what they say together about where attention pays."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from launch.errors import UserError
from launch.reports.answer import as_dict, interval, listed, place_name
from launch.reports.facts import Facts
from launch.reports.tables import measure_amount, metric_range
from launch.reports.tables import text as cell
from nas.analysis import EffectBeside, Gap, beside, takes_beside
from nas.analysis.answer import Answer
from nas.costs import MEASURES
from search_spaces.errors import named
from trainers.datasets import SOURCES

LETTERS = "ABCDEFGH"
"""Of the runs, in the order in which they are named."""
RUNS_TITLE = "The runs"
SETTINGS_TITLE = "What differs between them"
EFFECTS_TITLE = "Every placement"
_MOST_NAMED = 3
_SAME_RESULT = {"trainer.seed", "trainer.compile", "trainer.channels_last", "data.workers", "data.in_memory"}
"""Settings of data and training that do not change what the metric measures."""
_NOT_THE_NETWORK = {"skeleton.image_size"}
_MACHINE = ("hosts", "resources.cpus_per_trial", "resources.gpus_per_trial", "resources.accelerator")
"""What times depend on, as far as a run knows."""
_HEADLINES = (
    "space",
    "data.name",
    "data.train_size",
    "recipe",
    "trainer.epochs",
    "objectives",
    "budget",
)
"""Settings that are named where they are the same."""


@dataclass(frozen=True, slots=True)
class Side:
    """A run of a comparison. ``shown``: its folder as the user named it. ``name``: the letter and a name."""

    letter: str
    shown: Path
    name: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; they have one metric.

    ``differing``: setting -> its text in each run. ``same``: settings that are the same in all. ``notes``: what is not
    compared, and why. ``measures``: the costs that all runs have. ``effects`` and ``takes``: as in `nas.analysis`, by
    the runs' indices; empty where they cannot be compared.
    """

    sides: tuple[Side, ...]
    differing: Mapping[str, tuple[str, ...]]
    same: Mapping[str, str]
    notes: tuple[str, ...]
    measures: tuple[str, ...]
    effects: tuple[EffectBeside, ...]
    takes: tuple[Gap, ...]

    @property
    def answers(self) -> dict[int, Answer]:
        """By run, of those that have one."""
        return _answers(self.sides)


def compared(runs: Sequence[tuple[Path, Facts]]) -> Comparison:
    """Compares runs, each with its folder as the user named it.

    Raises:
        UserError: there are fewer than two runs or more than `LETTERS`, one is named twice, or their metrics or
            numbers of classes differ.
    """
    sides = _sides(runs)
    _check(sides)
    settings = [_settings(side, sides) for side in sides]
    names = dict.fromkeys(name for found in settings for name in found)
    texts = {name: tuple(found.get(name, "-") for found in settings) for name in names}
    differing = {name: found for name, found in texts.items() if len(set(found)) > 1}
    answers = _answers(sides)
    networks = [name for name in differing if name.startswith("skeleton.") and name not in _NOT_THE_NETWORK]
    trained = _trained_differently(differing)
    measures = [name for name in sides[0].facts.run.measures if all(name in one.facts.run.measures for one in sides)]
    return Comparison(
        sides,
        differing,
        {name: found[0] for name, found in texts.items() if name not in differing},
        tuple(_notes(sides, differing, networks, trained, measures)),
        tuple(measures),
        () if networks or not answers else beside(answers),
        () if trained else takes_beside(answers),
    )


def sentences(found: Comparison) -> list[str]:
    """What the runs say together, the most important first."""
    paying = [one for one in _agreed(found) if _sign(one) > 0]
    first = [_place(found, paying), _take(found)]
    rest = [_harms(found), _differ(found), _some_can_tell(found), _none_can_tell(found)]
    told = [*filter(None, [*(first if paying else reversed(first)), *rest])]
    return told or ["No run has an answer yet: each needs three networks trained in full."]


def verdict(one: EffectBeside, found: Comparison) -> str:
    """The agreement of the runs on an effect in a few words."""
    match one.agreement:
        case "alone":
            return f"only in {_letters(one.effects)}"
        case "agree" | "sizes differ":
            say = "pays" if _sign(one) > 0 else "harms"
            sizes = ", by different amounts" if one.agreement == "sizes differ" else ""
            return f"{_who(one.effects, found)} say it {say}{sizes}"
        case "differ":
            gap = one.widest
            assert gap is not None
            return f"{_letters((gap.first, gap.second))} differ"
        case "some can tell":
            return f"only {_letters(one.told)} can tell"
        case "none can tell":
            return "neither can tell" if len(one.effects) == 2 else "none can tell"


def settings_rows(found: Comparison) -> list[dict[str, str]]:
    """The settings that differ, one row each."""
    return [{"setting": name, **dict(zip(LETTERS, texts, strict=False))} for name, texts in found.differing.items()]


def same_text(found: Comparison) -> str:
    """The settings that are the same, in one line."""
    told = [name for name in found.same if name.startswith(_HEADLINES) and found.same[name] != "-"]
    others = len(found.same) - len(told)
    text = listed([*(f"{name} {found.same[name]}" for name in told), f"{others} other settings"])
    return f"The same in {_who(range(len(found.sides)), found)}: {text}."


def run_rows(found: Comparison) -> list[dict[str, str]]:
    """The runs, one row each: their trainings, and the network to take."""
    rows = []
    for side in found.sides:
        run, answer = side.facts.run, side.facts.answer
        took = None if answer is None else answer.standing(answer.take)
        trained = [trial for trial in side.facts.trials if trial.plan is not None]
        rows.append(
            {
                "run": side.letter,
                "folder": named(side.shown),
                "trainings": str(len(trained)),
                "in full": str(sum(trial.status == "complete" for trial in trained)),
                "epochs": str(sum(trial.last_epoch for trial in trained)),
                "take": "-" if took is None else str(took.trial.number),
                f"its {run.metric.label}": "-" if took is None else interval(run, took.mean, difference=False),
            }
        )
    return rows


def effect_rows(found: Comparison, effects: Iterable[EffectBeside]) -> list[dict[str, str]]:
    """Effects, one row each: the gain in each run, the widest difference, and the verdict."""
    run = found.sides[0].facts.run
    several = len(found.sides) > 2
    rows = []
    for one in effects:
        row = {"placement": effect_name(one, found)}
        for i, side in enumerate(found.sides):
            row[side.letter] = interval(run, one.effects[i].gain) if i in one.effects else "-"
        title = "widest difference" if several else f"{LETTERS[0]} - {LETTERS[1]}"
        row[title] = "-" if one.widest is None else gap_text(one.widest, found, letters=several)
        row["verdict"] = verdict(one, found)
        rows.append(row)
    return rows


def telling(found: Comparison) -> list[EffectBeside]:
    """The effects on which at least one run says something, as the runs agree on them the most important first."""
    order = ("agree", "sizes differ", "differ", "some can tell")
    kept = [one for one in found.effects if one.agreement in order]
    return sorted(kept, key=lambda one: (order.index(one.agreement), -max(e.gain.value for e in one.effects.values())))


def effect_name(one: EffectBeside, found: Comparison) -> str:
    """`aa in layer3.0`."""
    return place_name(one.place, [other.place for other in found.effects])


def gap_text(gap: Gap, found: Comparison, *, letters: bool = True) -> str:
    """`A - B: 3.0 points (1.0 to 5.0)`."""
    told = interval(found.sides[0].facts.run, gap.difference)
    return f"{LETTERS[gap.first]} - {LETTERS[gap.second]}: {told}" if letters else told


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison for programs, figures in base units."""

    def gap(one: Gap) -> dict[str, Any]:
        return {"first": LETTERS[one.first], "second": LETTERS[one.second], **asdict(one.difference)}

    return {
        "runs": [
            {
                "letter": side.letter,
                "run": str(side.shown),
                "limits": dict(side.facts.run.limits),
                "statuses": dict(Counter(trial.status for trial in side.facts.trials)),
                "answer": None if side.facts.answer is None else as_dict(side.facts.answer),
            }
            for side in found.sides
        ],
        "sentences": sentences(found),
        "notes": list(found.notes),
        "differing": {name: dict(zip(LETTERS, texts, strict=False)) for name, texts in found.differing.items()},
        "same": dict(found.same),
        "measures": list(found.measures),
        "effects": [
            {
                "place": asdict(one.place),
                "gains": {LETTERS[i]: asdict(effect.gain) for i, effect in one.effects.items()},
                "differences": [gap(each) for each in one.gaps],
                "agreement": one.agreement,
                "verdict": verdict(one, found),
            }
            for one in found.effects
        ],
        "takes": [gap(each) for each in found.takes],
    }


# --- the runs


def _sides(runs: Sequence[tuple[Path, Facts]]) -> tuple[Side, ...]:
    if not 2 <= len(runs) <= len(LETTERS):
        raise UserError(f"{len(runs)} run{'' if len(runs) == 1 else 's'} given: compare 2 to {len(LETTERS)} runs")
    folders = [facts.run.folder for _, facts in runs]
    for i, (shown, facts) in enumerate(runs):
        if facts.run.folder in folders[:i]:
            raise UserError(f"{named(shown)} is given twice: name each run once")
    alike = len({folder.name for folder in folders}) < len(runs)
    return tuple(
        Side(letter, shown, f"{letter} {named(shown if alike else facts.run.folder.name)}", facts)
        for letter, (shown, facts) in zip(LETTERS, runs, strict=False)
    )


def _answers(sides: Sequence[Side]) -> dict[int, Answer]:
    return {i: side.facts.answer for i, side in enumerate(sides) if side.facts.answer is not None}


def _check(sides: Sequence[Side]) -> None:
    first = sides[0].facts.run
    for side in sides[1:]:
        run = side.facts.run
        if (run.metric, run.space.skeleton.num_classes) != (first.metric, first.space.skeleton.num_classes):
            told = ", ".join(
                f"{named(one.shown)} has {one.facts.run.metric.label} among "
                f"{one.facts.run.space.skeleton.num_classes} classes"
                for one in (sides[0], side)
            )
            raise UserError(f"the runs cannot be compared: {told}; compare runs with one metric and the same classes")


def _settings(side: Side, sides: Sequence[Side]) -> dict[str, str]:
    """Setting -> its text."""
    run = side.facts.run
    found = {"space": named(run.space.name or "-"), "architectures": cell(run.space.size)}
    # Two spaces may have the same name and size but offer other options or parameters.
    like = next(one for one in sides if one.facts.run.space.offers == run.space.offers)
    found["choices"] = f"those of {like.letter}"
    found |= _flat(run.space.skeleton.model_dump(), "skeleton.")
    config = run.config.model_dump(mode="json", exclude={"space", "budget"})
    found |= _flat(config, "")
    if not SOURCES[run.config.data.name].files:  # its pictures are the same wherever they lie
        found.pop("data.root")
    for measure, limit in run.config.budget.items():
        at = f" ({measure_amount(run.limits[measure], measure)})" if measure in run.limits else ""
        found[f"budget.{measure}"] = f"{cell(limit)}{at}"
    hosts = {record.node for trial in side.facts.trials for record in trial.epochs.values() if record.node}
    found["hosts"] = ", ".join(map(named, sorted(hosts))) or "-"
    return found


def _flat(data: Mapping[str, Any], prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[prefix + key] = ", ".join(map(cell, value)) or "-"
        else:
            found[prefix + key] = named(cell(value)) if value not in (None, "") else "-"
    return found


def _trained_differently(differing: Iterable[str]) -> list[str]:
    """The settings that differ and change what the metric measures."""
    return [
        name
        for name in differing
        if name.startswith(("data.", "trainer.", "skeleton.image_size")) and name not in _SAME_RESULT
    ]


def _notes(
    sides: Sequence[Side],
    differing: Mapping[str, Sequence[str]],
    networks: Sequence[str],
    trained: Sequence[str],
    measures: Sequence[str],
) -> Iterable[str]:
    """What is not compared, and why."""
    label = sides[0].facts.run.metric.label
    for side in sides:
        if not any(trial.epochs for trial in side.facts.trials):
            yield f"{side.name} has no training yet: only its settings are compared."
        elif side.facts.run.metric.name not in side.facts.run.config.objectives:
            yield f"{side.name} has no metric of training among its objectives: it has no effects."
        elif side.facts.answer is None:
            yield f"{side.name} has fewer than three networks trained in full: it has no effects yet."
    if networks:
        yield f"The networks differ ({listed(networks)}): their places are not the same, so effects are not compared."
    if trained:
        yield (
            f"The trainings differ ({listed(trained)}): {label} differs for that reason too, so no network of one run "
            "is called better than one of another."
        )
    else:
        yield from _shared_trainings(sides)
    if "objectives" in differing:
        yield "The objectives differ: fronts are compared in the costs that all runs have."
    if not measures:
        yield "The runs have no cost in common: fronts are not compared."
    machines = [name for name in _MACHINE if name in differing]
    times = [name for name in measures if MEASURES[name].unit == "ms"]
    if times and machines:
        yield f"The machines may differ ({listed(machines)}): {listed(times)} of one run is not that of another."


def _shared_trainings(sides: Sequence[Side]) -> Iterable[str]:
    """Runs that trained a network with the same seed have one result twice, and it counts in both."""
    trained = [{(t.fingerprint, t.seed) for t in side.facts.trials if t.epochs} for side in sides]
    for (first, here), (second, there) in combinations(zip(sides, trained, strict=True), 2):
        if same := len(here & there):
            yield (
                f"{first.letter} and {second.letter} trained {same} network{'' if same == 1 else 's'} with the same "
                "seed: that they agree on these says nothing; another search.seed would tell more."
            )


# --- the sentences


def _agreed(found: Comparison) -> list[EffectBeside]:
    """The effects on which all runs that have them say the same, the largest first."""
    agreed = [one for one in found.effects if one.agreement in ("agree", "sizes differ")]
    return sorted(agreed, key=lambda one: -min(abs(effect.gain.value) for effect in one.effects.values()))


def _sign(one: EffectBeside) -> int:
    return next(iter(one.effects.values())).gain.sign


def _place(found: Comparison, paying: Sequence[EffectBeside]) -> str:
    if paying:
        # Without figures: this sentence is read first, and the largest gain comes first.
        told = [effect_name(one, found) for one in paying[:_MOST_NAMED]]
        more = f", and {len(paying) - _MOST_NAMED} more" if len(paying) > _MOST_NAMED else ""
        return f"Place {listed(told)}{more}: {_those(paying, found)} say that {_it(paying, 'pay')}."
    if not any(len(one.effects) > 1 for one in found.effects):
        return ""
    alone = "one run" if len(found.answers) == 2 else "some runs"
    told_by_one = any(one.agreement == "some can tell" and _told_gain(one) for one in found.effects)
    only = f"; what pays in {alone} may pay in the others too, but they cannot tell" if told_by_one else ""
    return f"No placement pays by what {_who(found.answers, found)} say together{only}."


def _take(found: Comparison) -> str:
    """The network to take, or each run's own where they cannot be compared."""
    run, answers = found.sides[0].facts.run, found.answers
    own = {}
    for i, answer in answers.items():
        taken = answer.standing(answer.take)
        assert taken is not None
        own[i] = f"trial {answer.take} of {LETTERS[i]} ({interval(run, taken.mean, difference=False)})"
    if len(own) < 2:
        return ""
    if not found.takes:
        return f"Each run has a network of its own to take: {listed(list(own.values()))}."
    best = max(answers, key=lambda i: answers[i].merits.mean())
    unit = f" {run.metric.shown.difference}".rstrip()
    told = []
    for gap in found.takes:
        if best in (gap.first, gap.second):
            other = gap.second if gap.first == best else gap.first
            low, high = sorted(map(abs, (gap.difference.low, gap.difference.high)))
            rest = f"trial {answers[other].take} of {LETTERS[other]}"
            if gap.difference.sign:
                told.append(f"is better than {rest} by {metric_range(low, high, run.metric)}{unit}")
            else:
                told.append(f"cannot be told from {rest}")
    return f"Take {own[best]}: it {listed(told)}."


def _harms(found: Comparison) -> str:
    bad = [one for one in _agreed(found) if _sign(one) < 0]
    if not bad:
        return ""
    told = [f"{effect_name(one, found)} ({_gains(one, found)})" for one in bad[:_MOST_NAMED]]
    return f"Leave out {listed(told)}: {_those(bad, found)} say that {_it(bad, 'harm')}."


def _differ(found: Comparison) -> str:
    apart = [one for one in found.effects if one.agreement == "differ"]
    if not apart:
        some = any(one.told for one in found.effects if one.gaps)
        return "The runs contradict each other on no placement." if some else ""
    apart.sort(key=lambda one: -max(abs(gap.difference.value) for gap in one.gaps))
    told = [f"{effect_name(one, found)} ({_gains(one, found)})" for one in apart[:_MOST_NAMED]]
    more = f", and {len(apart) - _MOST_NAMED} more" if len(apart) > _MOST_NAMED else ""
    return f"The runs differ on {listed(told)}{more}."


def _some_can_tell(found: Comparison) -> str:
    by = Counter(_letters(one.told) for one in found.effects if one.agreement == "some can tell")
    parts = [f"only {letters} can tell the sign of {_placements(count)}" for letters, count in by.items()]
    text = listed(parts)
    return f"{text[:1].upper()}{text[1:]}." if by else ""


def _none_can_tell(found: Comparison) -> str:
    count = sum(one.agreement == "none can tell" for one in found.effects)
    return f"No run can tell the sign of {_placements(count)}." if count else ""


def _told_gain(one: EffectBeside) -> bool:
    return any(effect.gain.sign > 0 for effect in one.effects.values())


def _gains(one: EffectBeside, found: Comparison) -> str:
    """`A 38.0 points (31.2 to 44.0), B ...`."""
    run = found.sides[0].facts.run
    return ", ".join(f"{LETTERS[i]} {interval(run, effect.gain)}" for i, effect in one.effects.items())


def _who(runs: Iterable[int], found: Comparison) -> str:
    """`both runs`, `all runs`, or letters."""
    named_ = list(runs)
    if len(named_) == len(found.sides):
        return "both runs" if len(named_) == 2 else "all runs"
    return _letters(named_)


def _those(effects: Sequence[EffectBeside], found: Comparison) -> str:
    """As `_who`, of the runs that have these places."""
    everywhere = all(len(one.effects) == len(found.sides) for one in effects)
    return _who(range(len(found.sides)), found) if everywhere else "the runs that have the place"


def _it(effects: Sequence[EffectBeside], verb: str) -> str:
    return f"it {verb}s" if len(effects) == 1 else f"they {verb}"


def _letters(runs: Iterable[int]) -> str:
    return listed([LETTERS[i] for i in runs])


def _placements(count: int) -> str:
    return f"{count} placement{'' if count == 1 else 's'}"
