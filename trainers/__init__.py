"""Data, proxy and full training, checkpoints."""

from trainers.batches import ALONE, Share
from trainers.config import DataConfig, Recipe, TrainerConfig, recipe_document, recipe_names
from trainers.data import DataError, Dataset, load_data
from trainers.training import CheckpointError, Diverged, EpochResult, Evaluation, OutOfMemory, Training, fit, precision

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
