"""Tasks: one file per task, and a table of all."""

from typing import TYPE_CHECKING

from search_spaces.lazy import lazily
from trainers.tasks.table import TASKS, TaskRow

if TYPE_CHECKING:
    from trainers.tasks.base import Evaluation, Metrics, Step, Task

__all__ = ["TASKS", "Evaluation", "Metrics", "Step", "Task", "TaskRow"]

__getattr__, __dir__ = lazily(__name__, {"base": "Evaluation Metrics Step Task"})
