"""Searches without training: a small space, invented costs and accuracies, and child processes that can be killed."""

import hashlib
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.search import (
    Engine,
    EpochRecord,
    Job,
    Journal,
    JournalError,
    Objective,
    Outcome,
    SearchConfig,
    TrialRecord,
)
from nas.search.engine import Decider
from search_spaces import Architecture, SearchSpace, parse_space

OBJECTIVES = (Objective("top1", "maximize"), Objective("params", "minimize"))

SPACE = """
schema: 1
name: small
skeleton: {family: resnet, depth: 8, width: 16, image_size: 32, num_classes: 10}
placements:
  "*":
    conv: [plain, aw]
    refine: [none, {se: {reduction: [4, 8]}}, {cbam: {reduction: 4}}]
"""


def share(text: str) -> float:
    """A number in [0, 1) that depends only on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


@dataclass(frozen=True)
class Estimate:
    value: float
    lower: float = 0.0
    upper: float = 0.0
    unit: str = "count"
    source: str = "analytic"


def cost(architecture: Architecture) -> float:
    return 100.0 + sum(
        10 + share(f"{block}{slot}{choice}")
        for block, slots in architecture.placements.items()
        for slot, choice in slots.items()
    )


class Costs:
    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], float] = {}

    def must_measure(self, architecture: Architecture, measure: str) -> bool:
        return False

    def record(self, architecture: Architecture, measure: str, value: float) -> Estimate:
        self.seen[architecture.fingerprint, measure] = value
        return Estimate(value)

    def estimate(self, architecture: Architecture, measure: str) -> Estimate:
        assert measure == "params"
        return Estimate(cost(architecture))


@dataclass(frozen=True)
class Verdict:
    feasible: bool
    stage: str
    estimates: Mapping[str, Estimate]
    violations: Mapping[str, float]


class Limits:
    def __init__(self, limit: float) -> None:
        self.limits = {"params": limit}

    def check(self, architecture: Architecture) -> Verdict:
        value = cost(architecture)
        over = value / self.limits["params"] - 1
        return Verdict(over <= 0, "static", {"params": Estimate(value)}, {"params": over})


def in_turn(trials: Sequence[TrialRecord], *, left: int, running: Mapping[int, int]) -> int | None:
    """Trains the first two complete trials again, the one with fewer repetitions first."""
    assert left > 0
    complete = [t.number for t in trials if t.status == "complete" and t.plan and not t.origin.is_finalist]
    times = Counter(t.origin.trial for t in trials if t.origin.is_finalist)
    assert set(running) <= set(times)
    return min(complete[:2], key=lambda number: (times[number], number), default=None)


@dataclass
class Lab:
    """Creates engines for one run and trains their jobs."""

    run: Path
    space: SearchSpace
    epochs: int = 9
    trained: list[tuple[int, int]] = field(default_factory=list)
    costs: Costs = field(default_factory=Costs)
    objectives: tuple[Objective, ...] = OBJECTIVES
    decider: Decider = in_turn

    def config(self, **settings: object) -> SearchConfig:
        return SearchConfig.model_validate({"trials": 20, "sampler": "random", "decide": 0, **settings})

    def journal(self) -> Journal:
        try:
            return Journal.open(self.run)
        except JournalError:  # no run yet, or its driver died while it created the run
            return Journal.create(
                self.run, [o.direction for o in self.objectives], [o.metric for o in self.objectives], {}
            )

    def engine(
        self,
        journal: Journal,
        limit: float | None = None,
        baselines: Mapping[str, Architecture] | None = None,
        **settings: object,
    ) -> Engine:
        return Engine(
            journal,
            self.space,
            self.config(**settings),
            objectives=self.objectives,
            epochs=self.epochs,
            costs=self.costs,
            budget=None if limit is None else Limits(limit),
            baselines=baselines,
            decide=self.decider,
        )

    def accuracy(self, architecture: Architecture, epoch: int, seed: int) -> float:
        final = 0.3 + 0.5 * share(architecture.fingerprint) + 0.02 * share(f"{architecture.fingerprint}{seed}")
        return final * (1 - 0.6**epoch)

    def train(self, engine: Engine, job: Job, stop: int | None = None) -> None:
        """Reports a job's epochs, all or up to `stop`."""
        for epoch in range(job.start_epoch + 1, (stop or job.stop_epoch) + 1):
            self.trained.append((job.number, epoch))
            self.report(engine, job, epoch)

    def report(self, engine: Engine, job: Job, epoch: int) -> None:
        """Reports one epoch."""
        top1 = self.accuracy(job.architecture, epoch, job.seed)
        engine.report(job, EpochRecord(epoch, {"top1": top1, "loss": 1.0}, 0.1, 0.5))

    def work(self, engine: Engine, workers: int = 1, steps: int = 10_000) -> None:
        """Trains until the engine is done, with `workers` jobs at once, which end in the order of their starts."""
        running: list[Job] = []
        for _ in range(steps):
            if engine.done:
                assert not running
                return
            while len(running) < workers and (job := engine.next()) is not None:
                running.append(job)
            if running:
                job = running.pop(0)
                self.train(engine, job)
                engine.finish(job, Outcome("reached"))
        raise AssertionError(f"not done after {steps} steps: {engine.summary()}")


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return parse_space(SPACE)


@pytest.fixture
def lab(tmp_path: Path, space: SearchSpace) -> Lab:
    return Lab(tmp_path / "run", space)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


class Child:
    """A forked process that runs `target(say)`. `say` sends a message through a pipe, completely or not at all."""

    def __init__(self, target: Callable[[Callable[[Any], None]], None]) -> None:
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        self.pid = os.fork()
        if not self.pid:
            try:
                target(theirs.send)
                theirs.send(None)
            except BaseException as error:  # report it to the parent
                theirs.send(error)
            finally:
                os._exit(0)
        theirs.close()

    def heard(self) -> Any:  # noqa: ANN401
        """The next message. Raises the error that ended the process, or EOFError if it was killed."""
        said = self.pipe.recv()
        if isinstance(said, BaseException):
            raise said
        return said

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)


@pytest.fixture
def fork() -> type[Child]:
    return Child


@pytest.fixture(autouse=True)
def _draws_little(few_sweeps: None) -> None:
    """These tests are not about the figures of a run's model."""
