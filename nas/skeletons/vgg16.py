"""VGG-16 with batch normalisation.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, https://arxiv.org/abs/1409.1556,
configuration D. Deviations: BN after every convolution, as in the SE paper's re-implementation, and so convolutions
without biases; no dropout; pools of odd maps round up, while the paper's drop the last row and column (images of 224
pixels give no odd maps). The classifier's input is 7x7 for every image size.

There is no residual add here, so ``refine`` and ``after`` are at the same place, after the ReLU; ``refine`` is first.
"""

from torch import nn

from nas.operators import Cost, norm_cost
from nas.skeletons.network import Network, Place, linear_cost, stages
from search_spaces.skeletons.vgg16 import VGG16, PlainUnit

_POOLED = 7


def build(skeleton: VGG16, place: Place) -> Network:
    """The network; ``place`` supplies the module of each slot."""

    def block(unit: PlainUnit) -> nn.Sequential:
        layers = [
            place(unit.name, "conv"),
            nn.BatchNorm2d(unit.out_channels),
            nn.ReLU(inplace=True),
            place(unit.name, "refine"),
            place(unit.name, "after"),
        ]
        return nn.Sequential(*([_max_pool()] if unit.pools else []), *layers)

    units = skeleton.units()
    flat = units[-1].out_channels * _POOLED**2
    head = nn.Sequential(
        _max_pool(),
        nn.AdaptiveAvgPool2d(_POOLED),
        nn.Flatten(1),
        nn.Linear(flat, skeleton.hidden),
        nn.ReLU(inplace=True),
        nn.Linear(skeleton.hidden, skeleton.hidden),
        nn.ReLU(inplace=True),
        nn.Linear(skeleton.hidden, skeleton.num_classes),
    )
    return Network(nn.Identity(), stages((unit.name, block(unit)) for unit in units), head)


def cost(skeleton: VGG16) -> Cost:
    """Cost of everything outside the slots."""
    units = skeleton.units()
    total = linear_cost(units[-1].out_channels * _POOLED**2, skeleton.hidden)
    total += linear_cost(skeleton.hidden, skeleton.hidden) + linear_cost(skeleton.hidden, skeleton.num_classes)
    for unit in units:
        total += norm_cost(unit.out_channels)
    return total


def _max_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(2, ceil_mode=True)
