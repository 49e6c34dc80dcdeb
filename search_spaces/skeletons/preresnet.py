"""Pre-activation ResNet with bottlenecks, for small images.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, https://arxiv.org/abs/1603.05027.
"""

from typing import Literal

from pydantic import Field, field_validator

from search_spaces.sites import Block
from search_spaces.skeletons.base import Skeleton
from search_spaces.skeletons.residual import EXPANSION, ResidualUnit, StrideOn, bottleneck_block, residual_units


class PreResNet(Skeleton):
    """Three stages of n bottlenecks. The BAM paper's "PreResNet-110" has 18 per stage, which is ``depth: 164``."""

    family: Literal["preresnet"] = "preresnet"
    depth: int = Field(le=1202, description="9n+2, at least 11: n bottlenecks in each of the three stages")
    width: int = Field(default=16, ge=1, le=16_384, description="channels of the stem and of layer1's 3x3")
    stride_on: StrideOn = Field(
        default="3x3", description="which convolution of a bottleneck has its stride: the first 1x1 or the 3x3"
    )

    @field_validator("depth")
    @classmethod
    def _depth_exists(cls, depth: int) -> int:
        if depth >= 11 and (depth - 2) % 9 == 0:
            return depth
        raise ValueError(
            f"no pre-activation ResNet has depth {depth}; allowed: 9n+2, at least 11 (11, 20, 29, ..., 164)"
        )

    def units(self) -> tuple[ResidualUnit, ...]:
        """All residual blocks, in the order of the forward pass."""
        widths = [self.width * 2**stage for stage in range(3)]
        return tuple(
            residual_units(
                [(self.depth - 2) // 9] * 3,
                [(width, width * EXPANSION) for width in widths],
                in_channels=self.width,
                size=self.image_size,
            )
        )

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the 3x3 of every bottleneck."""
        return tuple(bottleneck_block(unit, self.stride_on) for unit in self.units())
