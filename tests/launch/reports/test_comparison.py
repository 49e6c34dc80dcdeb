import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from launch.errors import UserError
from launch.reports import comparison
from launch.reports.comparison import Comparison, compared
from launch.reports.facts import Facts, facts_of
from launch.rundir.run import Run, open_run
from nas.analysis.answer import Answer
from nas.analysis.intervals import Interval
from nas.search import Metric, TrialRecord

MakeAnswer = Callable[[Run, Sequence[TrialRecord]], Answer]


@pytest.fixture(scope="module")
def read(whole: Run) -> Facts:
    return facts_of(*open_run(whole.folder))


@pytest.fixture
def facts(read: Facts, make_answer: MakeAnswer) -> Facts:
    return replace(read, answer=make_answer(read.run, read.trials))


def moved(facts: Facts, by: Sequence[float], name: str = "other") -> Facts:
    """The run under another name, with the effects moved by these gains, the last of them for all that follow."""
    answer = facts.answer
    assert answer is not None
    shifts = [*by, *[by[-1]] * (len(answer.effects) - len(by))]
    effects = tuple(
        replace(one, gain=Interval(one.gain.value + s, one.gain.low + s, one.gain.high + s))
        for one, s in zip(answer.effects, shifts, strict=True)
    )
    found = replace(answer, effects=effects, gains=answer.gains + shifts)
    trials = [replace(trial, seed=trial.seed + 1000) for trial in facts.trials]
    return replace(facts, run=replace(facts.run, folder=facts.run.folder.parent / name), trials=trials, answer=found)


def of(*runs: Facts) -> Comparison:
    return compared([(Path(facts.run.folder.name), facts) for facts in runs])


def said(found: Comparison) -> str:
    return " ".join(comparison.sentences(found))


def test_what_both_say_pays_comes_first(facts: Facts) -> None:
    found = of(facts, moved(facts, [0.002]))
    assert {one.agreement for one in found.effects} == {"agree", "none can tell"}
    first = comparison.sentences(found)[0]
    assert first.startswith("Place ")
    assert first.endswith(": both runs say that they pay.")
    best = max(found.effects, key=lambda one: one.effects[0].gain.value)
    assert comparison.effect_name(best, found) in first
    assert "contradict each other on no placement" in said(found)
    assert "differ on" not in said(found)


def test_what_differs_is_named_with_both_figures(facts: Facts) -> None:
    other = moved(facts, [-0.5, 0.0])
    found = of(facts, other)
    one = found.effects[0]
    assert one.agreement == "sizes differ"
    found = of(facts, moved(facts, [0.5, 0.0]))
    assert found.effects[0].agreement == "differ"
    assert comparison.verdict(found.effects[0], found) == "A and B differ"
    assert f"The runs differ on {comparison.effect_name(found.effects[0], found)} (A -2.0 points" in said(found)
    rows = comparison.effect_rows(found, comparison.telling(found))
    row = next(row for row in rows if row["verdict"] == "A and B differ")
    assert row["A - B"].startswith("-50.0 points (-5")


def test_where_nothing_pays_in_both_the_network_to_take_comes_first(facts: Facts) -> None:
    found = of(moved(facts, [-0.04], "first"), moved(facts, [-0.05]))
    assert comparison.sentences(found)[0].startswith("Take trial ")
    assert "No placement pays by what both runs say together" in said(found)


def test_the_best_network_of_all_runs_is_told_from_each_other_one(facts: Facts) -> None:
    def worse(by: float, name: str) -> Facts:
        run = moved(facts, [0.0], name)
        assert run.answer is not None
        return replace(run, answer=replace(run.answer, merits=run.answer.merits - by))

    assert facts.answer is not None
    take = f"trial {facts.answer.take} of"
    found = of(facts, worse(0.3, "far"), worse(0.001, "near"))
    (sentence,) = [one for one in comparison.sentences(found) if one.startswith("Take ")]
    assert sentence.startswith(f"Take {take} A (")
    assert re.search(
        rf": it is better than {take} B by 2\d\.\d to 3\d\.\d points and cannot be told from {take} C\.$", sentence
    )


def test_the_verdicts_of_three_runs_name_letters(facts: Facts) -> None:
    found = of(facts, moved(facts, [0.5, 0.0]), moved(facts, [0.0], "third"))
    assert comparison.verdict(found.effects[0], found) in ("A and B differ", "B and C differ")
    verdicts = {comparison.verdict(one, found) for one in found.effects}
    assert {"all runs say it pays", "none can tell"} <= verdicts
    assert "widest difference" in comparison.effect_rows(found, found.effects)[0]


def test_effects_of_one_run_are_named_as_such(facts: Facts) -> None:
    other = moved(facts, [0.0])
    assert other.answer is not None
    fewer = replace(other.answer, effects=other.answer.effects[1:], gains=other.answer.gains[:, 1:])
    found = of(facts, replace(other, answer=fewer))
    assert comparison.verdict(found.effects[0], found) == "only in A"
    row = comparison.effect_rows(found, found.effects)[0]
    assert (row["B"], row["A - B"]) == ("-", "-")


def test_settings_that_differ_are_rows_and_the_others_one_line(facts: Facts) -> None:
    config = facts.run.config
    search = config.search.model_copy(update={"seed": 7})
    changed = config.model_copy(update={"search": search, "budget": {"macs": "2x", "params": "2x"}})
    other = moved(facts, [0.0])
    limits = {**facts.run.limits, "macs": 4e6}
    found = of(facts, replace(other, run=replace(other.run, config=changed, limits=limits)))
    rows = {row["setting"]: (row["A"], row["B"]) for row in comparison.settings_rows(found)}
    assert rows.keys() == {"search.seed", "budget.macs"}
    assert rows["search.seed"] == ("0", "7")
    assert rows["budget.macs"][0].startswith("1.2x (3.")
    assert rows["budget.macs"][1] == "2x (4 M)"
    line = comparison.same_text(found)
    assert line.startswith("The same in both runs: space ")
    assert "objectives top1, macs" in line
    assert "\n" not in line
    assert not found.notes


def test_trainings_that_two_runs_share_are_counted(facts: Facts) -> None:
    other = moved(facts, [0.0])
    count = len({trial.fingerprint for trial in facts.trials if trial.epochs and not trial.origin.is_finalist})
    (note,) = of(facts, replace(other, trials=facts.trials)).notes
    assert note.startswith("A and B trained ")
    assert int(note.split()[4]) >= count
    assert not of(facts, other).notes


def test_networks_of_other_trainings_are_not_ranked(facts: Facts) -> None:
    config = facts.run.config
    # The pictures are drawn, so the folder does not matter.
    changed = config.model_copy(update={"data": config.data.model_copy(update={"train_size": 32, "root": "elsewhere"})})
    other = moved(facts, [0.002])
    found = of(facts, replace(other, run=replace(other.run, config=changed)))
    assert found.takes == ()
    assert "Each run has a network of its own to take" in said(found)
    (note,) = found.notes
    assert note.startswith("The trainings differ (data.train_size): ")
    assert comparison.sentences(found)[0].endswith("both runs say that they pay.")


def test_effects_in_another_network_are_not_compared(facts: Facts) -> None:
    other = moved(facts, [0.0])
    skeleton = other.run.space.skeleton.model_copy(update={"width": 99})
    found = of(facts, replace(other, run=replace(other.run, space=replace(other.run.space, skeleton=skeleton))))
    assert found.effects == ()
    assert found.measures == ("macs", "params")
    assert any("skeleton.width" in note for note in found.notes)


def test_another_metric_or_other_classes_are_refused(facts: Facts) -> None:
    other = moved(facts, [0.0])
    metric = Metric(name="map", label="mAP")
    with pytest.raises(UserError, match=r"run has top-1 among 2 classes, other has mAP among 2 classes"):
        of(facts, replace(other, run=replace(other.run, metric=metric)))
    skeleton = other.run.space.skeleton.model_copy(update={"num_classes": 9})
    with pytest.raises(UserError, match="among 9 classes"):
        of(facts, replace(other, run=replace(other.run, space=replace(other.run.space, skeleton=skeleton))))


def test_a_run_without_trainings_is_told_in_one_line(facts: Facts) -> None:
    other = replace(moved(facts, [0.0]), answer=None)
    found = of(facts, replace(other, trials=[], front=[]))
    assert found.notes == ("B other has no training yet: only its settings are compared.",)
    assert {one.agreement for one in found.effects} == {"alone"}
    assert comparison.sentences(found)
    few = of(facts, other)
    assert few.notes == ("B other has fewer than three networks trained in full: it has no effects yet.",)
    costs = other.run.config.model_copy(update={"objectives": ("macs", "params")})
    notes = of(facts, replace(other, run=replace(other.run, config=costs))).notes
    assert "B other has no metric of training among its objectives: it has no effects." in notes
    nothing = of(replace(facts, answer=None, trials=[]), replace(other, trials=[]))
    assert comparison.sentences(nothing) == ["No run has an answer yet: each needs three networks trained in full."]


def test_costs_of_one_run_are_left_out(facts: Facts) -> None:
    other = moved(facts, [0.0])
    config = other.run.config.model_copy(update={"objectives": ("top1", "params"), "budget": {}})
    found = of(facts, replace(other, run=replace(other.run, config=config)))
    assert found.measures == ("params",)
    assert any("objectives differ" in note for note in found.notes)


def test_times_of_other_machines_are_not_the_same_cost(facts: Facts) -> None:
    timed = {"objectives": ("top1", "latency_ms"), "budget": {}}
    here = replace(facts, run=replace(facts.run, config=facts.run.config.model_copy(update=timed)))
    there = moved(here, [0.0])
    assert not of(here, there).notes
    resources = here.run.config.resources.model_copy(update={"cpus_per_trial": 4})
    config = there.run.config.model_copy(update={"resources": resources})
    (note,) = of(here, replace(there, run=replace(there.run, config=config))).notes
    assert "resources.cpus_per_trial" in note
    assert "latency_ms" in note
