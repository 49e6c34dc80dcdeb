"""Tune's searcher, scheduler and callback: they take jobs from the engine and return the results to it."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from launch.rundir.checkpoints import remove_except
from nas.search import Engine, Job, JobReport, Outcome

COUNT_EVERY_S = 2.0
"""Seconds between two queries of the cluster."""


class TuneTrial(Protocol):
    """The attributes of Tune's trials that are read here."""

    trial_id: str
    status: str


class Adapter(Searcher):  # type: ignore[misc]
    """Tune's view of the engine. Tune has its own trial ids; the job carries the engine's number."""

    def __init__(
        self,
        engine: Engine,
        workers: Callable[[], int],
        nodes: Callable[[], frozenset[str]],
        checkpoints: Path,
        turn: Callable[[], None],
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._engine, self._nodes, self._checkpoints, self._turn = engine, nodes, checkpoints, turn
        self._count = workers
        # Tune's trial id -> its job, and the nodes of the cluster when the job began.
        self.jobs: dict[str, tuple[Job, frozenset[str]]] = {}
        # Tune's trial id -> the fault of the machine after which its worker ends.
        self._faults: dict[str, Outcome] = {}
        self._workers, self._counted = self._count(), time.monotonic()

    def _wanted(self) -> int:
        """Trials at once. The cluster is queried again every few seconds, because nodes come and go."""
        if time.monotonic() - self._counted > COUNT_EVERY_S:
            self._workers, self._counted = self._count(), time.monotonic()
        return self._workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job; None makes Tune ask again later; FINISHED ends the search."""
        # While no trial runs, Tune's loop blocks for up to ten minutes, but calls this method once a second.
        self._turn()
        # Tune asks for one trial more than it can start. A job chosen that early would ignore the results that arrive
        # while it waits.
        if len(self.jobs) >= self._wanted():
            return None
        job = self._engine.next()
        if job is None:
            return Searcher.FINISHED if self._engine.done else None
        self.jobs[trial_id] = job, self._nodes()
        return {"job": json.dumps(job.to_dict())}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes an epoch's record to the engine; keeps the outcome of a job whose worker will end with an error."""
        if "payload" in result and trial_id in self.jobs:
            job, _ = self.jobs[trial_id]
            report = JobReport.from_dict(json.loads(result["payload"]))
            self._take(job, report)
            if report.outcome is not None:
                self._faults[trial_id] = report.outcome

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the engine how a job ended."""
        if trial_id not in self.jobs:
            return
        job, before = self.jobs.pop(trial_id)
        fault = self._faults.pop(trial_id, None)
        if fault is not None:
            self._engine.finish(job, fault)
        elif error or not result or "payload" not in result:
            # Ray does not say on which node the job ran. If any node has gone, the trial is not blamed.
            gone = before - self._nodes()
            self._engine.finish(
                job, Outcome("node_lost", "its node died") if gone else Outcome("lost", "its worker died")
            )
        else:
            report = JobReport.from_dict(json.loads(result["payload"]))
            self._take(job, report)
            self._engine.finish(job, report.outcome or Outcome("lost", "its worker ended without a report"))
        remove_except(self._checkpoints, self._engine.live())

    def _take(self, job: Job, report: JobReport) -> None:
        if report.record is not None:
            self._engine.report(job, report.record)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Does nothing: the journal holds the whole state."""


class Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Does not choose which trial runs next.

    Tune's own scheduler names the trial that waits longest. Tune gives a free worker to that trial and cancels the
    worker that it was starting for it. If trials are shorter than a start, a new node would then never get work.
    Without a named trial, the free worker takes the newest job.
    """

    def choose_trial_to_run(self, tune_controller: object) -> None:
        """Names no trial."""
        del tune_controller


class Ticker(Callback):  # type: ignore[misc]
    """Called by each turn of Tune's loop, at least ten times a second. Between two turns no write is incomplete."""

    def __init__(self, turn: Callable[[], None], note: Callable[[Sequence[TuneTrial]], None]) -> None:
        self._turn, self._note = turn, note
        self._noted = -math.inf

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: object) -> None:
        """Calls `turn`, and every few seconds `note`."""
        del iteration, info
        if time.monotonic() - self._noted > COUNT_EVERY_S:
            self._note(trials)
            self._noted = time.monotonic()
        self._turn()
