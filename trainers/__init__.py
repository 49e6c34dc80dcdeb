"""Data, proxy and full training, checkpoints."""

from trainers.checkpoint import CheckpointError
from trainers.config import Recipe, TrainerConfig, recipe_document, recipe_names
from trainers.datasets import DataConfig, DataError, Dataset, load_data
from trainers.distributed import ALONE, Share
from trainers.tasks import Evaluation
from trainers.training import Diverged, EpochResult, OutOfMemory, Training, fit, precision

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
    "recipe_document",
    "recipe_names",
]
