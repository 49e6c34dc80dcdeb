"""Data, proxy and full training, checkpoints."""

from typing import TYPE_CHECKING

from search_spaces.lazy import lazily

if TYPE_CHECKING:
    from trainers.checkpoint import CheckpointError
    from trainers.config import Recipe, TrainerConfig, recipe_document, recipe_names
    from trainers.datasets import DataConfig, DataError, Dataset, load_data
    from trainers.distributed import ALONE, Share
    from trainers.tasks import Evaluation
    from trainers.training import Diverged, EpochResult, OutOfMemory, Training, fit, precision
    from trainers.weights import read_weights

__all__ = [
    "ALONE",
    "CheckpointError",
    "DataConfig",
    "DataError",
    "Dataset",
    "Diverged",
    "EpochResult",
    "Evaluation",
    "OutOfMemory",
    "Recipe",
    "Share",
    "TrainerConfig",
    "Training",
    "fit",
    "load_data",
    "precision",
    "read_weights",
    "recipe_document",
    "recipe_names",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "checkpoint": "CheckpointError",
        "config": "Recipe TrainerConfig recipe_document recipe_names",
        "datasets": "DataConfig DataError Dataset load_data",
        "distributed": "ALONE Share",
        "tasks": "Evaluation",
        "training": "Diverged EpochResult OutOfMemory Training fit precision",
        "weights": "read_weights",
    },
)
