"""Tasks: a file for each, and one table of them."""

from collections.abc import Mapping
from typing import Any

from trainers.tasks.base import Evaluation, Metrics, Step, Task
from trainers.tasks.classification import CLASSIFICATION

__all__ = ["TASKS", "Evaluation", "Metrics", "Step", "Task"]

TASKS: Mapping[str, Task[Any]] = {"classification": CLASSIFICATION}
"""`Dataset.task` -> what is done with its images."""
