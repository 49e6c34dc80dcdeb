"""Pre-activation ResNet with bottlenecks, for small images.

Paper: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, https://arxiv.org/abs/1603.05027. Consulted:
bearpaw/pytorch-classification, the base of the BAM paper's code; it calls 18 bottlenecks per stage "110 layers".
Deviation from that code: the input of a projection is the activated input, as in He et al.'s code.
"""

from torch import nn

from nas.operators import Cost, conv, conv_cost, norm_cost
from nas.skeletons.network import Network, Place, conv_norm_cost, conv_norm_relu
from nas.skeletons.preactivation import network, network_cost
from search_spaces.skeletons.preresnet import PreResNet
from search_spaces.skeletons.residual import ResidualUnit


def build(skeleton: PreResNet, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""

    def branch(unit: ResidualUnit) -> nn.Module:
        mid = unit.mid_channels
        return nn.Sequential(
            *conv_norm_relu(unit.in_channels, mid, 1, unit.stride if skeleton.stride_on == "first" else 1),
            place(unit.name, "conv"),
            nn.BatchNorm2d(mid),
            nn.ReLU(inplace=True),
            conv(mid, unit.out_channels, 1),
        )

    return network(skeleton, place, branch)


def cost(skeleton: PreResNet) -> Cost:
    """Cost of everything outside the slots."""

    def branch_cost(unit: ResidualUnit) -> Cost:
        mid = unit.mid_channels
        first = conv_norm_cost(unit.in_channels, mid, 1, unit.out_size if skeleton.stride_on == "first" else unit.size)
        return first + norm_cost(mid) + conv_cost(mid, unit.out_channels, 1, unit.out_size)

    return network_cost(skeleton, branch_cost)
