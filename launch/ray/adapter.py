"""Tune's searcher, scheduler and callback: how Tune asks the engine for jobs and hands it their results."""

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
"""Seconds between two looks at the cluster."""


class TuneTrial(Protocol):
    """What is read of a trial of Tune's."""

    trial_id: str
    status: str


class Adapter(Searcher):  # type: ignore[misc]
    """Tune's view of the self._engine. Tune's trial ids are its own; the engine's numbers travel in the job."""

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
        # With each job the nodes that there were when it began.
        self.jobs: dict[str, tuple[Job, frozenset[str]]] = {}
        self._workers, self._counted = self._count(), time.monotonic()

    def _wanted(self) -> int:
        """Trials at once; the cluster is looked at again every few seconds, for nodes come and go."""
        if time.monotonic() - self._counted > COUNT_EVERY_S:
            self._workers, self._counted = self._count(), time.monotonic()
        return self._workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job, None to be asked again later, or FINISHED."""
        # While nothing runs Tune's loop stands still for up to ten minutes, and asks here once a second.
        self._turn()
        # Tune asks for one trial more than it can start; a job decided that early would not know the results that
        # arrive while it waits.
        if len(self.jobs) >= self._wanted():
            return None
        job = self._engine.next()
        if job is None:
            return Searcher.FINISHED if self._engine.done else None
        self.jobs[trial_id] = job, self._nodes()
        return {"job": json.dumps(job.to_dict())}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hands an epoch's record to the engine."""
        if "payload" in result and trial_id in self.jobs:
            job, _ = self.jobs[trial_id]
            self._take(job, JobReport.from_dict(json.loads(result["payload"])))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the engine how a job ended."""
        if trial_id not in self.jobs:
            return
        job, before = self.jobs.pop(trial_id)
        if error or not result or "payload" not in result:
            # Which node it was on Ray does not say; that one went is enough not to blame the trial.
            gone = before - self._nodes()
            self._engine.finish(
                job, Outcome("node_lost", "its node died") if gone else Outcome("lost", "its worker died")
            )
        else:
            report = JobReport.from_dict(json.loads(result["payload"]))
            self._take(job, report)
            self._engine.finish(job, report.outcome or Outcome("lost", "its worker ended without a word"))
        remove_except(self._checkpoints, self._engine.live())

    def _take(self, job: Job, report: JobReport) -> None:
        if report.record is not None:
            self._engine.report(job, report.record)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the journal is the only truth."""


class Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Leaves it to Tune which trial comes next.

    Tune's own names the trial that waits longest. A worker that has become free is then given to that one, though
    a worker is being started for it, and the start is called off: where trials are shorter than a start, a new
    node would never come to work. Unnamed, the free worker takes the job that was just decided.
    """

    def choose_trial_to_run(self, tune_controller: object) -> None:
        """Names no trial."""
        del tune_controller


class Ticker(Callback):  # type: ignore[misc]
    """Tune's loop turns ten times a second at least; between two turns nothing is half written."""

    def __init__(self, turn: Callable[[], None], note: Callable[[Sequence[TuneTrial]], None]) -> None:
        self._turn, self._note = turn, note
        self._noted = -math.inf

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: object) -> None:
        """Takes note of the cluster every few seconds, and gives the caller its turn."""
        del iteration, info
        if time.monotonic() - self._noted > COUNT_EVERY_S:
            self._note(trials)
            self._noted = time.monotonic()
        self._turn()
