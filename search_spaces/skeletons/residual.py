"""Sizes of residual blocks, shared by the families that have them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from search_spaces.sites import Block, Site, Slot

EXPANSION = 4
"""Ratio of a bottleneck's output channels to the width of its stage."""

Shortcut: TypeAlias = Literal["identity", "projection", "pool"]
"""How a block's input reaches the add: unchanged, by a 1x1 convolution, or average-pooled and padded with zeros."""

StrideOn: TypeAlias = Literal["first", "3x3"]
"""Which convolution of a bottleneck has its stride."""


@dataclass(frozen=True, slots=True)
class ResidualUnit:
    """One residual block: 3x3, 3x3 (basic, ``mid_channels == out_channels``) or 1x1, 3x3, 1x1 (bottleneck).

    ``size`` is the side of the input map.
    """

    name: str
    stage: str
    in_channels: int
    mid_channels: int
    out_channels: int
    size: int
    stride: int
    shortcut: Shortcut

    @property
    def out_size(self) -> int:
        """Side of the output map."""
        return -(-self.size // self.stride)


def residual_units(
    lengths: Sequence[int],
    widths: Sequence[tuple[int, int]],
    *,
    in_channels: int,
    size: int,
    on_change: Shortcut = "projection",
    project_every_stage: bool = False,
) -> Iterator[ResidualUnit]:
    """The blocks of a residual network, stage by stage; every stage but the first halves the map.

    Args:
        lengths: blocks of each stage.
        widths: (mid_channels, out_channels) of each stage.
        in_channels: channels that enter the first block.
        size: side of the map that enters the first block.
        on_change: the shortcut of blocks that change the shape.
        project_every_stage: the first block of every stage has that shortcut too.
    """
    for stage, (length, (mid, out)) in enumerate(zip(lengths, widths, strict=True)):
        for index in range(length):
            stride = 2 if stage > 0 and index == 0 else 1
            changes = stride != 1 or in_channels != out or (project_every_stage and index == 0)
            name = f"layer{stage + 1}"
            shortcut = on_change if changes else "identity"
            unit = ResidualUnit(f"{name}.{index}", name, in_channels, mid, out, size, stride, shortcut)
            yield unit
            in_channels, size = out, unit.out_size


def basic_block(unit: ResidualUnit, *, bias: bool = False) -> Block:
    """``conv``: the first 3x3, which has the stride. ``conv2``: the second 3x3."""
    out = unit.out_channels
    return _block(
        unit,
        {
            "conv": Site("conv", unit.in_channels, out, unit.size, kernel_size=3, stride=unit.stride, bias=bias),
            "conv2": Site("conv2", out, out, unit.out_size, kernel_size=3, bias=bias),
        },
    )


def bottleneck_block(unit: ResidualUnit, stride_on: StrideOn, groups: int = 1) -> Block:
    """``conv``: the 3x3."""
    size, stride = (unit.size, unit.stride) if stride_on == "3x3" else (unit.out_size, 1)
    mid = unit.mid_channels
    return _block(unit, {"conv": Site("conv", mid, mid, size, kernel_size=3, stride=stride, groups=groups)})


def _block(unit: ResidualUnit, convolutions: dict[Slot, Site]) -> Block:
    slots: tuple[Slot, ...] = ("refine", "after")
    ends = {slot: Site(slot, unit.out_channels, unit.out_channels, unit.out_size) for slot in slots}
    return Block(unit.name, unit.stage, {**convolutions, **ends})
