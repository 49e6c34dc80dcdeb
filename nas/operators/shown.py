"""What an operator can show of its attention, as typed maps.

Everything here is a value computed from a module and the map that it got. Nothing is stored in modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

_LOGITS = 1 << 22
"""Number of attention weights of an image and a head at a time in `Attention.received`: 16 MiB of float32."""


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGates:
    """Factors of channels."""

    values: Tensor
    """[N, C], within ``low`` and ``high``. A factor that differs between positions is given as its mean."""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class SpatialGates:
    """Factors of positions."""

    values: Tensor
    """[N, 1, H, W], within ``low`` and ``high``. A factor that differs between channels is given as its mean."""
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """Attention over positions, softmax(query . key). Its weights are computed for the queries that are asked for.

    All weights of a large map do not fit into memory. Positions are numbered row by row.
    """

    query: Tensor
    """[N, heads, queries, width]; already scaled."""
    key: Tensor
    """[N, heads, keys, width]."""
    queries: tuple[int, int]
    """Rows and columns of the queries: H x W, or 1 x 1 if all positions share one query."""
    keys: tuple[int, int]
    """Rows and columns of the keys."""

    def weights(self, queries: Tensor) -> Tensor:
        """The weights of some queries, by their numbers [Q]: [N, heads, Q, keys]. Each row sums to 1."""
        return torch.softmax(torch.matmul(self.query[:, :, queries], self.key.mT), -1)

    def received(self) -> Tensor:
        """The weight of every key, as a mean over all queries: [N, heads, keys]. It sums to 1."""
        count, at_once = self.query.shape[2], max(1, _LOGITS // self.key.shape[2])
        parts = torch.functional.split(torch.arange(count, device=self.query.device), at_once)
        return torch.stack([self.weights(part).sum(2) for part in parts]).sum(0) / count


Shown: TypeAlias = ChannelGates | SpatialGates | Attention
Maps: TypeAlias = Mapping[str, Shown]
"""What an operator shows, by names that people read: ``channels``, ``positions``, ``attention``."""
