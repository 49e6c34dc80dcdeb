"""Tests the engine's decisions, with invented accuracies instead of training."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna.storages.journal._storage import JournalOperation

from nas.analysis import silent_rungs
from nas.search import (
    Engine,
    EpochRecord,
    Journal,
    JournalError,
    Objective,
    Outcome,
    history,
    read_study,
    read_trials,
    records,
)
from nas.search import engine as engine_module
from nas.search.pareto import hypervolume
from nas.search.records import Origin
from search_spaces import Architecture, SearchSpace, parse_space

if TYPE_CHECKING:
    from conftest import Lab

SAMPLERS = ["default", "regularized_evolution", "random", "tpe", "nsga2"]


def test_a_search_runs_to_its_end(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal)
        lab.work(engine, workers=3)
        summary = engine.summary()
        assert engine.next() is None
    assert (summary.target, summary.launched) == (20, 20)
    assert summary.complete + summary.stopped == 20
    assert summary.stopped > 0
    assert summary.front > 0
    assert 0 < summary.hypervolume < 1
    assert summary.epochs == len(lab.trained) == len(set(lab.trained)) < 20 * lab.epochs
    trials = read_trials(read_study(lab.run))
    assert summary.best == max(t.epochs[9].metrics["top1"] for t in trials if t.status == "complete")
    assert all(t.values is None for t in trials if t.status == "stopped")


def test_baselines_come_first_and_to_full_length(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal)
        lab.work(engine, workers=2)
    trials = read_trials(read_study(lab.run))
    hands = {t.origin: t for t in trials if t.origin.is_baseline}
    assert {origin.name for origin in hands} == set(lab.space.baselines())
    assert [t.origin for t in trials[: len(hands)]] == list(hands)
    assert all(t.status == "complete" for t in hands.values())
    outside = lab.space.baselines()["aa"]
    assert not lab.space.contains(outside)
    assert hands[Origin("baseline", "aa")].architecture == outside


def test_baselines_that_are_more_than_the_trials_raise_the_target(lab: Lab) -> None:
    baselines = len(lab.space.baselines())
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=2)
        assert engine.summary().target == baselines
        lab.work(engine)
        assert (engine.summary().target, engine.summary().launched) == (baselines, baselines)


def test_a_baseline_over_the_budget_does_not_raise_the_target(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, limit=130.0, trials=2)
        lab.work(engine)
        summary = engine.summary()
    assert summary.target == summary.launched < len(lab.space.baselines())


def test_a_proposal_over_budget_is_recorded_and_never_trained(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, limit=130.0)
        lab.work(engine)
        summary = engine.summary()
    trials = read_trials(read_study(lab.run))
    rejected = [t for t in trials if t.status == "rejected"]
    assert summary.rejected == {"static": len(rejected)}
    assert {"se", "cbam"} & {t.origin.name for t in rejected}
    for trial in trials:
        assert trial.status == "duplicate" or (trial.costs["params"].value > 130.0) == (trial.status == "rejected")
    assert not {number for number, _ in lab.trained} & {t.number for t in rejected}
    constraints = [t.constraints["params"] for t in read_study(lab.run).trials if "params" in t.constraints]
    assert min(constraints) <= 0 < max(constraints)


def test_an_impossible_budget_ends_the_search_with_its_reason(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, limit=1.0, trials=5)
        lab.work(engine)
        summary = engine.summary()
    assert summary.launched == 0
    assert summary.exhausted == "500 proposals in a row were rejected"
    assert summary.rejected_in_a_row == 500
    assert summary.nearest == {"params": (1.0, 100.0)}  # the plain network


def test_a_call_considers_few_proposals(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, limit=1.0, trials=5)
        assert engine.next() is None
        assert not engine.done
        assert 0 < sum(engine.summary().rejected.values()) <= 100
        assert engine.summary().nearest == {} or engine.summary().rejected_in_a_row >= 24


def fail_on_se(lab: Lab, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The cost model raises `error` for networks with SE."""
    estimate = lab.costs.estimate

    def fails(architecture: Architecture, measure: str) -> object:
        if any(choice.option == "se" for slots in architecture.placements.values() for choice in slots.values()):
            raise error
        return estimate(architecture, measure)

    monkeypatch.setattr(lab.costs, "estimate", fails)


@pytest.mark.parametrize("sampler", ["default", "random", "nsga2"])
def test_a_failed_estimate_rejects_only_its_proposal(lab: Lab, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_se(lab, monkeypatch, ValueError("no kernel for SE"))
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=30, sampler=sampler)
        lab.work(engine)
        summary = engine.summary()
    rejected = [t for t in read_trials(read_study(lab.run)) if t.status == "rejected"]
    assert summary.launched == 30
    assert summary.rejected == {"estimate": len(rejected)}
    assert {t.reason for t in rejected} == {"its costs cannot be estimated: ValueError: no kernel for SE"}
    assert "se" in {t.origin.name for t in rejected}
    with lab.journal() as journal:
        assert lab.engine(journal, trials=30, sampler=sampler).summary().rejected == summary.rejected


@pytest.mark.parametrize("error", [OSError("no space left"), MemoryError(), KeyboardInterrupt()])
def test_a_fault_of_the_machine_ends_the_run(lab: Lab, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_se(lab, monkeypatch, error)
    with lab.journal() as journal, pytest.raises(type(error)):
        lab.work(lab.engine(journal))


@pytest.mark.parametrize("sampler", ["default", "nsga2"])
def test_a_proposal_rejected_by_counting_is_not_measured(
    lab: Lab, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, estimate = [], lab.costs.estimate

    def by_running(architecture: Architecture, measure: str) -> object:
        assert measure == "latency_ms"
        measured.append(architecture)
        return estimate(architecture, "params")

    monkeypatch.setattr(engine_module, "_REJECTIONS_IN_A_ROW", 60)  # the search ends earlier than a user's
    monkeypatch.setattr(lab.costs, "estimate", by_running)
    monkeypatch.setattr(lab.costs, "must_measure", lambda architecture, measure: True)
    lab.objectives = (Objective("top1", "maximize"), Objective("latency_ms", "minimize"))
    with lab.journal() as journal:
        engine = lab.engine(journal, limit=1.0, trials=5, sampler=sampler)
        while not engine.done:
            engine.next()
    assert measured == [lab.space.plain()]  # for the hypervolume's reference


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_small_space_is_exhausted_and_nothing_trained_twice(lab: Lab, sampler: str) -> None:
    lab.space = parse_space(
        "schema: 1\nskeleton: {family: resnet, depth: 8, width: 16, image_size: 32, num_classes: 10}\n"
        "placements: {'*': {refine: [none, se]}}\n"
    )
    assert lab.space.size == 8
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=50, baselines={}, stopping="none", sampler=sampler)
        lab.work(engine, workers=2)
        summary = engine.summary()
    assert summary.launched == summary.complete == 8
    assert summary.exhausted == "all 8 architectures of the space are known"
    trials = read_trials(read_study(lab.run))
    assert Counter(t.fingerprint for t in trials if t.status == "complete").most_common(1)[0][1] == 1
    first = {t.number: t for t in trials}
    for trial in trials:
        if trial.status == "duplicate" and trial.values is not None:
            assert trial.values == first[trial.duplicate_of].values


def test_repeat_trains_again_with_another_seed(lab: Lab) -> None:
    lab.space = parse_space(
        "schema: 1\nskeleton: {family: resnet, depth: 8, width: 16, image_size: 32, num_classes: 10}\n"
        "placements: {'*': {refine: [none, se]}}\ntie: network\n"
    )
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=7, baselines={}, stopping="none", repeat=True)
        lab.work(engine)
        assert engine.summary().launched == 7
    trials = read_trials(read_study(lab.run))
    assert len({(t.fingerprint, t.seed) for t in trials}) == 7


def test_a_promoted_trial_continues_under_its_number(lab: Lab) -> None:
    trials = 10
    seen: dict[int, list[tuple[int, int]]] = {}
    while_proposing: list[int] = []
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=trials)
        while not engine.done:
            job = engine.next()
            if job is None:
                continue
            if job.number not in seen and len(seen) == trials - 1:
                while_proposing = sorted(len(segments) for segments in seen.values())
            seen.setdefault(job.number, []).append((job.start_epoch, job.stop_epoch))
            lab.train(engine, job)
            engine.finish(job, Outcome("reached"))
    ladder = [(0, 1), (1, 3), (3, 9)]
    first, *others = seen.values()
    assert first == [(0, 9)]  # a sixth of the trials is trained in full, to compare the rungs with the end
    assert all(segments == ladder[: len(segments)] for segments in others)
    # Of nine trials, the first included, a third goes beyond each rung. More follow when all ten are proposed.
    assert while_proposing == [1] * 7 + [2] * 2


def test_a_rung_of_many_trials_is_ranked_after_some_results_only(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: dict[int, list[int]] = {1: [], 3: []}
    rank = Engine._best_of

    def ranking(engine: Engine, points: Mapping[int, Sequence[float]], *others: Any) -> list[int]:
        ranked[1 if len(points) == len(engine._at_rung[1, 0]) else 3].append(engine._results)
        return rank(engine, points, *others)

    monkeypatch.setattr(Engine, "_best_of", ranking)
    monkeypatch.setattr("nas.search.engine._RANKED_AGAIN_AFTER", 4)
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=61)
        while engine.summary().launched < 61:
            job = engine.next()
            assert job is not None
            lab.train(engine, job)
            engine.finish(job, Outcome("reached"))
        promoted = [entry for entry in engine._ledger.entries.values() if entry.stop_epoch > 1 and entry.bracket == 0]
    assert len(promoted) >= 60 // 3 - 60 // 4  # as many as the rung has room for, but for those since the last ranking
    late = ranked[1][len(ranked[1]) // 2 :]
    assert min(after - before for before, after in itertools.pairwise(late)) > 5


def worth(lab: Lab, final: Callable[[Architecture], float]) -> tuple[int, float]:
    """The number of trials trained in full, and the share of the hypervolume that only stopped trials would add."""
    points: dict[str, list[list[float]]] = {"complete": [], "stopped": []}
    for trial in read_trials(read_study(lab.run)):
        if trial.status in points and trial.plan is not None:
            accuracy = final(Architecture.from_dict(trial.plan))
            points[trial.status].append([-accuracy, trial.costs["params"].value])
    everyone = points["complete"] + points["stopped"]
    corner = np.max(everyone, axis=0) + 0.1 * np.ptp(everyone, axis=0)
    return len(points["complete"]), 1 - hypervolume(points["complete"], corner) / hypervolume(everyone, corner)


def test_at_the_end_trials_that_add_to_the_front_continue(lab: Lab) -> None:
    with lab.journal() as journal:
        lab.work(lab.engine(journal, baselines={}, trials=40), workers=3)
    complete, missed = worth(lab, lambda architecture: lab.accuracy(architecture, lab.epochs, 0))
    assert complete < 20
    assert missed < 0.02
    assert len(lab.trained) < 0.5 * 40 * lab.epochs


def test_a_rung_that_says_nothing_stops_nobody(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = lab.accuracy

    def late(architecture: Architecture, epoch: int, seed: int) -> float:
        other = 0.5 * int(architecture.fingerprint[:6], 16) / 16**6
        return usual(architecture, epoch, seed) if epoch == lab.epochs else other

    monkeypatch.setattr(lab, "accuracy", late)
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=60)
        lab.work(engine, workers=3)
        summary = engine.summary()
        assert lab.engine(journal, baselines={}, trials=60).summary().silent == summary.silent == (1, 3)
    assert summary.complete == 60
    trials = read_trials(read_study(lab.run))
    assert silent_rungs(trials, "top1", (1, 3)).keys() == {1, 3}


def test_a_finished_run_is_known_to_be_done_when_it_is_opened(lab: Lab) -> None:
    with lab.journal() as journal:
        lab.work(lab.engine(journal, trials=12, decide=0.3))
    with lab.journal() as journal:
        assert lab.engine(journal, trials=12, decide=0.3).done
        assert not lab.engine(journal, trials=12, decide=0.9).done


@pytest.mark.parametrize(("trials", "in_full"), [(5, 0), (12, 2), (60, 8), (600, 8)])
def test_some_trials_are_trained_in_full_to_compare_the_rungs(lab: Lab, trials: int, in_full: int) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=trials)
        first = [job.stop_epoch for _ in range(11) if (job := engine.next()) is not None][: min(11, trials)]
    assert first == [lab.epochs] * in_full + [1] * (len(first) - in_full)


def test_the_end_of_a_long_search_considers_only_the_best_trials(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MOST_TRAINED", 16)
    with lab.journal() as journal:
        lab.work(lab.engine(journal, baselines={}, trials=60))
    complete, missed = worth(lab, lambda architecture: lab.accuracy(architecture, lab.epochs, 0))
    assert complete < 30
    assert missed < 0.05


def test_the_sampler_proposes_after_a_rejected_fallback(lab: Lab) -> None:
    limit = sorted(lab.costs.estimate(a, "params").value for a in lab.space.architectures())[20]
    with lab.journal() as journal:
        lab.work(lab.engine(journal, limit=limit, baselines={}, trials=40))
    trials = read_trials(read_study(lab.run))
    by_chance = [(trial.origin, trial.status) == (records.FALLBACK, "rejected") for trial in trials]
    after = [trial.origin for rejected, trial in zip(by_chance, trials[1:], strict=False) if rejected]
    assert len(after) > 10
    assert set(after) == {records.SAMPLER}


def test_a_trial_better_than_all_baselines_continues_in_a_short_search(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = {architecture.fingerprint for architecture in lab.space.baselines().values()}
    usual = lab.accuracy
    monkeypatch.setattr(lab, "accuracy", lambda a, *at: usual(a, *at) * (0.3 if a.fingerprint in hands else 1.0))
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=len(hands) + 2)
        lab.work(engine, workers=2)
        assert engine.summary().complete > len(hands)


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_a_search_with_few_trials_trains_one_in_full(lab: Lab, trials: int) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=trials)
        lab.work(engine, workers=2)
        assert engine.summary().complete >= 1


def test_a_run_can_continue_with_other_rungs(lab: Lab) -> None:
    lab.epochs = 27
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, eta=2, min_epochs=2)  # 7, 14, 27
        for _ in range(3):
            job = engine.next()
            lab.train(engine, job)
            engine.finish(job, Outcome("reached"))
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, min_epochs=2)  # 3, 9, 27
        lab.work(engine)
        assert engine.summary().complete > 0
    stops = [max(t.epochs) for t in read_trials(read_study(lab.run)) if t.epochs]
    assert set(stops) <= {3, 7, 9, 14, 27}
    assert len(lab.trained) == len(set(lab.trained))


@pytest.mark.parametrize("stopping", ["mo_asha", "hyperband", "median", "none"])
def test_every_scheme_ends_and_spends_no_epoch_twice(lab: Lab, stopping: str) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, stopping=stopping, trials=30)
        lab.work(engine, workers=4)
        summary = engine.summary()
    assert summary.complete + summary.stopped == summary.launched == 30
    assert len(lab.trained) == len(set(lab.trained)) == summary.epochs
    assert (summary.epochs == 30 * 9) == (stopping == "none")
    assert not engine.live()


def test_repetitions_are_trained_at_the_same_time(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=6, stopping="none", decide=0.5)
        for _ in range(6):
            job = engine.next()
            assert job is not None
            lab.train(engine, job)
            engine.finish(job, Outcome("reached"))
        jobs = list(iter(engine.next, None))
    assert len({job.number for job in jobs}) == len(jobs) == 3
    assert len({job.architecture.fingerprint for job in jobs}) == 2


@pytest.mark.parametrize(("decide", "again"), [(0, 0), (0.1, 0), (0.2, 1), (0.5, 3), (2, 12)])
def test_networks_are_trained_again_with_other_seeds_up_to_a_share_of_the_epochs(
    lab: Lab, decide: float, again: int
) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=6, stopping="none", decide=decide)
        lab.work(engine, workers=2)
        summary = engine.summary()
    trials = read_trials(read_study(lab.run))
    repeated = [t for t in trials if t.origin.is_finalist]
    assert summary.repetitions == summary.repetitions_complete == len(repeated) == again
    for number in {t.origin.trial for t in repeated if t.origin.trial is not None}:
        same = [t for t in repeated if t.origin.trial == number]
        assert {t.fingerprint for t in same} == {trials[number].fingerprint}
        assert sorted(t.seed for t in same) == list(range(1, len(same) + 1))
        assert trials[number].seed == 0
        assert all(max(t.epochs) == lab.epochs for t in same)


def test_an_answer_that_is_decided_needs_no_repetition(lab: Lab) -> None:
    with lab.journal() as journal:
        lab.decider = lambda trials, *, left, running: None  # the protocol's names
        engine = lab.engine(journal, trials=6, decide=2)
        assert engine.summary().repetitions == 0
        lab.work(engine)
        assert engine.summary().repetitions == 0
    assert not [t for t in read_trials(read_study(lab.run)) if t.origin.is_finalist]


def test_failures_and_out_of_memory_do_not_end_the_run(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=12, baselines={})
        ends = iter(
            [
                Outcome("failed", "loss is nan at epoch 1", "Traceback"),
                Outcome("out_of_memory", "wanted 9 GiB", peak_bytes=8 * 2**30),
            ]
        )
        while not engine.done:
            job = engine.next()
            if job is None:
                continue
            outcome = next(ends, Outcome("reached"))
            if outcome.kind == "reached":
                lab.train(engine, job)
            engine.finish(job, outcome)
        summary = engine.summary()
    assert (summary.failed, dict(summary.rejected)) == (1, {"training": 1})
    failed, exceeded = read_trials(read_study(lab.run))[:2]
    assert (failed.status, failed.reason) == ("failed", "loss is nan at epoch 1")
    assert (exceeded.status, exceeded.reason) == ("rejected", "wanted 9 GiB")
    assert read_study(lab.run).trials[1].constraints == {"out_of_memory": 1.0}
    assert lab.costs.seen == {(exceeded.fingerprint, "peak_memory_train"): 8.0 * 2**30}


def test_a_lost_job_is_queued_again_from_its_last_epoch_up_to_a_limit(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, stopping="none", baselines={}, trials=1)
        job = engine.next()
        lab.train(engine, job, stop=4)
        engine.finish(job, Outcome("lost", "its worker died"))
        again = engine.next()
        assert (again.number, again.start_epoch, again.stop_epoch) == (job.number, 4, 9)
        engine.finish(again, Outcome("lost", "its worker died"))
        again = engine.next()
        lab.train(engine, again, stop=5)  # progress resets the count
        for _ in range(2):
            engine.finish(again, Outcome("lost", "its worker died"))
            again = engine.next()
            assert again.start_epoch == 5
        assert engine.summary().failed == 0
        engine.finish(again, Outcome("lost", "its worker died"))
        assert engine.summary().failed == 1
    assert read_trials(read_study(lab.run))[0].reason == "lost 3 times in a row: its worker died"


FULL = Outcome("machine", "OSError: No space left on device")


def test_a_machine_that_fails_three_trials_in_a_row_ends_the_run_without_failing_them(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=6)
        jobs = [engine.next() for _ in range(3)]
        for job in jobs:
            assert engine.fault is None
            engine.finish(job, FULL)
        assert engine.fault == f"the machine failed 3 jobs in a row: {FULL.reason}"
        assert engine.next() is None
        assert not engine.done
    assert {trial.status for trial in read_trials(read_study(lab.run))} == {"active"}
    with lab.journal() as journal:  # resumed when the disk has room again
        engine = lab.engine(journal, baselines={}, trials=6)
        assert [engine.next().number for _ in range(3)] == [job.number for job in jobs]


def test_six_faults_of_the_only_trial_end_the_run(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=1)
        for fault in range(6):
            assert engine.fault is None, fault
            engine.finish(engine.next(), FULL)
        assert engine.fault is not None
        assert engine.summary().failed == 0


def test_a_trial_fails_after_ten_machine_faults_while_others_train(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, stopping="none", baselines={}, trials=2)
        job, other = engine.next(), engine.next()
        for fault in range(10):
            assert engine.summary().failed == 0, fault
            engine.finish(job, FULL)
            assert engine.fault is None
            lab.train(engine, other, stop=1)
            job = engine.next() or job
        assert engine.summary().failed == 1


def test_a_trial_fails_after_ten_lost_nodes_in_a_row(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, stopping="none", baselines={}, trials=1)
        for loss in range(10):
            assert engine.summary().failed == 0, loss
            job = engine.next()
            assert job is not None
            engine.finish(job, Outcome("node_lost", "its node died"))
        assert engine.summary().failed == 1
    assert read_trials(read_study(lab.run))[0].reason == "lost 10 times in a row: its node died"


def test_repeated_and_late_reports_change_nothing(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, stopping="none", baselines={}, trials=2)
        job = engine.next()
        lab.train(engine, job)
        lab.train(engine, job)
        engine.finish(job, Outcome("reached"))
        before = engine.summary()
        engine.finish(job, Outcome("reached"))
        engine.finish(job, Outcome("failed", "late"))
        engine.report(job, EpochRecord(9, {"top1": 0.99}, 0.1, 0.5))
        assert engine.summary() == before
        assert before.epochs == 9


def test_reached_without_its_epochs_is_an_error(lab: Lab) -> None:
    with lab.journal() as journal:
        engine = lab.engine(journal, stopping="none", baselines={}, trials=2)
        job = engine.next()
        lab.train(engine, job, stop=3)
        with pytest.raises(ValueError, match="reached epoch 9, but its last reported epoch is 3"):
            engine.finish(job, Outcome("reached"))


def test_a_nan_accuracy_fails_the_trial(lab: Lab) -> None:
    lab.accuracy = lambda *_: float("nan")
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines={}, trials=2)
        lab.work(engine)
        assert engine.summary().failed == 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_proposes_the_same_and_resuming_changes_nothing(lab: Lab, tmp_path: Path, sampler: str) -> None:
    sequences = []
    for restart_every in (1000, 3):
        lab.run = tmp_path / f"{sampler}-{restart_every}"
        steps = 0
        done = False
        while not done:
            with lab.journal() as journal:
                engine = lab.engine(journal, sampler=sampler, trials=14)
                for _ in range(restart_every):
                    job = engine.next()
                    if job is not None:
                        lab.train(engine, job)
                        engine.finish(job, Outcome("reached"))
                    steps += 1
                    assert steps < 500
                    done = engine.done
                    if done:
                        break
        sequences.append([(t.fingerprint, t.status, t.values) for t in read_trials(read_study(lab.run))])
    assert sequences[0] == sequences[1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_journal_replays_what_a_sampler_proposed_to_many_workers(lab: Lab, tmp_path: Path, sampler: str) -> None:
    # The default one draws its first sixteen proposals from a design. The others propose several times for one trial.
    launched = 20 if sampler == "default" else 12
    with lab.journal() as journal:
        lab.work(lab.engine(journal, sampler=sampler, limit=131.0, trials=launched), workers=4)
    trials = read_trials(read_study(lab.run))
    lines = (lab.run / "journal.log").read_text().splitlines(keepends=True)
    asked = [at for at, line in enumerate(lines) if json.loads(line)["op_code"] == JournalOperation.CREATE_TRIAL]
    proposed = [trial for trial in trials if trial.origin == records.SAMPLER]
    assert len(proposed) > 10
    for trial in proposed:
        lab.run = tmp_path / f"before-{trial.number}"
        lab.run.mkdir()
        (lab.run / "journal.log").write_text("".join(lines[: asked[trial.number]]))
        with lab.journal() as journal:
            lab.engine(journal, sampler=sampler, limit=131.0, trials=launched)
            again = journal.study.ask()
            assert (again.number, lab.space.suggest(again).fingerprint) == (trial.number, trial.fingerprint)


def test_baselines_outside_the_space_have_no_neighbours(lab: Lab, space: SearchSpace) -> None:
    # While too few trials are complete, values at the first rung count as final.
    plain = space.plain().to_dict()
    outside = {
        f"width-{width}": Architecture.from_dict({**plain, "skeleton": {**plain["skeleton"], "width": width}})
        for width in (24, 32, 40)
    }
    with lab.journal() as journal:
        engine = lab.engine(journal, baselines=outside, sampler="default", trials=40, eta=3)
        lab.work(engine, workers=4)
        assert engine.summary().launched == 40
    trials = read_trials(read_study(lab.run))
    assert [bool(trial.params) for trial in trials[:4]] == [False, False, False, True]


def test_objectives_must_be_those_of_the_journal(lab: Lab) -> None:
    with Journal.create(lab.run, ["maximize"], ["top1"], {}) as journal, pytest.raises(ValueError, match="directions"):
        lab.engine(journal)


def test_one_objective_is_enough(lab: Lab) -> None:
    with Journal.create(lab.run, ["maximize"], ["top1"], {}) as journal:
        engine = Engine(
            journal, lab.space, lab.config(), objectives=[Objective("top1", "maximize")], epochs=9, costs=None
        )
        lab.work(engine)
        summary = engine.summary()
    assert summary.front >= 1
    assert summary.hypervolume == pytest.approx(summary.best)


def test_a_trial_in_an_unknown_bracket_is_an_error(lab: Lab) -> None:
    with lab.journal() as journal:
        lab.work(lab.engine(journal, trials=6, stopping="hyperband", baselines={}))
    with (
        lab.journal() as journal,
        pytest.raises(JournalError, match=r"trial \d is in bracket [123], counted from 0, .* 1 brackets and 9 epochs"),
    ):
        lab.engine(journal, trials=6, stopping="none", baselines={})


class Unread(dict[int, object]):
    """Trials by number; to go through all of them is an error."""

    def values(self) -> object:  # type: ignore[override]
        raise AssertionError("every trial was read")

    __iter__ = items = values  # type: ignore[assignment]


def test_a_job_and_a_summary_do_not_read_every_trial(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(count: int) -> None:
        for _ in range(count):
            while (job := engine.next()) is None:
                assert not engine.done
            lab.train(engine, job)
            engine.finish(job, Outcome("reached"))

    with lab.journal() as journal:
        engine = lab.engine(journal, trials=200, sampler="random", stopping="mo_asha")
        jobs(100)
        known = engine.summary()
        monkeypatch.setattr(engine._ledger, "entries", Unread(engine._ledger.entries))
        jobs(60)
        found = engine.summary()
    assert found.epochs > known.epochs
    assert found.complete > known.complete
