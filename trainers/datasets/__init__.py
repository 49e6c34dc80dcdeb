"""Data sets: a file for each source, and one table of them."""

import pkgutil
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces.lazy import lazily
from trainers.datasets.config import DataConfig
from trainers.datasets.table import SOURCES, Source

if TYPE_CHECKING:
    from trainers.datasets.base import Arrays, DataError, Dataset, Files, Split
    from trainers.datasets.inspection import Inspection, inspect_folder

__all__ = [
    "SOURCES",
    "Arrays",
    "DataConfig",
    "DataError",
    "Dataset",
    "Files",
    "Inspection",
    "Source",
    "Split",
    "inspect_folder",
    "load_data",
]

__getattr__, __dir__ = lazily(
    __name__, {"base": "Arrays DataError Dataset Files Split", "inspection": "Inspection inspect_folder"}
)


def load_data(config: DataConfig) -> "Dataset":
    """Reads, splits and describes the data set that `config` names.

    Raises:
        DataError: files are missing, a split would be empty, or an image cannot be read.
    """
    source = SOURCES[config.name]
    load: Callable[[DataConfig], Dataset] = pkgutil.resolve_name(source.loader)
    return replace(load(config), task=source.task)
