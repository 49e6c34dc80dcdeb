"""Runs an `Engine`'s jobs as Ray Tune trials.

Tune schedules and keeps the workers alive; what is tried, continued and stopped is the engine's, and all that must last
is in its journal. So Tune's own state is disposable: no snapshots, no restore, no checkpoints of its own. A resumed run
is a fresh Tune session over the same journal.
"""

import json
import logging
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from launch import cluster
from launch.checkpoints import remove_except
from launch.config import Resources
from launch.errors import Interrupted, UserError
from launch.guard import printable
from launch.worker import Worker
from nas.search import Engine, Job, JobReport, Outcome
from trainers import Dataset, TrainerConfig

LOCAL = "local"
"""The address that stands for a private Ray session on this machine."""

_COUNT_EVERY_S = 2.0

# Read by Tune when it is imported or run: its loggers and snapshots cost 20 ms a trial and nobody reads them.
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Or workers would start one after the other, seconds each. How many there are is the adapter's to say.
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Plan:
    """All that a Tune session needs besides the engine."""

    run_dir: Path
    dataset: Dataset
    trainer: TrainerConfig
    resources: Resources


def run(engine: Engine, plan: Plan, on_tick: Callable[[], None]) -> None:
    """Works the engine's jobs off until it is done.

    Args:
        engine: Says what to train next and takes the results.
        plan: What the workers share.
        on_tick: Called several times a second, whether or not anything happened; for the display.

    Raises:
        Interrupted: SIGINT or SIGTERM came. Raised between two events, never within a write.
    """
    os.environ.update(_TUNE_ENVIRONMENT)
    import ray  # noqa: PLC0415  # after the environment is set
    from ray import tune  # noqa: PLC0415

    resources = plan.resources
    trainable = tune.with_resources(
        tune.with_parameters(
            Worker,
            # For several ranks the reference itself, which the worker hands on: each reads the one copy of its node.
            dataset=plan.dataset if resources.ranks == 1 else ray.put(plan.dataset),
            trainer=plan.trainer,
            checkpoints=str(plan.run_dir / "checkpoints"),
            ranks=resources.ranks,
            device="cuda" if resources.gpus_per_trial else "cpu",
            threads=resources.threads,
            memory_fraction=resources.gpus_per_trial if 0 < resources.gpus_per_trial < 1 else None,
        ),
        cluster.request(resources),
    )
    with _signals() as stopping:

        def turn() -> None:
            on_tick()
            if stopping.is_set():
                raise Interrupted

        def note(trials: Sequence[Any]) -> None:
            states = Counter(trial.status for trial in trials if trial.trial_id in adapter.jobs)
            cluster.leave(plan.run_dir, cluster.look(resources, states["RUNNING"], states["PENDING"]))

        adapter = _adapter(engine, lambda: cluster.worker_count(resources), cluster.node_ids, plan.run_dir, turn)
        # Not `Tuner.fit`: it pickles the searcher for a restore that the journal replaces.
        tune.run(
            trainable,
            name="tune",
            storage_path=str(plan.run_dir / "ray"),
            search_alg=adapter,
            scheduler=_scheduler(),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
            callbacks=[_ticker(turn, note)],
            raise_on_failed_trial=False,
            verbose=0,
        )
    remove_except(plan.run_dir / "checkpoints", engine.live())


_TRUSTED = (None, LOCAL, "auto")


def address_of(kept: str | None, given: str | None) -> str | None:
    """The Ray cluster to work on: `given`, else the one that the run was begun on; None is this machine alone.

    A cluster reads pickles of its drivers and they of it, so one that the journal alone names is not called: the
    journal may have come from a stranger.

    Raises:
        UserError: the journal names a cluster elsewhere, and nobody else does; or it is to be reached by Ray Client.
    """
    if given is None and kept not in _TRUSTED:
        raise UserError(
            f"nas: the run was begun on the Ray cluster {printable(str(kept))}; say again where to go on: "
            f"--address {printable(str(kept))}, or --address {LOCAL} for this machine"
        )
    address = kept if given is None else given
    if address is not None and address.startswith("ray://"):
        # Tune moves itself to the cluster there, and would have to take the open journal along.
        raise UserError(
            f"nas: {printable(address)}: a search cannot be driven through Ray Client; start it on a machine of the "
            "cluster (--address auto), or from anywhere by ray job submit"
        )
    return None if address == LOCAL else address


@contextmanager
def connected(resources: Resources) -> Iterator[None]:
    """A Ray session: the cluster at `resources.address`, else a private one here that ends with the block."""
    os.environ.update(_TUNE_ENVIRONMENT)
    import ray  # noqa: PLC0415

    logging.getLogger("ray").setLevel(logging.ERROR)
    # It ends with an error that lists the jobs whose node went, which have long gone on elsewhere.
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if resources.address:
        ray.init(address=resources.address, **quiet)
    else:
        cpus = None if resources.workers == "auto" else max(1, math.ceil(resources.workers * resources.cpus_per_trial))
        gpus = None if resources.gpus_per_trial else 0
        # "local", or a stale address file of another cluster would be tried first; loopback, so that no port is open to
        # the network.
        _started(
            lambda: ray.init(
                "local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet
            )
        )
    try:
        yield
    finally:
        ray.shutdown()


def _started(init: Callable[[], object]) -> None:
    """Starts a private Ray session, once more if it did not come up.

    On a busy machine Ray's own agents miss the 15 seconds that its node manager grants them.
    """
    import ray  # noqa: PLC0415

    for attempts_left in (2, 1, 0):
        try:
            init()
        except Exception as error:  # Ray raises a bare Exception here
            ray.shutdown()
            if not attempts_left or "timed out" not in str(error):
                raise
        else:
            return


def _job_name(trial: Any) -> str:  # noqa: ANN401  # ray's Trial
    return f"job-{trial.trial_id}"


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets; a second signal has its usual, immediate effect."""
    event = threading.Event()
    before: dict[int, Any] = {}

    def handle(number: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ticker(turn: Callable[[], None], note: Callable[[Sequence[Any]], None]) -> Any:  # noqa: ANN401  # a class made of ray's
    from ray.tune import Callback  # noqa: PLC0415

    class Ticker(Callback):  # type: ignore[misc]
        """Tune's loop turns ten times a second at least; between two turns nothing is half written."""

        noted = -math.inf

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401, ARG002
            if time.monotonic() - self.noted > _COUNT_EVERY_S:
                note(trials)
                self.noted = time.monotonic()
            turn()

    return Ticker()


def _scheduler() -> Any:  # noqa: ANN401  # a class made of ray's
    from ray.tune.schedulers import FIFOScheduler  # noqa: PLC0415

    class Scheduler(FIFOScheduler):  # type: ignore[misc]
        """Leaves it to Tune which trial comes next.

        Tune's own names the trial that waits longest. A worker that has become free is then given to that one, though
        a worker is being started for it, and the start is called off: where trials are shorter than a start, a new
        node would never come to work. Unnamed, the free worker takes the job that was just decided.
        """

        def choose_trial_to_run(self, tune_controller: object) -> None:  # noqa: ARG002
            return None

    return Scheduler()


def _adapter(
    engine: Engine,
    workers: Callable[[], int],
    nodes: Callable[[], frozenset[str]],
    run_dir: Path,
    turn: Callable[[], None],
) -> Any:  # noqa: ANN401  # a class made of ray's
    from ray.tune.search import Searcher  # noqa: PLC0415

    class Adapter(Searcher):  # type: ignore[misc]
        """Tune's view of the engine. Tune's trial ids are its own; the engine's numbers travel in the job."""

        def __init__(self) -> None:
            super().__init__(metric=None, mode=None)
            # With each job the nodes that there were when it began.
            self.jobs: dict[str, tuple[Job, frozenset[str]]] = {}
            self._workers, self._counted = workers(), time.monotonic()

        def _wanted(self) -> int:
            """Trials at once; the cluster is looked at again every few seconds, for nodes come and go."""
            if time.monotonic() - self._counted > _COUNT_EVERY_S:
                self._workers, self._counted = workers(), time.monotonic()
            return self._workers

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            # While nothing runs Tune's loop stands still for up to ten minutes, and asks here once a second.
            turn()
            # Tune asks for one trial more than it can start; a job decided that early would not know the results that
            # arrive while it waits.
            if len(self.jobs) >= self._wanted():
                return None
            job = engine.next()
            if job is None:
                return Searcher.FINISHED if engine.done else None
            self.jobs[trial_id] = job, nodes()
            return {"job": json.dumps(job.to_dict())}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if "payload" in result and trial_id in self.jobs:
                job, _ = self.jobs[trial_id]
                self._take(job, JobReport.from_dict(json.loads(result["payload"])))

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            if trial_id not in self.jobs:
                return
            job, before = self.jobs.pop(trial_id)
            if error or not result or "payload" not in result:
                # Which node it was on Ray does not say; that one went is enough not to blame the trial.
                gone = before - nodes()
                engine.finish(
                    job, Outcome("node_lost", "its node died") if gone else Outcome("lost", "its worker died")
                )
            else:
                report = JobReport.from_dict(json.loads(result["payload"]))
                self._take(job, report)
                engine.finish(job, report.outcome or Outcome("lost", "its worker ended without a word"))
            remove_except(run_dir / "checkpoints", engine.live())

        def _take(self, job: Job, report: JobReport) -> None:
            if report.record is not None:
                engine.report(job, report.record)

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            """Nothing: the journal is the only truth."""

    return Adapter()
