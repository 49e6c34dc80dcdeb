"""Inception-ResNet-v2.

Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", AAAI 2017,
https://arxiv.org/abs/1602.07261, with the widths of tensorflow/models' slim.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from search_spaces.sites import Block, Site, Slot
from search_spaces.skeletons.base import Skeleton


@dataclass(frozen=True, slots=True)
class ResidualInception:
    """One residual module of kind A, B or C.

    ``size`` is the side of its input and output map. ``reduces``: the stage's reduction module, which has no shortcut,
    comes first.
    """

    name: str
    stage: str
    kind: Literal["A", "B", "C"]
    channels: int
    size: int
    reduces: bool


# (kind, modules, channels) of layer1 to layer3.
_STAGES: tuple[tuple[Literal["A", "B", "C"], int, int], ...] = (("A", 10, 320), ("B", 20, 1088), ("C", 10, 2080))
_SMALLEST = 75
HEAD_CHANNELS = 1536
"""Channels of the 1x1 before the classifier."""


class InceptionResNetV2(Skeleton):
    """Forty residual modules, designed for 299x299 pixels. Strided convolutions have no padding."""

    family: Literal["inception_resnet_v2"] = "inception_resnet_v2"
    image_size: int = Field(
        ge=_SMALLEST,
        le=16_384,
        description=f"side of the (square) input image in pixels; below {_SMALLEST} the last map is empty",
    )

    @property
    def stem_sizes(self) -> tuple[int, int, int, int, int]:
        """Sides of the maps in the stem: three convolutions and a pool; a 3x3; a pool. The last enters layer1."""
        first = halved(self.image_size)
        pooled = halved(first - 2)
        return first, first - 2, pooled, pooled - 2, halved(pooled - 2)

    def units(self) -> tuple[ResidualInception, ...]:
        """All residual modules, in the order of the forward pass."""
        units: list[ResidualInception] = []
        size = self.stem_sizes[-1]
        for index, (kind, length, channels) in enumerate(_STAGES):
            stage = f"layer{index + 1}"
            size = halved(size) if index else size
            units += [
                ResidualInception(f"{stage}.{member}", stage, kind, channels, size, reduces=index > 0 and member == 0)
                for member in range(length)
            ]
        return tuple(units)

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the single 3x3 of a module of kind A; the other kinds have no square kernels."""
        return tuple(_block(unit) for unit in self.units())


def halved(size: int) -> int:
    """Side of the map after a 3x3 with stride 2 and no padding."""
    return (size - 3) // 2 + 1


def _block(unit: ResidualInception) -> Block:
    sites: dict[Slot, Site] = {}
    if unit.kind == "A":
        sites["conv"] = Site("conv", 32, 32, unit.size, kernel_size=3)
    sites["refine"] = Site("refine", unit.channels, unit.channels, unit.size)
    sites["after"] = Site("after", unit.channels, unit.channels, unit.size)
    return Block(unit.name, unit.stage, sites)
