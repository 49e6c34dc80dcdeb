"""Inception-ResNet-v2.

Paper: Szegedy et al., AAAI 2017, https://arxiv.org/abs/1602.07261. Consulted: tensorflow/models' slim; the widths are
slim's (the paper's differ). Deviations: no auxiliary classifier, no dropout; BN with torch's epsilon and momentum.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from nas.operators import Cost, conv, conv_cost, norm_cost
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
from search_spaces.skeletons.inception_resnet_v2 import HEAD_CHANNELS, InceptionResNetV2, ResidualInception, halved

_Chain: TypeAlias = Sequence[tuple[int, int, int]]
"""A branch: convolutions of (out_channels, kernel height, kernel width), at stride 1 and "same" padding."""

_FIRST: Sequence[_Chain] = (  # the mixed module at the end of the stem; it also has a branch of a pool and a 1x1 of 64
    [(96, 1, 1)],
    [(48, 1, 1), (64, 5, 5)],
    [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
)
_POOLED = 64
_RESIDUAL: Mapping[str, Sequence[_Chain]] = {
    "A": ([(32, 1, 1)], [(32, 1, 1), (32, 3, 3)], [(32, 1, 1), (48, 3, 3), (64, 3, 3)]),
    "B": ([(192, 1, 1)], [(128, 1, 1), (160, 1, 7), (192, 7, 1)]),
    "C": ([(192, 1, 1)], [(192, 1, 1), (224, 1, 3), (256, 3, 1)]),
}
_SCALE: Mapping[str, float] = {"A": 0.17, "B": 0.1, "C": 0.2}
# The reduction before the first module of a kind: chains whose last 3x3 has stride 2, parallel to a max-pool.
_REDUCTION: Mapping[str, Sequence[_Chain]] = {
    "B": ([(384, 3, 3)], [(256, 1, 1), (256, 3, 3), (384, 3, 3)]),
    "C": ([(256, 1, 1), (384, 3, 3)], [(256, 1, 1), (288, 3, 3)], [(256, 1, 1), (288, 3, 3), (320, 3, 3)]),
}


class ScaledResidualBlock(nn.Module):
    """after(relu(x + scale refine(expand(branches(x))))); the last block of the network has no ReLU."""

    def __init__(
        self,
        branches: nn.Module,
        expand: nn.Module,
        refine: nn.Module,
        after: nn.Module,
        *,
        scale: float,
        rectify: bool,
    ) -> None:
        super().__init__()
        self.branches = branches
        self.expand = expand
        self.refine = refine
        self.after = after
        self.scale = scale
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        y = x + self.scale * self.refine(self.expand(self.branches(x)))
        out: Tensor = self.after(F.relu(y, inplace=True) if self.rectify else y)
        return out


def build(skeleton: InceptionResNetV2, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""
    units = skeleton.units()
    widths = [320, *(unit.channels for unit in units)]
    blocks = []
    for index, (unit, entering) in enumerate(zip(units, widths[:-1], strict=True)):
        block: nn.Module = _block(unit, place, is_last=index == len(units) - 1)
        if unit.reduces:
            block = nn.Sequential(
                Branches(
                    *(_chain(entering, chain, strided=True) for chain in _REDUCTION[unit.kind]), nn.MaxPool2d(3, 2)
                ),
                block,
            )
        blocks.append((unit.name, block))
    head = nn.Sequential(
        *conv_norm_relu(widths[-1], HEAD_CHANNELS, 1), *classifier(HEAD_CHANNELS, skeleton.num_classes)
    )
    return Network(_stem(skeleton.in_channels), stages(blocks), head)


def cost(skeleton: InceptionResNetV2) -> Cost:
    """Cost of everything outside the slots."""
    units = skeleton.units()
    total = _stem_cost(skeleton)
    entering, size = units[0].channels, units[0].size
    for unit in units:
        if unit.reduces:
            for chain in _REDUCTION[unit.kind]:
                total += _chain_cost(entering, chain, size, strided=True)
        total += _block_cost(unit)
        entering, size = unit.channels, unit.size
    return total + conv_norm_cost(entering, HEAD_CHANNELS, 1, size) + linear_cost(HEAD_CHANNELS, skeleton.num_classes)


def _stem(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *_layer(in_channels, 32, 3, 3, stride=2, padded=False),
        *_layer(32, 32, 3, 3, padded=False),
        *_layer(32, 64, 3, 3),
        nn.MaxPool2d(3, 2),
        *_layer(64, 80, 1, 1),
        *_layer(80, 192, 3, 3, padded=False),
        nn.MaxPool2d(3, 2),
        Branches(
            *(_chain(192, chain) for chain in _FIRST),
            nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), *_layer(192, _POOLED, 1, 1)),
        ),
    )


def _stem_cost(skeleton: InceptionResNetV2) -> Cost:
    first, second, third, fourth, fifth = skeleton.stem_sizes
    total = conv_norm_cost(skeleton.in_channels, 32, 3, first) + conv_norm_cost(32, 32, 3, second)
    total += conv_norm_cost(32, 64, 3, second) + conv_norm_cost(64, 80, 1, third) + conv_norm_cost(80, 192, 3, fourth)
    for chain in _FIRST:
        total += _chain_cost(192, chain, fifth)
    return total + conv_norm_cost(192, _POOLED, 1, fifth)


def _block(unit: ResidualInception, place: Place, *, is_last: bool) -> ScaledResidualBlock:
    chains = [_chain(unit.channels, chain) for chain in _RESIDUAL[unit.kind]]
    if unit.kind == "A":
        chains[1][3] = place(unit.name, "conv")
    width = sum(chain[-1][0] for chain in _RESIDUAL[unit.kind])
    return ScaledResidualBlock(
        Branches(*chains),
        conv(width, unit.channels, 1, bias=True),
        place(unit.name, "refine"),
        place(unit.name, "after"),
        scale=1.0 if is_last else _SCALE[unit.kind],
        rectify=not is_last,
    )


def _block_cost(unit: ResidualInception) -> Cost:
    width = sum(chain[-1][0] for chain in _RESIDUAL[unit.kind])
    total = conv_cost(width, unit.channels, 1, unit.size, bias=True)
    for chain in _RESIDUAL[unit.kind]:
        total += _chain_cost(unit.channels, chain, unit.size)
    if unit.kind == "A":
        slot = conv_cost(32, 32, 3, unit.size)
        total = Cost(total.params - slot.params, total.macs - slot.macs)
    return total


def _chain(in_channels: int, chain: _Chain, *, strided: bool = False) -> nn.Sequential:
    """``strided``: the last convolution has stride 2 and no padding."""
    layers: list[nn.Module] = []
    for index, (out_channels, height, width) in enumerate(chain):
        strides = strided and index == len(chain) - 1
        layers += _layer(in_channels, out_channels, height, width, stride=2 if strides else 1, padded=not strides)
        in_channels = out_channels
    return nn.Sequential(*layers)


def _chain_cost(in_channels: int, chain: _Chain, size: int, *, strided: bool = False) -> Cost:
    total = Cost()
    for index, (out_channels, height, width) in enumerate(chain):
        out_size = halved(size) if strided and index == len(chain) - 1 else size
        weights = in_channels * out_channels * height * width
        total += Cost(weights, weights * out_size**2) + norm_cost(out_channels)
        in_channels = out_channels
    return total


def _layer(
    in_channels: int, out_channels: int, height: int, width: int, *, stride: int = 1, padded: bool = True
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    padding = (height // 2, width // 2) if padded else 0
    layer = nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
