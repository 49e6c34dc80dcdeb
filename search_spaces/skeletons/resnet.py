"""ResNet, ResNeXt and the widened ResNet-18: post-activation residual networks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385; Xie et al.,
"Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, https://arxiv.org/abs/1611.05431.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from search_spaces.sites import Block
from search_spaces.skeletons.base import Skeleton
from search_spaces.skeletons.residual import (
    EXPANSION,
    ResidualUnit,
    StrideOn,
    basic_block,
    bottleneck_block,
    residual_units,
)

_FOUR_STAGES: Mapping[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_BASIC_DEPTHS = (18, 34)


class ResNet(Skeleton):
    """Depth 18, 34, 50, 101 or 152: four stages. Any other depth 6n+2 (basic) or 9n+2 (bottlenecks): three stages."""

    family: Literal["resnet"] = "resnet"
    depth: int = Field(
        le=1202,  # the paper's deepest network; a typing error must not build a million blocks
        description="four stages: 18, 34 (basic blocks), 50, 101, 152 (bottlenecks); three stages, as used on CIFAR: "
        "6n+2, at least 8 (basic blocks), or 9n+2, at least 11 (bottlenecks)",
    )
    stem: Literal["imagenet", "cifar"] = Field(
        default="imagenet",
        description="imagenet: 7x7 with stride 2 and a max-pool; cifar: one 3x3; by default it follows from the depth",
    )
    width: int = Field(
        default=64,
        ge=1,
        le=16_384,
        description="channels of stem and layer1; by default 64 with four stages, 16 with three",
    )
    widen: float = Field(default=1.0, gt=0, le=16, description="factor on the channels of the stages (not the stem)")
    groups: int = Field(default=1, ge=1, le=4096, description="groups of a bottleneck's 3x3 (cardinality)")
    width_per_group: int = Field(
        default=64, ge=1, le=4096, description="channels of each group of the 3x3 in a stage of 64 channels"
    )
    stride_on: StrideOn = Field(
        default="3x3", description="which convolution of a bottleneck has its stride: the first 1x1 or the 3x3"
    )
    shortcut: Literal["projection", "stage", "pool"] = Field(
        default="projection",
        description="projection: a 1x1 where the shape changes; stage: a 1x1 in the first block of every stage; "
        "pool: no parameters, average pool and zero padding where the shape changes",
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_the_depth(cls, data: object) -> object:
        if not isinstance(data, Mapping) or not isinstance(data.get("depth"), int):
            return data
        four_stages = data["depth"] in _FOUR_STAGES
        filled = {"stem": "imagenet" if four_stages else "cifar", "width": 64 if four_stages else 16, **data}
        if _is_basic(data["depth"]) and filled.get("stride_on") == "first":
            filled["stride_on"] = "3x3"  # a basic block's first convolution is a 3x3
        return filled

    @field_validator("depth")
    @classmethod
    def _depth_exists(cls, depth: int) -> int:
        if depth in _FOUR_STAGES or (depth >= 8 and (depth - 2) % 6 == 0) or (depth >= 11 and (depth - 2) % 9 == 0):
            return depth
        raise ValueError(
            f"no ResNet has depth {depth}; allowed: 18, 34, 50, 101, 152 (four stages), 6n+2, at least 8 "
            "(8, 14, 20, ...), or 9n+2, at least 11 (11, 29, 47, ...)"
        )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ResNet":
        if self.is_basic and (self.groups != 1 or self.width_per_group != 64):
            raise ValueError(
                f"groups={self.groups}, width_per_group={self.width_per_group} need bottlenecks, but depth "
                f"{self.depth} has basic blocks; leave both out or use depth 50, 101, 152 or 29"
            )
        if self.units()[0].mid_channels == 0:
            raise ValueError(
                f"width={self.width}, widen={self.widen:g}, width_per_group={self.width_per_group} leave no channels "
                "in layer1; choose larger ones"
            )
        return self

    @model_validator(mode="after")
    def _one_name_for_one_network(self) -> "ResNet":
        first = self.units()[0]
        if self.shortcut == "stage" and first.in_channels != first.out_channels:
            object.__setattr__(self, "shortcut", "projection")  # the first block of every stage changes the shape
        return self

    @property
    def is_basic(self) -> bool:
        """Whether the blocks are two 3x3 convolutions rather than bottlenecks."""
        return _is_basic(self.depth)

    @property
    def stem_size(self) -> int:
        """Side of the map that enters layer1."""
        return -(-self.image_size // 4) if self.stem == "imagenet" else self.image_size

    def units(self) -> tuple[ResidualUnit, ...]:
        """All residual blocks, in the order of the forward pass."""
        if self.depth in _FOUR_STAGES:
            lengths = _FOUR_STAGES[self.depth]
        else:
            lengths = ((self.depth - 2) // (6 if self.is_basic else 9),) * 3
        widths = []
        for stage in range(len(lengths)):
            width = int(self.width * self.widen) * 2**stage
            mid = width if self.is_basic else width * self.width_per_group // 64 * self.groups
            widths.append((mid, width if self.is_basic else width * EXPANSION))
        return tuple(
            residual_units(
                lengths,
                widths,
                in_channels=self.width,
                size=self.stem_size,
                on_change="pool" if self.shortcut == "pool" else "projection",
                project_every_stage=self.shortcut == "stage",
            )
        )

    def blocks(self) -> tuple[Block, ...]:
        """``conv``: a bottleneck's 3x3, a basic block's first 3x3; ``conv2``: a basic block's second 3x3."""
        if self.is_basic:
            return tuple(basic_block(unit) for unit in self.units())
        return tuple(bottleneck_block(unit, self.stride_on, self.groups) for unit in self.units())


def _is_basic(depth: int) -> bool:
    return depth in _BASIC_DEPTHS or (depth not in _FOUR_STAGES and (depth - 2) % 6 == 0)
