"""Runs an `Engine`'s jobs as Ray Tune trials.

Tune schedules the jobs and keeps the workers alive. The engine decides what is tried, continued and stopped, and its
journal holds the whole state. So Tune's state is disposable: no snapshots, no restore, no checkpoints of its own. A
resumed run is a new Tune session over the same journal.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import tune

from launch.errors import Failure, Interrupted
from launch.ray import cluster
from launch.ray import note as notes
from launch.ray.adapter import Adapter, Scheduler, Ticker, TuneTrial
from launch.ray.signals import deferred
from launch.ray.worker import Worker
from launch.rundir import names
from launch.rundir.checkpoints import remove_except
from launch.rundir.config import Resources
from nas.search import Engine
from search_spaces.errors import typed
from trainers import Dataset, TrainerConfig


@dataclass(frozen=True)
class Plan:
    """Everything that a Tune session needs besides the engine."""

    run_dir: Path
    dataset: Dataset
    trainer: TrainerConfig
    resources: Resources


def run(engine: Engine, plan: Plan, on_tick: Callable[[], None]) -> None:
    """Runs the engine's jobs until the engine is done.

    Args:
        engine: Gives the next job and takes the results.
        plan: What the workers share.
        on_tick: Called several times a second, whether or not anything happened; for the display.

    Raises:
        Interrupted: SIGINT or SIGTERM came. Raised between two events, never within a write.
        Failure: the machine fails every job: a full disk, missing data.
    """
    resources = plan.resources
    trainable = tune.with_resources(
        tune.with_parameters(
            Worker,
            # Several replicas need the reference itself: the worker passes it on, and they share their node's one copy.
            dataset=plan.dataset if resources.world_size == 1 else ray.put(plan.dataset),
            trainer=plan.trainer,
            checkpoints=str(plan.run_dir / names.CHECKPOINTS),
            world_size=resources.world_size,
            device="cuda" if resources.gpus_per_trial else "cpu",
            threads=resources.threads,
            memory_fraction=resources.gpus_per_trial if 0 < resources.gpus_per_trial < 1 else None,
        ),
        cluster.request(resources),
    )
    began: dict[str, float] = {}
    with deferred() as stopping:

        def turn() -> None:
            on_tick()
            if stopping.is_set():
                raise Interrupted
            if engine.fault is not None:
                raise Failure(f"{engine.fault}. No trial is lost; continue with: nas resume {typed(plan.run_dir)}")

        def note(trials: Sequence[TuneTrial]) -> None:
            nonlocal began
            under_way = {trial.trial_id: trial.status for trial in trials if trial.trial_id in adapter.jobs}
            running = [name for name, status in under_way.items() if status == "RUNNING"]
            began = {name: began.get(name, time.time()) for name in running}
            by_number = {adapter.jobs[name][0].number: since for name, since in began.items()}
            waiting = list(under_way.values()).count("PENDING")
            notes.leave(plan.run_dir, cluster.look(resources, by_number, waiting))

        adapter = Adapter(
            engine, lambda: cluster.worker_count(resources), cluster.node_ids, plan.run_dir / names.CHECKPOINTS, turn
        )
        # Not `Tuner.fit`: it pickles the searcher for a restore, which the journal replaces.
        tune.run(
            trainable,
            name="tune",
            storage_path=str(plan.run_dir / names.TUNE),
            search_alg=adapter,
            scheduler=Scheduler(),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_job_name,
            trial_dirname_creator=_job_name,
            callbacks=[Ticker(turn, note)],
            raise_on_failed_trial=False,
            verbose=0,
        )
    remove_except(plan.run_dir / names.CHECKPOINTS, engine.live())


def _job_name(trial: TuneTrial) -> str:
    return f"job-{trial.trial_id}"
