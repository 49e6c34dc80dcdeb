"""Tasks: one file per task, and a table of all."""

from collections.abc import Mapping
from typing import Any

from trainers.tasks.base import Evaluation, Metrics, Step, Task
from trainers.tasks.classification import CLASSIFICATION

__all__ = ["TASKS", "Evaluation", "Metrics", "Step", "Task"]

TASKS: Mapping[str, Task[Any]] = {"classification": CLASSIFICATION}
"""`Dataset.task` -> its task."""
