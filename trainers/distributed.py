"""Data-parallel training of one network: each process has a share of every batch, and all report the same figures.

The ranks are those of a process group of `torch.distributed`. With `ALONE` no process group is needed.
"""

from dataclasses import dataclass

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Share:
    """A process's part of every batch: every ``world_size``-th image from number ``rank`` on."""

    rank: int = 0
    world_size: int = 1

    def parts(self, count: int, size: int) -> list[slice]:
        """The share of each batch of `size`, as slices of `count` images in their order."""
        return [slice(first + self.rank, min(first + size, count), self.world_size) for first in range(0, count, size)]


ALONE = Share()
"""The whole batch."""


def in_step(network: nn.Module, share: Share) -> nn.Module:
    """The network for training steps. It averages gradients over the ranks; their weights are made equal here."""
    return DistributedDataParallel(network, gradient_as_bucket_view=True) if share.world_size > 1 else network


def weight(share: Share, images: int, size: int) -> float:
    """The factor of a rank's loss (mean over its `images`), so that the ranks' mean is the mean over all `size`."""
    return share.world_size * images / size


def total(tally: Tensor, share: Share) -> Tensor:
    """The sum over all ranks. All ranks must call it."""
    if share.world_size > 1:
        tally = tally.clone()
        distributed.all_reduce(tally)
    return tally


def equal_buffers(network: nn.Module, share: Share) -> None:
    """Gives every rank the buffers of rank 0: the running statistics that a checkpoint would hold."""
    if share.world_size > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
