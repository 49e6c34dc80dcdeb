"""The table of tasks: one row and one file each."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.search import Metric

if TYPE_CHECKING:
    from trainers.tasks.base import Task


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task, and the metrics that a search may take as its objective."""

    task: str
    """``module:constant``, a `trainers.tasks.Task`. Imported when it is needed."""
    metrics: tuple[Metric, ...]
    """The metrics of its `evaluate` besides ``loss``; at least one. Reports use the first unless an objective names
    another."""

    @property
    def main(self) -> Metric:
        """The first metric."""
        return self.metrics[0]

    def load(self) -> "Task[Any]":
        """The task."""
        task: Task[Any] = pkgutil.resolve_name(self.task)
        return task


TASKS: Mapping[str, TaskRow] = {
    "classification": TaskRow("trainers.tasks.classification:CLASSIFICATION", (Metric(name="top1", label="top-1"),)),
}
"""`Dataset.task` -> its row."""
