"""MobileNet-V1: depthwise and pointwise convolutions alternate.

Howard et al., "MobileNets", 2017, https://arxiv.org/abs/1704.04861, table 1.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from search_spaces.sites import Block, Site, Slot
from search_spaces.skeletons.base import Skeleton


@dataclass(frozen=True, slots=True)
class Separable:
    """Half of a separable convolution: a depthwise 3x3 (``dw``), which has the stride, or a pointwise 1x1 (``pw``).

    ``size`` is the side of the input map.
    """

    name: str
    stage: str
    kind: Literal["dw", "pw"]
    in_channels: int
    out_channels: int
    size: int
    stride: int

    @property
    def out_size(self) -> int:
        """Side of the output map."""
        return -(-self.size // self.stride)


# (channels, pairs) of layer1 to layer5; every stage but the first halves the map.
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
_STEM = 32


class MobileNetV1(Skeleton):
    """A separable convolution is two blocks, ``layer3.dw0`` and ``layer3.pw0``, so that both outputs can be refined."""

    family: Literal["mobilenet_v1"] = "mobilenet_v1"
    widen: float = Field(default=1.0, gt=0, le=16, description="factor on all channels (the width multiplier alpha)")

    @property
    def stem_channels(self) -> int:
        """Channels that enter layer1."""
        return max(1, int(_STEM * self.widen))

    def units(self) -> tuple[Separable, ...]:
        """All blocks, in the order of the forward pass."""
        units: list[Separable] = []
        channels, size = self.stem_channels, -(-self.image_size // 2)
        for index, (width, pairs) in enumerate(_STAGES):
            out, stage = max(1, int(width * self.widen)), f"layer{index + 1}"
            for pair in range(pairs):
                stride = 2 if index > 0 and pair == 0 else 1
                depthwise = Separable(f"{stage}.dw{pair}", stage, "dw", channels, channels, size, stride)
                size = depthwise.out_size
                units += [depthwise, Separable(f"{stage}.pw{pair}", stage, "pw", channels, out, size, 1)]
                channels = out
        return tuple(units)

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the pointwise convolution. A depthwise block has only ``refine`` and ``after``."""
        return tuple(_block(unit) for unit in self.units())


def _block(unit: Separable) -> Block:
    sites: dict[Slot, Site] = {}
    if unit.kind == "pw":
        sites["conv"] = Site("conv", unit.in_channels, unit.out_channels, unit.size)
    sites["refine"] = Site("refine", unit.out_channels, unit.out_channels, unit.out_size)
    sites["after"] = Site("after", unit.out_channels, unit.out_channels, unit.out_size)
    return Block(unit.name, unit.stage, sites)
