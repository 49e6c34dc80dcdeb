"""Wide-ResNet: pre-activation basic blocks in three wide stages.

Paper: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146. Consulted: the
authors' wide-resnet, and tensorflow/models' autoaugment for ``shortcut: pool``, which the AA paper's network uses.
Deviations: no dropout between the convolutions. With ``shortcut: pool``: no additional shortcuts around whole stages
and around the network, and the first block's shortcut uses the input itself, not its activation.
"""

from torch import nn

from nas.operators import Cost, norm_cost
from nas.skeletons.network import Network, Place
from nas.skeletons.preactivation import network, network_cost
from search_spaces.skeletons.residual import ResidualUnit
from search_spaces.skeletons.wide_resnet import WideResNet


def build(skeleton: WideResNet, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""

    def branch(unit: ResidualUnit) -> nn.Module:
        return nn.Sequential(
            place(unit.name, "conv"),
            nn.BatchNorm2d(unit.out_channels),
            nn.ReLU(inplace=True),
            place(unit.name, "conv2"),
        )

    return network(skeleton, place, branch, bias=skeleton.bias)


def cost(skeleton: WideResNet) -> Cost:
    """Cost of everything outside the slots."""
    return network_cost(skeleton, lambda unit: norm_cost(unit.out_channels), bias=skeleton.bias)
