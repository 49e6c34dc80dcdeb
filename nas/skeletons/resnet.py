"""ResNet, ResNeXt and the widened ResNet-18: post-activation residual networks.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385; Xie et
al., "Aggregated Residual Transformations", CVPR 2017, https://arxiv.org/abs/1611.05431. Without attention the networks
of 18 layers and more have the same parameters as torchvision's.

The last BN of every residual branch starts with scale 0 (Goyal et al., 2017, https://arxiv.org/abs/1706.02677), so that
a block begins as the identity, with any operator in ``refine``.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nas.operators import Cost, conv, conv_cost, norm_cost, refined_sum
from nas.skeletons.network import (
    Network,
    Place,
    PoolShortcut,
    classifier,
    conv_norm_cost,
    conv_norm_relu,
    linear_cost,
    stages,
)
from search_spaces.skeletons.residual import ResidualUnit
from search_spaces.skeletons.resnet import ResNet


class ResidualBlock(nn.Module):
    """after(relu(refine(branch(x)) + shortcut(x)))."""

    def __init__(self, branch: nn.Module, refine: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.refine = refine
        self.shortcut = shortcut
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        y = refined_sum(self.refine, self.branch(x), self.shortcut(x))
        out: Tensor = self.after(F.relu(y, inplace=True))
        return out


def build(skeleton: ResNet, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""
    units = skeleton.units()
    if skeleton.stem == "cifar":
        stem = conv_norm_relu(skeleton.in_channels, skeleton.width, 3)
    else:
        stem = conv_norm_relu(skeleton.in_channels, skeleton.width, 7, stride=2)
        stem.append(nn.MaxPool2d(3, stride=2, padding=1))
    return Network(
        stem,
        stages((unit.name, _block(skeleton, unit, place)) for unit in units),
        classifier(units[-1].out_channels, skeleton.num_classes),
    )


def cost(skeleton: ResNet) -> Cost:
    """Cost of everything outside the slots."""
    kernel_size, stem_out = (3, skeleton.image_size) if skeleton.stem == "cifar" else (7, -(-skeleton.image_size // 2))
    units = skeleton.units()
    total = conv_norm_cost(skeleton.in_channels, skeleton.width, kernel_size, stem_out)
    for unit in units:
        total += _block_cost(skeleton, unit)
    return total + linear_cost(units[-1].out_channels, skeleton.num_classes)


def _block(skeleton: ResNet, unit: ResidualUnit, place: Place) -> ResidualBlock:
    mid, out = unit.mid_channels, unit.out_channels
    layers = [] if skeleton.is_basic else [*conv_norm_relu(unit.in_channels, mid, 1, _first_stride(skeleton, unit))]
    layers += [place(unit.name, "conv"), nn.BatchNorm2d(mid), nn.ReLU(inplace=True)]
    last_norm = nn.BatchNorm2d(out)
    nn.init.zeros_(last_norm.weight)
    layers += [place(unit.name, "conv2") if skeleton.is_basic else conv(mid, out, 1), last_norm]
    return ResidualBlock(nn.Sequential(*layers), place(unit.name, "refine"), _shortcut(unit), place(unit.name, "after"))


def _shortcut(unit: ResidualUnit) -> nn.Module:
    match unit.shortcut:
        case "identity":
            return nn.Identity()
        case "pool":
            return PoolShortcut(unit.in_channels, unit.out_channels, unit.stride)
        case "projection":
            projection = conv(unit.in_channels, unit.out_channels, 1, unit.stride)
            return nn.Sequential(projection, nn.BatchNorm2d(unit.out_channels))


def _block_cost(skeleton: ResNet, unit: ResidualUnit) -> Cost:
    mid, out = unit.mid_channels, unit.out_channels
    total = norm_cost(mid) + norm_cost(out)
    if not skeleton.is_basic:
        first_out = -(-unit.size // _first_stride(skeleton, unit))
        total += conv_norm_cost(unit.in_channels, mid, 1, first_out) + conv_cost(mid, out, 1, unit.out_size)
    if unit.shortcut == "projection":
        total += conv_norm_cost(unit.in_channels, out, 1, unit.out_size)
    return total


def _first_stride(skeleton: ResNet, unit: ResidualUnit) -> int:
    """Stride of a bottleneck's first 1x1."""
    return unit.stride if skeleton.stride_on == "first" else 1
