"""The Ray Tune trainable: a long-lived worker that takes one job after another.

A process start costs seconds, a job change milliseconds: Tune keeps the actor (`reuse_actors`) and hands it the next
job through `reset_config`. One `step` is one epoch. What an epoch gave, and how the job ended, goes back as one JSON
text, so that Tune's flattening of nested results has nothing to do.
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
        """Takes what all jobs share.

        Args:
            config: the first job.
            dataset: whose arrays are read from Ray's object store without a copy; for several replicas its reference.
            trainer: how to train.
            checkpoints: a folder for all jobs'.
            world_size: processes that each train on a share of every batch, with a GPU each.
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
        """Makes ready for another job; the model is built by the first step, where its failure can be told."""
        self._job = Job.from_dict(json.loads(new_config["job"]))
        self._replay: list[EpochRecord] | None = None
        self._replica.close()
        return True

    def step(self) -> dict[str, Any]:
        """One epoch, or one epoch's record that a checkpoint knows and the journal does not."""
        try:
            record = self._next_record()
        except RayActorError:
            raise  # a rank's process is gone, and with it this trial's worker: it is lost, and launched again
        except Exception as error:  # whatever a network or a data set does, the run goes on without it
            return _told(JobReport(outcome=outcome_of(error)))
        done = record.epoch >= self._job.stop_epoch
        return _told(JobReport(record, Outcome("reached") if done else None))

    def _next_record(self) -> EpochRecord:
        if self._replay is None:
            self._replay = self._replica.open(self._job)
        return self._replay.pop(0) if self._replay else self._replica.epoch()

    def cleanup(self) -> None:
        """Lets go of the network, and of other processes."""
        self._replica.close()
        if isinstance(self._replica, ReplicaGroup):
            self._replica.end()


def _told(report: JobReport) -> dict[str, Any]:
    """A report as Tune carries it: one JSON text."""
    return {"payload": json.dumps(report.to_dict()), "done": report.outcome is not None}
