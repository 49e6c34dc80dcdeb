"""Data sets as values: three splits and what a network must know of them.

Selection sees `train` and `val` alone; `test` is for the last figures.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces import UserFacingError

Labels: TypeAlias = npt.NDArray[np.int64]
Indices: TypeAlias = npt.NDArray[np.intp]


class DataError(UserFacingError, ValueError):
    """Files are missing or do not suit; one or two lines that name the folder and the remedy."""


def shown(path: Path | str) -> str:
    """A path as it can be printed, whatever bytes it is made of."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True, slots=True)
class Arrays:
    """A split in memory. The arrays may be read-only, as Ray's object store hands them out; nothing writes to them."""

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
    """A split that is decoded as it is needed."""

    root: str
    paths: npt.NDArray[np.bytes_]
    """[N], encoded for the file system and relative to `root`: one block of memory, whatever N is."""
    labels: Labels
    workers: int
    may_lack: int = 0
    """How many of the images may turn out unreadable, and be left out with a warning, before it is an error."""

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
    """Pickles with its arrays out of band, so that a node's workers can share one copy."""

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
    """How far, in pixels, a random crop may reach over the edge of the image."""
    task: str = "classification"
    """What is done with the images: a row of `trainers.tasks.TASKS`."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)
