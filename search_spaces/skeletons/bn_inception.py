"""BN-Inception (Inception-v2).

Ioffe and Szegedy, "Batch Normalization", ICML 2015, https://arxiv.org/abs/1502.03167, figure 5.
"""

from dataclasses import dataclass
from typing import Literal

from search_spaces.sites import Block, Site, Slot
from search_spaces.skeletons.base import Skeleton


@dataclass(frozen=True, slots=True)
class InceptionUnit:
    """Four parallel branches: 1x1; 1x1 and 3x3; 1x1 and two 3x3; pool and 1x1.

    ``size`` is the side of the input map. A strided module has no 1x1 branch (``one == 0``) and its pool passes through
    (``projected == 0``).
    """

    name: str
    stage: str
    in_channels: int
    one: int
    reduced: int
    three: int
    double_reduced: int
    double: int
    pool: Literal["avg", "max"]
    projected: int
    size: int
    stride: int

    @property
    def out_channels(self) -> int:
        """Channels of the concatenated branches."""
        return self.one + self.three + self.double + (self.projected or self.in_channels)

    @property
    def out_size(self) -> int:
        """Side of the output map."""
        return -(-self.size // self.stride)


# (stage, 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pool, pool's 1x1, stride); the modules 3a to 5b in order.
_MODULES: tuple[tuple[int, int, int, int, int, int, Literal["avg", "max"], int, int], ...] = (
    (3, 64, 64, 64, 64, 96, "avg", 32, 1),
    (3, 64, 64, 96, 64, 96, "avg", 64, 1),
    (3, 0, 128, 160, 64, 96, "max", 0, 2),
    (4, 224, 64, 96, 96, 128, "avg", 128, 1),
    (4, 192, 96, 128, 96, 128, "avg", 128, 1),
    (4, 160, 128, 160, 128, 160, "avg", 128, 1),
    (4, 96, 128, 192, 160, 192, "avg", 128, 1),
    (4, 0, 128, 192, 192, 256, "max", 0, 2),
    (5, 352, 192, 320, 160, 224, "avg", 128, 1),
    (5, 352, 192, 320, 192, 224, "max", 128, 1),
)
STEM = (64, 64, 192)
"""Output channels of the stem's 7x7, 1x1 and 3x3."""


class BNInception(Skeleton):
    """Ten modules, 3a to 5b, as ``layer3.0`` to ``layer5.1``."""

    family: Literal["bn_inception"] = "bn_inception"

    def units(self) -> tuple[InceptionUnit, ...]:
        """All modules, in the order of the forward pass."""
        units: list[InceptionUnit] = []
        channels, size = STEM[-1], -(-self.image_size // 8)
        counts: dict[str, int] = {}
        for number, one, reduced, three, double_reduced, double, pool, projected, stride in _MODULES:
            stage = f"layer{number}"
            index = counts.get(stage, 0)
            counts[stage] = index + 1
            unit = InceptionUnit(
                name=f"{stage}.{index}",
                stage=stage,
                in_channels=channels,
                one=one,
                reduced=reduced,
                three=three,
                double_reduced=double_reduced,
                double=double,
                pool=pool,
                projected=projected,
                size=size,
                stride=stride,
            )
            units.append(unit)
            channels, size = unit.out_channels, unit.out_size
        return tuple(units)

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the 3x3 of the second branch."""
        return tuple(_block(unit) for unit in self.units())


def _block(unit: InceptionUnit) -> Block:
    out = unit.out_channels
    sites: dict[Slot, Site] = {
        "conv": Site("conv", unit.reduced, unit.three, unit.size, kernel_size=3, stride=unit.stride),
        "refine": Site("refine", out, out, unit.out_size),
        "after": Site("after", out, out, unit.out_size),
    }
    return Block(unit.name, unit.stage, sites)
