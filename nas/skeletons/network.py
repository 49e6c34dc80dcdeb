"""The network class of all families, and the fixed parts that several families share, with their costs."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.operators import Cost, conv, conv_cost, norm_cost
from search_spaces.sites import Slot


class Place(Protocol):
    """Builds the module that the architecture has in a slot. A skeleton calls it once for every open slot."""

    def __call__(self, block: str, slot: Slot) -> nn.Module:
        """``("layer2.0", "refine")`` -> the operator's module, or the skeleton's own."""


class Network(nn.Module):
    """Stem, stages and head, in that order. Submodules have the names of the blocks: ``stages.layer2.0``."""

    def __init__(self, stem: nn.Module, stages: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleDict(stages)
        self.head = head

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The output of every stage, by the stage's name; the last one is the input of the head.

        Args:
            images: [batch, in_channels, H, W]; H and W need not be the skeleton's ``image_size``.
        """
        x = self.stem(images)
        maps = {}
        for name, stage in self.stages.items():
            x = maps[name] = stage(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """[batch, in_channels, H, W] -> logits [batch, num_classes]."""
        x = self.stem(images)
        for stage in self.stages.values():
            x = stage(x)
        logits: Tensor = self.head(x)
        return logits


def stages(blocks: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    """Blocks by name (``layer2.0``) -> stages by name, each a Sequential of its blocks in order."""
    grouped: dict[str, OrderedDict[str, nn.Module]] = {}
    for name, block in blocks:
        stage, _, member = name.partition(".")
        grouped.setdefault(stage, OrderedDict())[member] = block
    return {stage: nn.Sequential(members) for stage, members in grouped.items()}


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, BN, ReLU: [N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
    return nn.Sequential(
        conv(in_channels, out_channels, kernel_size, stride, groups),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_norm_cost(in_channels: int, out_channels: int, kernel_size: int, out_size: int, *, groups: int = 1) -> Cost:
    """Cost of a convolution without bias and its BN; ``out_size`` is the side of the output map."""
    return conv_cost(in_channels, out_channels, kernel_size, out_size, groups) + norm_cost(out_channels)


def classifier(in_channels: int, num_classes: int) -> nn.Sequential:
    """Global average pool and a linear layer: [batch, C, H, W] -> [batch, num_classes]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(in_channels, num_classes))


def linear_cost(in_features: int, out_features: int) -> Cost:
    """Cost of a linear layer with bias, applied once."""
    return Cost((in_features + 1) * out_features, in_features * out_features)


class Branches(nn.Module):
    """Parallel modules; concatenates their outputs along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, sum of the branches' channels, H', W']."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class PoolShortcut(nn.Module):
    """Average pool by the stride, and zeros for the missing channels; has no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.missing = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        if self.stride != 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.missing))
