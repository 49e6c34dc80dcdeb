"""BN-Inception (Inception-v2).

Paper: Ioffe and Szegedy, "Batch Normalization", ICML 2015, https://arxiv.org/abs/1502.03167, figure 5. Deviations: 4c
and 4d project their pool to 128 channels, as in the Caffe models that the SE paper's results come from (figure 5 has
96); there are no auxiliary classifiers. Pools with a stride are padded by one pixel and give ceil(size / 2), while
Caffe's have no padding and round up, so that their windows are shifted by one pixel. Average pools exclude the padding
from the mean, while Caffe's include it.

There is no residual add here, so ``refine`` and ``after`` are at the same place, after the concatenation; ``refine``
comes first.
"""

from torch import nn

from nas.operators import Cost, norm_cost
from nas.skeletons.network import (
    Branches,
    Network,
    Place,
    classifier,
    conv_norm_cost,
    conv_norm_relu,
    linear_cost,
    stages,
)
from search_spaces.skeletons.bn_inception import STEM, BNInception, InceptionUnit


def build(skeleton: BNInception, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""
    first, second, third = STEM
    stem = nn.Sequential(
        *conv_norm_relu(skeleton.in_channels, first, 7, stride=2),
        _pool("max", stride=2),
        *conv_norm_relu(first, second, 1),
        *conv_norm_relu(second, third, 3),
        _pool("max", stride=2),
    )
    units = skeleton.units()
    return Network(
        stem,
        stages((unit.name, _block(unit, place)) for unit in units),
        classifier(units[-1].out_channels, skeleton.num_classes),
    )


def cost(skeleton: BNInception) -> Cost:
    """Cost of everything outside the slots."""
    first, second, third = STEM
    units = skeleton.units()
    half, quarter = -(-skeleton.image_size // 2), -(-skeleton.image_size // 4)
    total = conv_norm_cost(skeleton.in_channels, first, 7, half)
    total += conv_norm_cost(first, second, 1, quarter) + conv_norm_cost(second, third, 3, quarter)
    for unit in units:
        total += _block_cost(unit)
    return total + linear_cost(units[-1].out_channels, skeleton.num_classes)


def _block(unit: InceptionUnit, place: Place) -> nn.Sequential:
    branches: list[nn.Module] = []
    if unit.one:
        branches.append(conv_norm_relu(unit.in_channels, unit.one, 1))
    branches += [
        nn.Sequential(
            *conv_norm_relu(unit.in_channels, unit.reduced, 1),
            place(unit.name, "conv"),
            nn.BatchNorm2d(unit.three),
            nn.ReLU(inplace=True),
        ),
        nn.Sequential(
            *conv_norm_relu(unit.in_channels, unit.double_reduced, 1),
            *conv_norm_relu(unit.double_reduced, unit.double, 3),
            *conv_norm_relu(unit.double, unit.double, 3, unit.stride),
        ),
        nn.Sequential(
            _pool(unit.pool, unit.stride),
            *(conv_norm_relu(unit.in_channels, unit.projected, 1) if unit.projected else ()),
        ),
    ]
    return nn.Sequential(Branches(*branches), place(unit.name, "refine"), place(unit.name, "after"))


def _block_cost(unit: InceptionUnit) -> Cost:
    total = conv_norm_cost(unit.in_channels, unit.reduced, 1, unit.size) + norm_cost(unit.three)
    total += conv_norm_cost(unit.in_channels, unit.double_reduced, 1, unit.size)
    total += conv_norm_cost(unit.double_reduced, unit.double, 3, unit.size)
    total += conv_norm_cost(unit.double, unit.double, 3, unit.out_size)
    for channels in (unit.one, unit.projected):
        if channels:
            total += conv_norm_cost(unit.in_channels, channels, 1, unit.out_size)
    return total


def _pool(kind: str, stride: int) -> nn.Module:
    if kind == "max":
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
