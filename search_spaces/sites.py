"""Blocks, slots and sites of a skeleton, as plain integers.

A skeleton family declares its blocks (`Block`) and, for every block, the open slots. A `Site` has the sizes that an
operator in a slot needs. Nothing here needs torch: heads that do not divide d_k in ``layer3`` are found without
building a network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Slot: TypeAlias = Literal["conv", "conv2", "refine", "after"]
"""``conv``: the convolution that the papers replace. ``conv2``: the second 3x3 of a block that has two. ``refine``:
before the residual add. ``after``: after it."""

SLOTS: tuple[Slot, ...] = ("conv", "conv2", "refine", "after")

EMPTY: Mapping[Slot, str] = {"conv": "plain", "conv2": "plain", "refine": "none", "after": "none"}
"""For each slot the option that leaves the skeleton unchanged."""

Value: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Site:
    """Sizes that an operator needs to know about its place.

    ``size`` is the side of the (square) input map in pixels; ``bias`` says whether the convolutions have biases. In
    ``refine`` and ``after`` the operator maps C channels to C channels at the same size: ``in_channels ==
    out_channels``, ``kernel_size == stride == groups == 1``.
    """

    slot: Slot
    in_channels: int
    out_channels: int
    size: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def out_size(self) -> int:
        """Side of the output map: "same" padding, so ceil(size / stride)."""
        return -(-self.size // self.stride)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a skeleton: its name (``layer2.0``), its stage (``layer2``) and its open slots."""

    name: str
    stage: str
    sites: Mapping[Slot, Site]
