"""Data sets as values: three splits, and the properties that a network needs.

The search uses only `train` and `val`; `test` is for the final figures.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces import UserFacingError
from search_spaces.errors import named

Labels: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.intp]


class DataError(UserFacingError, ValueError):
    """Files are missing or unsuitable; one or two lines that name the folder and the remedy."""


def decoded(path: Path | str) -> str:
    """A path as text; its bytes that are not UTF-8 are written as ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def shown(path: Path | str) -> str:
    """A path inside a message, whatever its bytes."""
    return named(decoded(path))


@dataclass(frozen=True, slots=True)
class Arrays:
    """A split in memory. The arrays may be read-only (from Ray's object store); nothing writes to them."""

    images: npt.NDArray[np.uint8]
    """[N, side, side, in_channels]; where side > image_size, training crops at random and evaluation in the middle."""
    labels: Labels
    """[N], 0 .. num_classes - 1."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> "Arrays":
        """The split of these images alone, in this order."""
        return Arrays(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class Files:
    """A split of files that are decoded when they are needed."""

    root: str
    paths: npt.NDArray[np.bytes_]
    """[N], encoded for the file system and relative to `root`: one block of memory, whatever N is."""
    labels: Labels
    workers: int
    may_lack: int = 0
    """The number of unreadable images that are left out with a warning; more are an error."""

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return Path(self.root) / os.fsdecode(self.paths[index])

    def take(self, indices: Indices) -> "Files":
        """The split of these images alone, in this order."""
        return Files(self.root, self.paths[indices], self.labels[indices], self.workers, self.may_lack)


Split: TypeAlias = Arrays | Files


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set. Its arrays pickle out of band, so that a node's workers can share one copy."""

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    """A channel's mean over the training images, in [0, 1]."""
    std: tuple[float, ...]
    flip: bool
    """Whether a mirror image keeps its label."""
    padding: int
    """Pixels by which a random crop may extend beyond the edge of the image."""
    task: str = "classification"
    """A key of `trainers.tasks.TASKS`. `load_data` takes it from the data set's row."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)
