"""Drivers that are killed at random moments: nothing finished is lost, nothing is counted or trained twice."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from nas.search import Outcome, read_study, read_trials

if TYPE_CHECKING:
    from conftest import Child, Lab

TRIALS = 16


def drive(lab: Lab, say: Callable[[object], None]) -> None:
    """A driver with two jobs at once that says what it did before it does the next thing."""
    with lab.journal() as journal:
        engine = lab.engine(journal, trials=TRIALS, sampler="default", finalist_seeds=1, finalists=3, limit=131.0)
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
    """What a driver said until it was done, or killed after `seconds`; and whether it was done."""
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


@pytest.mark.parametrize("seed", range(3))
def test_a_driver_killed_over_and_over_ends_as_one_that_was_not(lab: Lab, fork: type[Child], seed: int) -> None:
    rng = random.Random(seed)
    said: list[tuple[Any, ...]] = []
    kills, done = 0, False
    while not done:
        # Longer and longer, so that it comes to an end on any machine.
        heard, done = listen(fork(lambda say: drive(lab, say)), rng.uniform(0.0, 0.1) + 0.01 * kills)
        said += heard
        kills += not done
        assert kills < 200
    assert kills >= 3
    trials = read_trials(read_study(lab.run))
    by_number = {trial.number: trial for trial in trials}

    trained = [entry[1:] for entry in said if entry[0] == "trained"]
    assert len(trained) == len(set(trained)), "an epoch that was reported was trained again"
    assert all(epoch in by_number[number].epochs for number, epoch in trained)
    assert all(by_number[number].plan is not None for what, number, *_ in said if what == "launched")
    assert all(by_number[number].status == "complete" for what, number, *_ in said if what == "complete")

    searched = [t for t in trials if t.plan is not None and not t.origin.startswith("finalist:")]
    assert len(searched) == len({t.fingerprint for t in searched}) == TRIALS
    assert {t.status for t in searched} <= {"complete", "stopped"}
    assert all(sorted(t.epochs) == list(range(1, 10)) for t in trials if t.status == "complete" and t.plan)
    assert all(t.ended for t in trials)
    repeats = [(t.origin, t.seed) for t in trials if t.plan is not None and t.origin.startswith("finalist:")]
    assert len(repeats) == len(set(repeats)) > 0
