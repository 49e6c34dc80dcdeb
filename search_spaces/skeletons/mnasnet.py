"""MnasNet-A1: inverted residual blocks, some with squeeze-and-excitation of their own.

Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019,
https://arxiv.org/abs/1807.11626, figure 7.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from search_spaces.sites import Block, Site, Slot
from search_spaces.skeletons.base import Skeleton


@dataclass(frozen=True, slots=True)
class InvertedResidual:
    """Expansion 1x1 (if the block ``expands``), depthwise k x k, projection 1x1.

    ``size`` is the side of the input map. ``squeezed`` is the number of hidden channels of the block's own SE, or 0.
    """

    name: str
    stage: str
    in_channels: int
    expanded: int
    out_channels: int
    kernel_size: int
    size: int
    stride: int
    squeezed: int

    @property
    def out_size(self) -> int:
        """Side of the output map."""
        return -(-self.size // self.stride)

    @property
    def expands(self) -> bool:
        """Whether there is an expansion 1x1."""
        return self.expanded != self.in_channels

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels


# (expansion, kernel size, stride, channels, blocks, own SE) of layer1 to layer7.
_A1 = (
    (1, 3, 1, 16, 1, False),
    (6, 3, 2, 24, 2, False),
    (3, 5, 2, 40, 3, True),
    (6, 3, 2, 80, 4, False),
    (6, 3, 1, 112, 2, True),
    (6, 5, 2, 160, 3, True),
    (6, 3, 1, 320, 1, False),
)
_STEM = 32
HEAD_CHANNELS = 1280
"""Channels of the 1x1 before the classifier, for every width."""


class MnasNet(Skeleton):
    """MnasNet-A1 with a width multiplier; the AA paper's tables use 0.75, 1.0, 1.25 and 1.4."""

    family: Literal["mnasnet"] = "mnasnet"
    widen: float = Field(
        default=1.0, gt=0, le=16, description="factor on the channels of stem and blocks (rounded to multiples of 8)"
    )
    se: Literal["a1", "none", "every"] = Field(
        default="a1",
        description="squeeze-and-excitation after the depthwise convolution; a1: in the stages where A1 has it, "
        "every: in every expanding block",
    )

    @property
    def stem_channels(self) -> int:
        """Channels that enter layer1."""
        return _round_to_8(_STEM * self.widen)

    def units(self) -> tuple[InvertedResidual, ...]:
        """All blocks, in the order of the forward pass."""
        units: list[InvertedResidual] = []
        channels, size = self.stem_channels, -(-self.image_size // 2)
        for stage, (expansion, kernel_size, stage_stride, width, length, a1_has_se) in enumerate(_A1):
            out = _round_to_8(width * self.widen)
            has_se = {"a1": a1_has_se, "none": False, "every": expansion > 1}[self.se]
            for index in range(length):
                unit = InvertedResidual(
                    name=f"layer{stage + 1}.{index}",
                    stage=f"layer{stage + 1}",
                    in_channels=channels,
                    expanded=channels * expansion,
                    out_channels=out,
                    kernel_size=kernel_size,
                    size=size,
                    stride=stage_stride if index == 0 else 1,
                    squeezed=max(1, channels // 4) if has_se else 0,
                )
                units.append(unit)
                channels, size = out, unit.out_size
        return tuple(units)

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the expansion 1x1; layer1 has none."""
        return tuple(_block(unit) for unit in self.units())


def _block(unit: InvertedResidual) -> Block:
    sites: dict[Slot, Site] = {}
    if unit.expands:
        sites["conv"] = Site("conv", unit.in_channels, unit.expanded, unit.size)
    sites["refine"] = Site("refine", unit.out_channels, unit.out_channels, unit.out_size)
    sites["after"] = Site("after", unit.out_channels, unit.out_channels, unit.out_size)
    return Block(unit.name, unit.stage, sites)


def _round_to_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and at least 90 % of ``channels``, as in the authors' code."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
