"""The definition of a task: its batches, its loss and its metrics."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from search_spaces import Architecture
from trainers.config import TrainerConfig
from trainers.datasets.base import Dataset, Split
from trainers.distributed import Share

B = TypeVar("B")
"""A batch."""
B_co = TypeVar("B_co", covariant=True)

Metrics = Mapping[str, float]
"""Figures of a split by name. They always include ``loss``."""


class Feed(Protocol[B_co]):
    """A data set's splits as batches. A process loads only its share."""

    @property
    def steps(self) -> int:
        """Training batches in an epoch."""

    @property
    def size(self) -> int:
        """Images of a training batch, all shares together."""

    def train(self, epoch: int, seed: int, augment: bool) -> Iterator[B_co]:
        """The training split in the order of (seed, epoch), `steps` batches of `size` images."""

    def evaluate(self, split: Split) -> Iterator[B_co]:
        """All of a split, each image once, without augmentation."""


class MakeFeed(Protocol[B_co]):
    """Makes a task's batches; `memory_format` is that of the images."""

    def __call__(
        self,
        dataset: Dataset,
        batch_size: int,
        device: torch.device,
        memory_format: torch.memory_format,
        share: Share,
    ) -> Feed[B_co]:
        """The splits of `dataset` in batches on `device`."""


@dataclass(frozen=True, slots=True)
class Step:
    """The results of a network on a training batch."""

    loss: Tensor
    """[], the mean over the batch's images; gradients are computed from it."""
    sums: Mapping[str, Tensor]
    """Further metrics, each [] and summed over the batch's images. The host does not wait for the device."""
    images: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of a split by name, and the number of images."""

    metrics: Metrics
    images: int


Run = Callable[..., Any]
"""Calls a network, under autocast if the training uses it."""


@dataclass(frozen=True, slots=True)
class Task(Generic[B]):
    """A kind of training. The training loop uses only these fields."""

    check: Callable[[Architecture, Dataset], None]
    """Raises ValueError if the architecture does not fit the data set."""
    build: Callable[[Architecture], nn.Module]
    feed: MakeFeed[B]
    step: Callable[[Run, B, TrainerConfig], Step]
    evaluate: Callable[[Run, Iterator[B], torch.device, Share], Evaluation]
    """The metrics of all ranks' batches together: ``loss`` and those of the task's row, for every split. The network is
    in evaluation mode. Some training images are run through it too, for the norm statistics of averaged weights; then
    norms are in training mode."""
