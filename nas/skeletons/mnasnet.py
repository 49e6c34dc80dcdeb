"""MnasNet-A1: inverted residual blocks, some with squeeze-and-excitation of their own.

Paper: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019,
https://arxiv.org/abs/1807.11626, figure 7. Consulted: tensorflow/tpu's mnasnet. Deviations: no dropout before the
classifier; BN with torch's epsilon and momentum. Convolutions with a stride have the same padding on all sides, while
TensorFlow's "SAME" pads even maps more at the bottom and right: with imported weights the maps are shifted by a pixel.
"""

from torch import Tensor, nn

from nas.operators import OPERATORS, Cost, Resolved, conv, conv_cost, norm_cost, refined_sum
from nas.skeletons.network import Network, Place, classifier, conv_norm_cost, conv_norm_relu, linear_cost, stages
from search_spaces.sites import Site
from search_spaces.skeletons.mnasnet import HEAD_CHANNELS, InvertedResidual, MnasNet


class InvertedResidualBlock(nn.Module):
    """after(refine(branch(x)) + x); without "+ x" if the block changes the shape."""

    def __init__(self, branch: nn.Module, refine: nn.Module, after: nn.Module, *, has_shortcut: bool) -> None:
        super().__init__()
        self.branch = branch
        self.refine = refine
        self.after = after
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        y = self.branch(x)
        out: Tensor = self.after(refined_sum(self.refine, y, x) if self.has_shortcut else self.refine(y))
        return out


def build(skeleton: MnasNet, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""
    units = skeleton.units()
    return Network(
        conv_norm_relu(skeleton.in_channels, skeleton.stem_channels, 3, stride=2),
        stages((unit.name, _block(unit, place)) for unit in units),
        nn.Sequential(
            *conv_norm_relu(units[-1].out_channels, HEAD_CHANNELS, 1), *classifier(HEAD_CHANNELS, skeleton.num_classes)
        ),
    )


def cost(skeleton: MnasNet) -> Cost:
    """Cost of everything outside the slots."""
    units = skeleton.units()
    total = conv_norm_cost(skeleton.in_channels, skeleton.stem_channels, 3, -(-skeleton.image_size // 2))
    for unit in units:
        total += _block_cost(unit)
    return (
        total
        + conv_norm_cost(units[-1].out_channels, HEAD_CHANNELS, 1, units[-1].out_size)
        + linear_cost(HEAD_CHANNELS, skeleton.num_classes)
    )


def _block(unit: InvertedResidual, place: Place) -> InvertedResidualBlock:
    layers: list[nn.Module] = []
    if unit.expands:
        layers += [place(unit.name, "conv"), nn.BatchNorm2d(unit.expanded), nn.ReLU(inplace=True)]
    layers += conv_norm_relu(unit.expanded, unit.expanded, unit.kernel_size, unit.stride, groups=unit.expanded)
    if unit.squeezed:
        layers.append(OPERATORS["se"].build(*_own_se(unit)))
    layers += [conv(unit.expanded, unit.out_channels, 1), nn.BatchNorm2d(unit.out_channels)]
    return InvertedResidualBlock(
        nn.Sequential(*layers),
        place(unit.name, "refine"),
        place(unit.name, "after"),
        has_shortcut=unit.has_shortcut,
    )


def _block_cost(unit: InvertedResidual) -> Cost:
    total = norm_cost(unit.expanded) if unit.expands else Cost()
    total += conv_norm_cost(unit.expanded, unit.expanded, unit.kernel_size, unit.out_size, groups=unit.expanded)
    if unit.squeezed:
        total += OPERATORS["se"].cost(*_own_se(unit))
    return total + conv_cost(unit.expanded, unit.out_channels, 1, unit.out_size) + norm_cost(unit.out_channels)


def _own_se(unit: InvertedResidual) -> tuple[Site, Resolved]:
    """Site and resolved values of A1's squeeze-and-excitation after the depthwise convolution."""
    return Site("refine", unit.expanded, unit.expanded, unit.out_size), {"hidden": unit.squeezed, "bias": True}
