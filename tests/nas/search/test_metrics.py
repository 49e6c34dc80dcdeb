"""The training metric is data: its name, its direction and its range come from the run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from nas.analysis import answer, early_ranks, select
from nas.search import Engine, EpochRecord, Journal, JournalError, Metric, Objective, Outcome, read_study, read_trials
from nas.search.metrics import METRIC, metric_among
from nas.search.reading import read_run

if TYPE_CHECKING:
    from conftest import Lab

ERROR = Metric(name="error", label="mean error", direction="minimize", unit="px", high=8.0)
PARAMS = Objective("params", "minimize")


def journal_of(lab: Lab, metric: Metric) -> Journal:
    objectives = (metric.objective, PARAMS)
    names, directions = [o.metric for o in objectives], [o.direction for o in objectives]
    return Journal.create(lab.run, directions, names, {METRIC: metric.model_dump(mode="json")})


def engine_of(lab: Lab, journal: Journal, metric: Metric, **settings: object) -> Engine:
    config = lab.config(**{"decide": 0.3, **settings})
    objectives = (metric.objective, PARAMS)
    return Engine(
        journal, lab.space, config, objectives=objectives, epochs=lab.epochs, costs=lab.costs, decide=lab.decider
    )


def work(lab: Lab, engine: Engine, metric: Metric) -> None:
    """Reports the lab's accuracy a, rounded to 1/1024, or the error 8 (1 - a); so both are exact."""
    while not engine.done:
        if (job := engine.next()) is None:
            continue
        for epoch in range(job.start_epoch + 1, job.stop_epoch + 1):
            share = round(1024 * lab.accuracy(job.architecture, epoch, job.seed)) / 1024
            value = share if metric.direction == "maximize" else metric.high * (1 - share)
            engine.report(job, EpochRecord(epoch, {metric.name: value, "loss": 1.0}, 0.1, 0.5))
        engine.finish(job, Outcome("reached"))


@pytest.mark.parametrize("sampler", ["default", "tpe", "nsga2"])
def test_a_metric_that_is_minimised_is_searched_and_read(lab: Lab, sampler: str) -> None:
    with journal_of(lab, ERROR) as journal:
        engine = engine_of(lab, journal, ERROR, sampler=sampler)
        assert engine.reference["error"] == 8.0
        work(lab, engine, ERROR)
        summary = engine.summary()
    trials = read_trials(read_study(lab.run))
    assert list(read_run(lab.run).trials) == trials
    complete = [t for t in trials if t.status == "complete" and not t.origin.is_finalist]
    finals = [t.epochs[lab.epochs].metrics["error"] for t in complete]
    assert [t.values[0] for t in complete if t.values] == finals
    assert summary.best == min(finals)
    assert 0 < summary.hypervolume < 1
    assert len({t.origin.trial for t in trials if t.origin.is_finalist}) == 2


def test_every_decision_is_the_same_if_low_values_are_better(lab: Lab, tmp_path: Path) -> None:
    found = []
    for metric in (Metric(name="share", label="share"), ERROR):
        lab.run = tmp_path / metric.name
        with journal_of(lab, metric) as journal:
            engine = engine_of(lab, journal, metric, stopping="median")
            work(lab, engine, metric)
            volume = engine.summary().hypervolume
        trials = read_trials(read_study(lab.run))
        objectives = (metric.objective, PARAMS)
        told = answer(trials, objectives, lab.epochs, lab.space)
        assert told is not None
        again = [(one.trial.number, one.level_with) for one in told.standings]
        chosen = [select(trials, objectives, which, told.standings).number for which in ("best", "knee")]
        gains = [effect.gain.value / metric.high for effect in told.effects]
        decisions = [(t.fingerprint, t.status, t.last_epoch, t.origin) for t in trials]
        found.append(((decisions, again, chosen), [volume, *gains, *early_ranks(trials, metric.name).values()]))
    (high, high_figures), (low, low_figures) = found
    assert high == low
    assert high_figures == pytest.approx(low_figures)


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"error": 9.5}, "epoch 1: metrics.error is 9.5; it must be between 0 and 8"),
        ({"loss": 1.0}, "epoch 1: metrics.error is missing, but it is an objective"),
    ],
)
def test_an_epoch_without_the_metric_or_out_of_its_range_fails_the_trial(
    lab: Lab, metrics: dict[str, float], reason: str
) -> None:
    with journal_of(lab, ERROR) as journal:
        engine = engine_of(lab, journal, ERROR)
        job = engine.next()
        assert job is not None
        engine.report(job, EpochRecord(1, metrics, 0.1, 0.5))
        engine.finish(job, Outcome("reached"))
        assert engine.summary().failed == 1
    [first, *_] = read_run(lab.run).trials
    assert (first.status, first.reason) == ("failed", reason)


def test_a_journal_that_holds_such_an_epoch_is_refused(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal)
        job = engine.next()
        assert job is not None
        engine.report(job, EpochRecord(1, {"top1": 0.5}, 0.1, 0.5))
        journal.study.set_user_attr("unrelated", 1)
        trial = journal.study._storage.get_all_trials(journal.study._study_id)[0]
        wrong = EpochRecord(1, {"top1": 1.5}, 0.1, 0.5).to_dict()
        journal.study._storage.set_trial_user_attr(trial._trial_id, "epoch:1", wrong)
    with pytest.raises(JournalError, match=r"epoch:1: metrics\.top1 is 1\.5; it must be between 0 and 1"):
        read_run(lab.run)
    with pytest.raises(JournalError, match=r"epoch:1: metrics\.top1 is 1\.5"):
        read_trials(read_study(lab.run))


def test_the_range_must_be_that_of_the_journal(lab: Lab) -> None:
    with (
        journal_of(lab, ERROR) as journal,
        pytest.raises(ValueError, match="error has the range 0 to 4, but the journal was made for 0 to 8"),
    ):
        engine_of(lab, journal, ERROR.model_copy(update={"high": 4.0}))


def test_settings_with_a_wrong_metric_are_damage(lab: Lab) -> None:
    settings = {METRIC: {**ERROR.model_dump(), "label": "\x1b]0;owned"}}
    Journal.create(lab.run, ["minimize"], ["error"], settings).close()
    with pytest.raises(JournalError, match=r"settings\.metric\.label"):
        read_run(lab.run)


def test_the_index_of_the_metric() -> None:
    assert metric_among(["params", "error"]) == 1
    assert metric_among(["params", "latency_ms"]) is None
    assert metric_among([""]) == 0  # a study without names


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "params"}, "params is a cost measure"),
        ({"high": 0.0}, "low is 0 and high is 0"),
        ({"high": math.inf}, "finite"),
        ({"label": ""}, "label"),
        ({"direction": "up"}, "direction"),
        ({"more": 1}, "more"),
    ],
)
def test_an_invalid_metric_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Metric.model_validate({**ERROR.model_dump(), **change})
