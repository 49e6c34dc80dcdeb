"""Trains a trial in one process, or in one process per GPU (data-parallel).

Several processes are Ray actors in the trial's own placement group: Tune reserves a node's GPUs for all of them or for
none, and they end with the trial. Each takes its share of every batch; `Training` averages the gradients.
"""

import logging
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import ray
import torch
from ray.exceptions import RayTaskError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import distributed

from launch.rundir.checkpoints import newest_first, path_of, prune
from nas.search import EpochRecord, Job
from trainers import ALONE, CheckpointError, Dataset, EpochResult, Share, TrainerConfig, Training

KEPT_CHECKPOINTS = 2

_log = logging.getLogger(__name__)


class Replica:
    """Trains jobs, alone or together with replicas that take the other shares of each batch.

    Args:
        dataset: the training data.
        trainer: the training settings.
        checkpoints: the folder that holds one folder per job.
        device: ``cpu`` or ``cuda``; this process sees only its own GPU.
        threads: CPU threads.
        memory_fraction: usable part of the GPU's memory; None is all of it.
        share: this process's part of every batch.
        meeting: a file that does not exist yet, through which the replicas find each other.
    """

    def __init__(
        self,
        dataset: Dataset,
        trainer: TrainerConfig,
        checkpoints: Path,
        *,
        device: str = "cpu",
        threads: int = 1,
        memory_fraction: float | None = None,
        share: Share = ALONE,
        meeting: Path | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self._dataset, self._trainer, self._checkpoints = dataset, trainer, checkpoints
        self._device, self._share = torch.device(device), share
        if self._device.type == "cuda" and memory_fraction is not None:
            # Ray schedules fractions of a GPU but does not isolate them: one trial could take another's memory.
            torch.cuda.set_per_process_memory_fraction(memory_fraction)
        if meeting is not None:
            # All replicas are on one node, so loopback is enough.
            os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
            backend = "nccl" if self._device.type == "cuda" else "gloo"
            distributed.init_process_group(
                backend, init_method=meeting.as_uri(), rank=share.rank, world_size=share.world_size
            )

    def open(self, job: Job) -> list[EpochRecord]:
        """Builds a job's network and continues from its newest checkpoint.

        The checkpoint may be ahead of the journal if the driver died between an epoch's end and its record.

        Returns:
            The records of the epochs that the journal lacks. They are not trained again.
        """
        self._folder = self._checkpoints / str(job.number)
        self._training: Training | None = Training(
            job.architecture,
            self._dataset,
            self._trainer,
            epochs=job.epochs,
            seed=job.seed,
            device=self._device,
            share=self._share,
        )
        for checkpoint in newest_first(self._folder, at_most=job.stop_epoch):
            try:
                self._training.restore(checkpoint)
            except FileNotFoundError:
                pass  # another rank found it damaged
            except CheckpointError as error:  # damaged or of other settings: try an older one, else start anew
                _log.warning("trial %d continues from an older checkpoint, or from the start: %s", job.number, error)
                checkpoint.unlink(missing_ok=True)
            else:
                return [_record(result) for result in self._training.history if result.epoch > job.start_epoch]
        return []

    def epoch(self) -> EpochRecord:
        """Trains for one epoch and writes a checkpoint; returns the epoch's record."""
        assert self._training is not None
        result = self._training.run_epoch()
        if self._share.rank == 0:
            self._training.save(path_of(self._folder, result.epoch))
            prune(self._folder, keep=KEPT_CHECKPOINTS)
        return _record(result)

    def close(self) -> None:
        """Frees the network."""
        self._training = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class ReplicaGroup:
    """One replica per GPU of the trial. Each method calls the same method of all replicas.

    Args:
        world_size: the number of replicas.
        given: arguments of `Replica` except `share` and `meeting`; Ray references are replaced by their values.
        named: keyword arguments of `Replica`.
    """

    def __init__(self, world_size: int, *given: object, **named: object) -> None:
        self._world_size, self._given, self._named = world_size, given, named
        self._actors: list[Any] = []
        self._meeting: tempfile.TemporaryDirectory[str] | None = None

    def open(self, job: Job) -> list[EpochRecord]:
        """As `Replica.open`."""
        if not self._actors:
            self._start()
        return cast("list[EpochRecord]", self._all("open", job))

    def epoch(self) -> EpochRecord:
        """As `Replica.epoch`."""
        return cast("EpochRecord", self._all("epoch"))

    def close(self) -> None:
        """As `Replica.close`; the processes stay."""
        if self._actors:
            self._all("close")

    def end(self) -> None:
        """Ends the processes; the next job starts new ones."""
        while self._actors:
            ray.kill(self._actors.pop())
        if self._meeting is not None:
            self._meeting.cleanup()

    def _start(self) -> None:
        group = get_current_placement_group()
        self._meeting = tempfile.TemporaryDirectory(prefix="nas-")
        for rank in range(self._world_size):
            if group is None:
                actor = ray.remote(Replica).options(num_cpus=0)
            else:  # Tune removes the empty head bundle: one bundle per rank is left
                bundle = group.bundle_specs[rank]
                actor = ray.remote(Replica).options(
                    num_cpus=bundle["CPU"],
                    num_gpus=bundle.get("GPU", 0),
                    scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
                )
            share, meeting = Share(rank, self._world_size), Path(self._meeting.name) / "meeting"
            self._actors.append(actor.remote(*self._given, **self._named, share=share, meeting=meeting))

    def _all(self, method: str, *given: object) -> object:
        waiting = results = [getattr(actor, method).remote(*given) for actor in self._actors]
        try:
            while waiting:  # if one fails, the others would wait for it
                done, waiting = ray.wait(waiting)
                ray.get(done)
        except RayTaskError as error:
            self.end()
            raise error.cause from None
        except BaseException:
            self.end()
            raise
        return ray.get(results[0])


def _record(result: EpochResult) -> EpochRecord:
    """The journal's record of a result, with the process and the host that trained it."""
    metrics = {**result.val, **{f"train_{name}": value for name, value in result.train.items()}}
    return EpochRecord(result.epoch, metrics, result.lr, result.seconds, os.getpid(), socket.gethostname(), time.time())
