"""What a task is: what a batch is, what its loss is, and which metrics an evaluation gives."""

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
"""Figures of a split by name. ``loss`` is always among them."""


class Feed(Protocol[B_co]):
    """A data set's splits as batches, of which a process loads its share."""

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
    """What a network makes of a training batch."""

    loss: Tensor
    """[], the mean over the batch's images; what the gradients are of."""
    sums: Mapping[str, Tensor]
    """Further metrics, each [] and summed over the batch's images. Nothing here makes the host wait for the device."""
    images: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of a split by name, and over how many images."""

    metrics: Metrics
    images: int


Run = Callable[..., Any]
"""Calls a network, under autocast where the training has it."""


@dataclass(frozen=True, slots=True)
class Task(Generic[B]):
    """A kind of training. The loop knows no more of it than this."""

    main: str
    """The metric by which trainings are compared; higher is better."""
    check: Callable[[Architecture, Dataset], None]
    """Raises ValueError where the architecture does not fit the data set."""
    build: Callable[[Architecture], nn.Module]
    feed: MakeFeed[B]
    step: Callable[[Run, B, TrainerConfig], Step]
    evaluate: Callable[[Run, Iterator[B], torch.device, Share], Evaluation]
    """The metrics of all ranks' batches together; the same names for every split. The network is in evaluation mode."""
