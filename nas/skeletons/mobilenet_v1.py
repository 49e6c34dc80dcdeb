"""MobileNet-V1: depthwise and pointwise convolutions alternate.

Paper: Howard et al., "MobileNets", 2017, https://arxiv.org/abs/1704.04861, table 1. Deviations: none.

There is no residual add here, so ``refine`` and ``after`` are at the same place, after the ReLU; ``refine`` is first.
"""

from torch import nn

from nas.operators import Cost, norm_cost
from nas.skeletons.network import Network, Place, classifier, conv_norm_cost, conv_norm_relu, linear_cost, stages
from search_spaces.skeletons.mobilenet_v1 import MobileNetV1, Separable


def build(skeleton: MobileNetV1, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""

    def block(unit: Separable) -> nn.Sequential:
        channels, out = unit.in_channels, unit.out_channels
        if unit.kind == "dw":
            layers = conv_norm_relu(channels, out, 3, unit.stride, groups=channels)
        else:
            layers = nn.Sequential(place(unit.name, "conv"), nn.BatchNorm2d(out), nn.ReLU(inplace=True))
        return nn.Sequential(*layers, place(unit.name, "refine"), place(unit.name, "after"))

    units = skeleton.units()
    return Network(
        conv_norm_relu(skeleton.in_channels, skeleton.stem_channels, 3, stride=2),
        stages((unit.name, block(unit)) for unit in units),
        classifier(units[-1].out_channels, skeleton.num_classes),
    )


def cost(skeleton: MobileNetV1) -> Cost:
    """Cost of everything outside the slots."""
    units = skeleton.units()
    total = conv_norm_cost(skeleton.in_channels, skeleton.stem_channels, 3, -(-skeleton.image_size // 2))
    for unit in units:
        if unit.kind == "dw":
            total += conv_norm_cost(unit.in_channels, unit.out_channels, 3, unit.out_size, groups=unit.in_channels)
        else:
            total += norm_cost(unit.out_channels)
    return total + linear_cost(units[-1].out_channels, skeleton.num_classes)
