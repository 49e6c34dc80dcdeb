"""Kills drivers at random moments: nothing finished is lost, and nothing is counted or trained twice."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from nas.search import Engine, Outcome, journal, read_study, read_trials
from nas.search.ledger import TrialLedger
from search_spaces import SearchSpace

if TYPE_CHECKING:
    from conftest import Child, Lab

TRIALS = 16
SEEDS = [0, *(pytest.param(seed, marks=[pytest.mark.slow, pytest.mark.repeated]) for seed in range(1, 10))]


def drive(lab: Lab, say: Callable[[object], None]) -> None:
    """A driver with two jobs at once. It reports every action before the next one."""
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=TRIALS, sampler="default", decide=0.3, limit=131.0)
        running = []
        while not engine.done:
            while len(running) < 2 and (job := engine.next()) is not None:
                running.append(job)
                say(("launched", job.number))
            if running:
                job = running.pop(0)
                for epoch in range(job.start_epoch + 1, job.stop_epoch + 1):
                    lab.report(engine, job, epoch)
                    say(("trained", job.number, epoch))
                engine.finish(job, Outcome("reached"))
                if job.stop_epoch == lab.epochs:
                    say(("complete", job.number))


def listen(child: Child, seconds: float) -> tuple[list[tuple[Any, ...]], bool]:
    """The messages of a driver until it is done, or killed after `seconds`; and whether it is done."""
    said: list[tuple[Any, ...]] = []
    until = time.monotonic() + seconds
    with contextlib.suppress(EOFError):
        while child.pipe.poll(max(until - time.monotonic(), 0)):
            heard = child.heard()
            if heard is None:
                child.wait()
                return said, True
            said.append(heard)
        child.kill()
        while (heard := child.heard()) is not None:
            said.append(heard)
    child.wait()
    return said, False


def check(lab: Lab, said: list[tuple[Any, ...]]) -> None:
    """Checks that nothing that the drivers reported is lost or was done twice, and that the run is complete."""
    trials = read_trials(read_study(lab.run))
    by_number = {trial.number: trial for trial in trials}

    trained = [entry[1:] for entry in said if entry[0] == "trained"]
    assert len(trained) == len(set(trained)), "an epoch that was reported was trained again"
    assert all(epoch in by_number[number].epochs for number, epoch in trained)
    assert all(by_number[number].plan is not None for what, number, *_ in said if what == "launched")
    assert all(by_number[number].status == "complete" for what, number, *_ in said if what == "complete")

    searched = [t for t in trials if t.plan is not None and not t.origin.is_finalist]
    assert len(searched) == len({t.fingerprint for t in searched}) == TRIALS
    assert {t.status for t in searched} <= {"complete", "stopped"}
    assert all(sorted(t.epochs) == list(range(1, 10)) for t in trials if t.status == "complete" and t.plan)
    assert all(t.ended for t in trials)
    repeats = [(t.origin, t.seed) for t in trials if t.plan is not None and t.origin.is_finalist]
    assert len(repeats) == len(set(repeats)) > 0


def drive_and_die(lab: Lab, say: Callable[[object], None], point: str, at: int, *, late: bool) -> None:
    """A driver that is killed when it reaches a point for the `at`-th time, before or after the point's action."""
    owner, name = POINTS[point]
    real = getattr(owner, name)
    passed = 0

    def dying(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        nonlocal passed
        passed += 1
        if passed == at and not late:
            if point == "write":
                # Only half of the bytes are written to the file.
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)  # in a forked process, so it ends with that process
    drive(lab, say)


POINTS = {
    "ask": (optuna.Study, "ask"),
    "launched": (TrialLedger, "launch"),
    "first report": (Engine, "report"),
    "reached": (Engine, "finish"),
    "tell": (optuna.Study, "tell"),
    "write": (journal.os, "write"),
    "sync": (journal.os, "fsync"),
}
"""Where a driver may die: `owner.name` is passed there."""


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_driver_that_dies_at_a_point_loses_and_repeats_nothing(
    lab: Lab, fork: type[Child], point: str, seed: int, *, late: bool
) -> None:
    rng = random.Random(f"{point} {seed} {late}")
    said: list[tuple[Any, ...]] = []
    kills, done = 0, False
    while not done:
        # Later each time, so that the run ends.
        at = rng.randint(1, 8) + 4 * kills
        child = fork(lambda say, at=at: drive_and_die(lab, say, point, at, late=late))
        heard, done = listen(child, 60.0)
        said += heard
        kills += not done
        assert kills < 50
    assert kills >= 2
    check(lab, said)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_whose_driver_is_killed_repeatedly_completes(lab: Lab, fork: type[Child], seed: int) -> None:
    rng = random.Random(seed)
    said: list[tuple[Any, ...]] = []
    kills, done = 0, False
    while not done:
        # Longer each time, so that the run ends on any machine; `make test-kills` has more kills.
        longer = (0.004 if seed else 0.008) * kills
        heard, done = listen(fork(lambda say: drive(lab, say)), rng.uniform(0.0, 0.04) + longer)
        said += heard
        kills += not done
        assert kills < 200
    assert kills >= 3
    check(lab, said)


def test_a_clock_that_goes_backwards_changes_nothing(
    lab: Lab, tmp_path: Path, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type(lab)(tmp_path / "other", space)
    with other.journal() as journal_:
        other.work(other.engine(journal_, sampler="default"), workers=2)

    class Backwards(datetime.datetime):
        """A clock that goes back an hour at each call."""

        looks = 0

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            cls.looks += 1
            return datetime.datetime(2030, 1, 1, tzinfo=tz) - datetime.timedelta(hours=cls.looks)

    monkeypatch.setattr("optuna.storages.journal._storage.datetime", Backwards)
    with lab.journal() as journal_:
        lab.work(lab.engine(journal_, sampler="default"), workers=2)
    assert Backwards.looks > 0
    found, expected = (read_trials(read_study(each.run)) for each in (lab, other))
    assert [(t.fingerprint, t.status) for t in found] == [(t.fingerprint, t.status) for t in expected]
