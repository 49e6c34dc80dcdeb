"""The Ray Tune trainable: a long-lived worker that takes one job after another.

A process start costs seconds, a job change milliseconds: Tune keeps the actor (`reuse_actors`) and hands it the next
job through `reset_config`. One `step` is one epoch. What an epoch gave, and how the job ended, goes back as one JSON
text, so that Tune's flattening of nested results has nothing to do.
"""

import json
import os
import socket
import time
import traceback
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from ray import tune

from launch.checkpoints import newest_first, path_of, prune
from nas.search import EpochRecord
from search_spaces import Architecture
from trainers import CheckpointError, Dataset, Diverged, EpochResult, OutOfMemory, TrainerConfig, Training

KEPT_CHECKPOINTS = 2
_RECORD_FIELDS = tuple(field.name for field in fields(EpochRecord))


class Worker(tune.Trainable):  # type: ignore[misc]  # ray ships no annotations that mypy could follow
    """Trains jobs. `config["job"]` is the JSON of one job: number, architecture, start_epoch, stop_epoch, seed."""

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset | None = None,
        trainer: TrainerConfig | None = None,
        checkpoints: str = "",
        device: str = "cpu",
        threads: int = 1,
        memory_fraction: float | None = None,
    ) -> None:
        """Takes what all jobs share; the data set's arrays are read from Ray's object store without a copy."""
        assert dataset is not None
        assert trainer is not None
        torch.set_num_threads(threads)
        if device.startswith("cuda") and memory_fraction is not None:
            # A fraction of a GPU schedules, but isolates nothing: without this, one trial can starve its neighbour.
            torch.cuda.set_per_process_memory_fraction(memory_fraction)
        self._dataset, self._trainer, self._device = dataset, trainer, torch.device(device)
        self._checkpoints = Path(checkpoints)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Makes ready for another job; the model is built by the first step, where its failure can be told."""
        self._job: dict[str, Any] = json.loads(new_config["job"])
        self._training: Training | None = None
        self._replay: list[dict[str, Any]] = []
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def step(self) -> dict[str, Any]:
        """One epoch, or one epoch's record that a checkpoint knows and the journal does not."""
        try:
            record = self._next_record()
        except Diverged as error:
            return _end("failed", str(error))
        except OutOfMemory as error:
            return _end("out_of_memory", str(error), peak_bytes=error.peak_bytes)
        except Exception as error:  # whatever a network or a data set does, the run goes on without it
            return _end("failed", f"{type(error).__name__}: {error}", detail=traceback.format_exc())
        done = record["epoch"] >= self._job["stop_epoch"]
        return {"payload": json.dumps({"record": record, "outcome": "reached" if done else None}), "done": done}

    def _next_record(self) -> dict[str, Any]:
        if self._training is None:
            self._training = self._open()
        if self._replay:
            return self._replay.pop(0)
        result = self._training.run_epoch()
        folder = self._checkpoints / str(self._job["number"])
        self._training.save(path_of(folder, result.epoch))
        prune(folder, keep=KEPT_CHECKPOINTS)
        return _record(result)

    def _open(self) -> Training:
        """Builds the network and continues from its newest checkpoint.

        The checkpoint may be ahead of the journal, when the driver died between an epoch's end and its record: the
        epochs in between are reported from the checkpoint's history and not trained again.
        """
        job = self._job
        training = Training(
            Architecture.from_dict(job["architecture"]),
            self._dataset,
            self._trainer,
            epochs=job["epochs"],
            seed=job["seed"],
            device=self._device,
        )
        for checkpoint in newest_first(self._checkpoints / str(job["number"]), at_most=job["stop_epoch"]):
            try:
                training.restore(checkpoint)
            except CheckpointError:
                checkpoint.unlink()  # damaged, or of other settings: an older one, or the start, will do
            else:
                self._replay = [_record(result) for result in training.history if result.epoch > job["start_epoch"]]
                break
        return training

    def cleanup(self) -> None:
        """Lets go of the network."""
        self._training = None


def _record(result: EpochResult) -> dict[str, Any]:
    """The fields that the journal keeps."""
    values = {**asdict(result), "worker": os.getpid(), "node": socket.gethostname(), "ended": time.time()}
    return {name: values[name] for name in _RECORD_FIELDS}


def _end(outcome: str, reason: str, detail: str = "", peak_bytes: int | None = None) -> dict[str, Any]:
    payload = {"record": None, "outcome": outcome, "reason": reason, "detail": detail, "peak_bytes": peak_bytes}
    return {"payload": json.dumps(payload), "done": True}
