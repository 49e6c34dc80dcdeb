"""The Ray Tune trainable: a long-lived worker that takes one job after another.

A process start costs seconds, a job change milliseconds: Tune keeps the actor (`reuse_actors`) and hands it the next
job through `reset_config`. One `step` is one epoch. What an epoch gave, and how the job ended, goes back as one JSON
text, so that Tune's flattening of nested results has nothing to do.
"""

import json
import traceback
from pathlib import Path
from typing import Any

from ray import tune
from ray.exceptions import RayActorError

from launch.ranks import Rank, Team
from trainers import Diverged, OutOfMemory, TrainerConfig


class Worker(tune.Trainable):  # type: ignore[misc]  # ray ships no annotations that mypy could follow
    """Trains jobs. `config["job"]` is the JSON of one job: number, architecture, start_epoch, stop_epoch, seed."""

    def setup(
        self,
        config: dict[str, Any],
        dataset: Any = None,  # noqa: ANN401
        trainer: TrainerConfig | None = None,
        checkpoints: str = "",
        ranks: int = 1,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        """Takes what all jobs share.

        Args:
            config: the first job.
            dataset: whose arrays are read from Ray's object store without a copy; with several ranks Ray's reference.
            trainer: how to train.
            checkpoints: a folder for all jobs'.
            ranks: processes that share each batch, a GPU each.
            settings: `Rank`'s device, threads, memory_fraction.
        """
        assert trainer is not None
        if ranks == 1:
            self._crew: Rank | Team = Rank(dataset, trainer, Path(checkpoints), **settings)
        else:
            self._crew = Team(ranks, dataset, trainer, Path(checkpoints), **settings)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Makes ready for another job; the model is built by the first step, where its failure can be told."""
        self._job: dict[str, Any] = json.loads(new_config["job"])
        self._replay: list[dict[str, Any]] | None = None
        self._crew.close()
        return True

    def step(self) -> dict[str, Any]:
        """One epoch, or one epoch's record that a checkpoint knows and the journal does not."""
        try:
            record = self._next_record()
        except Diverged as error:
            return _end("failed", str(error))
        except OutOfMemory as error:
            return _end("out_of_memory", str(error), peak_bytes=error.peak_bytes)
        except RayActorError:
            raise  # a rank's process is gone, and with it this trial's worker: it is lost, and launched again
        except Exception as error:  # whatever a network or a data set does, the run goes on without it
            return _end("failed", f"{type(error).__name__}: {error}", detail=traceback.format_exc())
        done = record["epoch"] >= self._job["stop_epoch"]
        return {"payload": json.dumps({"record": record, "outcome": "reached" if done else None}), "done": done}

    def _next_record(self) -> dict[str, Any]:
        if self._replay is None:
            self._replay = self._crew.open(self._job)
        return self._replay.pop(0) if self._replay else self._crew.epoch()

    def cleanup(self) -> None:
        """Lets go of the network, and of other processes."""
        self._crew.close()
        if isinstance(self._crew, Team):
            self._crew.end()


def _end(outcome: str, reason: str, detail: str = "", peak_bytes: int | None = None) -> dict[str, Any]:
    payload = {"record": None, "outcome": outcome, "reason": reason, "detail": detail, "peak_bytes": peak_bytes}
    return {"payload": json.dumps(payload), "done": True}
