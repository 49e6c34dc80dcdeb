"""The Ray Tune trainable: a long-lived worker that takes one job after another.

A process start costs seconds, a job change milliseconds. So Tune keeps the actor (`reuse_actors`) and passes it the
next job through `reset_config`. One `step` is one epoch. An epoch's record and the job's outcome are returned as one
JSON text, which Tune does not flatten.

After a fault of the machine the process takes no more jobs, because it may be damaged too (no memory, a lost mount).
Tune replaces an actor only if it raises an error, and an error carries no result. So the step that met the fault
returns the outcome, and the next step raises.
"""

import json
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from launch.ray.faults import outcome_of
from launch.ray.replicas import Replica, ReplicaGroup
from nas.search import EpochRecord, Job, JobReport, Outcome
from trainers import Dataset, TrainerConfig


class MachineFault(RuntimeError):
    """Ends a worker's process after a fault of the machine, which was reported before."""


class Worker(tune.Trainable):  # type: ignore[misc]  # ray ships no annotations that mypy could follow
    """Trains jobs. `config["job"]` is the JSON of one `Job`."""

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset | ray.ObjectRef | None = None,
        trainer: TrainerConfig | None = None,
        checkpoints: str = "",
        world_size: int = 1,
        **settings: Any,
    ) -> None:
        """Takes the arguments that all jobs share.

        Args:
            config: the first job.
            dataset: the data, or for several replicas a reference to it; Ray's object store is read without a copy.
            trainer: the training settings.
            checkpoints: the folder for the checkpoints of all jobs.
            world_size: number of processes, each with a GPU and a share of every batch.
            settings: `Replica`'s device, threads, memory_fraction.
        """
        assert dataset is not None
        assert trainer is not None
        if world_size == 1:
            self._replica: Replica | ReplicaGroup = Replica(dataset, trainer, Path(checkpoints), **settings)
        else:
            self._replica = ReplicaGroup(world_size, dataset, trainer, Path(checkpoints), **settings)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepares for another job. The first step builds the model, so that a failure can be reported."""
        self._job = Job.from_dict(json.loads(new_config["job"]))
        self._replay: list[EpochRecord] | None = None
        self._replica.close()
        self._spent = False
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch, or returns the record of an epoch that a checkpoint has and the journal lacks.

        Raises:
            MachineFault: The last step returned a fault of the machine.
        """
        if self._spent:
            raise MachineFault("the machine failed under this process: another one takes its place")
        try:
            record = self._next_record()
        except RayActorError:
            raise  # a rank's process is gone: this worker is lost, and the job is started again
        except Exception as error:  # no failure of a network or a data set may end the run
            outcome = outcome_of(error)
            self._spent = outcome.kind == "machine"
            return _told(JobReport(outcome=outcome), done=not self._spent)
        done = record.epoch >= self._job.stop_epoch
        return _told(JobReport(record, Outcome("reached") if done else None), done=done)

    def _next_record(self) -> EpochRecord:
        if self._replay is None:
            self._replay = self._replica.open(self._job)
        return self._replay.pop(0) if self._replay else self._replica.epoch()

    def cleanup(self) -> None:
        """Frees the network and ends the replicas' processes."""
        self._replica.close()
        if isinstance(self._replica, ReplicaGroup):
            self._replica.end()


def _told(report: JobReport, *, done: bool) -> dict[str, Any]:
    """A report as one JSON text for Tune; `done`: Tune may give the process another job."""
    return {"payload": json.dumps(report.to_dict()), "done": done}
