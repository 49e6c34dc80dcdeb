"""Wide-ResNet: pre-activation basic blocks in three wide stages.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146.
"""

from typing import Literal

from pydantic import Field, field_validator

from search_spaces.sites import Block
from search_spaces.skeletons.base import Skeleton
from search_spaces.skeletons.residual import ResidualUnit, basic_block, residual_units


class WideResNet(Skeleton):
    """Three stages of n basic blocks. Wide-ResNet-28-10 is ``depth: 28, widen: 10``."""

    family: Literal["wide_resnet"] = "wide_resnet"
    depth: int = Field(le=1202, description="6n+4, at least 10: n blocks in each of the three stages")
    widen: int = Field(ge=1, le=64, description="factor on the channels of the stages (not the stem)")
    width: int = Field(default=16, ge=1, le=16_384, description="channels of the stem; layer1 has widen times as many")
    shortcut: Literal["projection", "pool"] = Field(
        default="projection",
        description="where the shape changes: a 1x1 convolution, or average pool and zero padding (no parameters)",
    )
    bias: bool = Field(default=False, description="whether the convolutions have biases")

    @field_validator("depth")
    @classmethod
    def _depth_exists(cls, depth: int) -> int:
        if depth >= 10 and (depth - 4) % 6 == 0:
            return depth
        raise ValueError(f"no Wide-ResNet has depth {depth}; allowed: 6n+4, at least 10 (10, 16, 22, 28, 34, 40, ...)")

    def units(self) -> tuple[ResidualUnit, ...]:
        """All residual blocks, in the order of the forward pass."""
        widths = [self.width * self.widen * 2**stage for stage in range(3)]
        return tuple(
            residual_units(
                [(self.depth - 4) // 6] * 3,
                [(width, width) for width in widths],
                in_channels=self.width,
                size=self.image_size,
                on_change=self.shortcut,
            )
        )

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: the first 3x3 of every block; ``conv2``: the second."""
        return tuple(basic_block(unit, bias=self.bias) for unit in self.units())
