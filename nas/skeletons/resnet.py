"""ResNet, ResNeXt and the widened ResNet-18: post-activation residual networks.

Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385. Grouped 3x3:
Xie et al., CVPR 2017, https://arxiv.org/abs/1611.05431. Without attention and at the defaults the networks are those of
torchvision, parameter for parameter.

The last BN of every residual branch starts at gamma = 0 (Goyal et al., 2017, https://arxiv.org/abs/1706.02677): a block is
the identity at first, whatever refines its output.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nas.operators import Cost
from nas.skeletons.network import (
    Network,
    Place,
    conv,
    conv_cost,
    linear_cost,
    norm_cost,
    pooled_classifier,
    stages,
)
from search_spaces.skeletons.resnet import ResidualUnit, ResNet


class PoolShortcut(nn.Module):
    """Average pool by the stride and zeros for the channels that the input lacks: no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.missing = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        if self.stride != 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(x, (0, 0, 0, 0, 0, self.missing))


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + refine(branch(x))), then what stands after it."""

    def __init__(self, branch: nn.Module, refine: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.refine = refine
        self.shortcut = shortcut
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        y = self.refine(self.branch(x)) + self.shortcut(x)
        out: Tensor = self.after(F.relu(y, inplace=True))
        return out


def build(skeleton: ResNet, place: Place) -> Network:
    """The network; ``place`` supplies what the architecture has put in each slot."""
    units = skeleton.units()
    return Network(
        _stem(skeleton),
        stages((unit.name, _block(skeleton, unit, place)) for unit in units),
        pooled_classifier(units[-1].out_channels, skeleton.num_classes),
    )


def cost(skeleton: ResNet) -> Cost:
    """Everything but the slots."""
    kernel, stem_out = (7, -(-skeleton.image_size // 2)) if skeleton.stem == "imagenet" else (3, skeleton.image_size)
    units = skeleton.units()
    total = conv_cost(skeleton.in_channels, skeleton.width, kernel, stem_out) + norm_cost(skeleton.width)
    for unit in units:
        total += _block_cost(skeleton, unit)
    return total + linear_cost(units[-1].out_channels, skeleton.num_classes)


def _stem(skeleton: ResNet) -> nn.Sequential:
    if skeleton.stem == "cifar":
        return nn.Sequential(
            conv(skeleton.in_channels, skeleton.width, 3), nn.BatchNorm2d(skeleton.width), nn.ReLU(inplace=True)
        )
    return nn.Sequential(
        conv(skeleton.in_channels, skeleton.width, 7, stride=2),
        nn.BatchNorm2d(skeleton.width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _block(skeleton: ResNet, unit: ResidualUnit, place: Place) -> ResidualBlock:
    mid, out = unit.mid_channels, unit.out_channels
    last_norm = nn.BatchNorm2d(out)
    nn.init.zeros_(last_norm.weight)
    if skeleton.is_basic:
        branch = nn.Sequential(
            place(unit.name, "conv"),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            place(unit.name, "conv2"),
            last_norm,
        )
    else:
        branch = nn.Sequential(
            conv(unit.in_channels, mid, 1, stride=unit.stride if skeleton.stride_on == "first" else 1),
            nn.BatchNorm2d(mid),
            nn.ReLU(inplace=True),
            place(unit.name, "conv"),
            nn.BatchNorm2d(mid),
            nn.ReLU(inplace=True),
            conv(mid, out, 1),
            last_norm,
        )
    return ResidualBlock(branch, place(unit.name, "refine"), _shortcut(unit), place(unit.name, "after"))


def _block_cost(skeleton: ResNet, unit: ResidualUnit) -> Cost:
    mid, out = unit.mid_channels, unit.out_channels
    if skeleton.is_basic:
        total = norm_cost(out) + norm_cost(out)
    else:
        first_size = unit.out_size if skeleton.stride_on == "first" else unit.size
        total = conv_cost(unit.in_channels, mid, 1, first_size) + norm_cost(mid)
        total += norm_cost(mid) + conv_cost(mid, out, 1, unit.out_size) + norm_cost(out)
    if unit.shortcut == "projection":
        total += conv_cost(unit.in_channels, out, 1, unit.out_size) + norm_cost(out)
    return total


def _shortcut(unit: ResidualUnit) -> nn.Module:
    if unit.shortcut == "projection":
        return nn.Sequential(
            conv(unit.in_channels, unit.out_channels, 1, stride=unit.stride), nn.BatchNorm2d(unit.out_channels)
        )
    if unit.shortcut == "pool":
        return PoolShortcut(unit.in_channels, unit.out_channels, unit.stride)
    return nn.Identity()
