"""VGG-16 with batch normalisation.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
https://arxiv.org/abs/1409.1556, configuration D.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from search_spaces.sites import Block, Site, Slot
from search_spaces.skeletons.base import Skeleton


@dataclass(frozen=True, slots=True)
class PlainUnit:
    """One 3x3 on a map of side ``size``. ``pools``: a 2x2 max-pool comes first."""

    name: str
    stage: str
    in_channels: int
    out_channels: int
    size: int
    pools: bool


_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(Skeleton):
    """A block is one 3x3 with its BN and ReLU. The SE paper puts SE in the last block of each stage."""

    family: Literal["vgg16"] = "vgg16"
    hidden: int = Field(default=4096, ge=1, le=65_536, description="width of the two fully connected layers")

    def units(self) -> tuple[PlainUnit, ...]:
        """All blocks, in the order of the forward pass."""
        units: list[PlainUnit] = []
        channels, size = self.in_channels, self.image_size
        for index, (width, length) in enumerate(_STAGES):
            stage = f"layer{index + 1}"
            for member in range(length):
                pools = index > 0 and member == 0
                size = -(-size // 2) if pools else size
                units.append(PlainUnit(f"{stage}.{member}", stage, channels, width, size, pools))
                channels = width
        return tuple(units)

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the 3x3."""
        return tuple(_block(unit) for unit in self.units())


def _block(unit: PlainUnit) -> Block:
    sites: dict[Slot, Site] = {"conv": Site("conv", unit.in_channels, unit.out_channels, unit.size, kernel_size=3)}
    sites["refine"] = Site("refine", unit.out_channels, unit.out_channels, unit.size)
    sites["after"] = Site("after", unit.out_channels, unit.out_channels, unit.size)
    return Block(unit.name, unit.stage, sites)
