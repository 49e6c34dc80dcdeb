"""The parts that the pre-activation families share: everything except the residual branch.

The input of a projection is the activated input of the block; identity and pooling shortcuts use the input itself. The
slot ``after`` gets the sum, before the next block's activation.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from nas.operators import Cost, conv, conv_cost, norm_cost, refined_sum
from nas.skeletons.network import Network, Place, PoolShortcut, classifier, linear_cost, stages
from search_spaces.skeletons.preresnet import PreResNet
from search_spaces.skeletons.residual import ResidualUnit
from search_spaces.skeletons.wide_resnet import WideResNet


class PreactivationBlock(nn.Module):
    """after(refine(branch(a)) + skipped), where a = relu(norm(x)).

    ``skipped`` is ``projection(a)``, or ``shortcut(x)`` if there is no projection.
    """

    def __init__(
        self,
        norm: nn.Module,
        branch: nn.Module,
        refine: nn.Module,
        after: nn.Module,
        *,
        projection: nn.Module | None,
        shortcut: nn.Module,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.branch = branch
        self.refine = refine
        self.projection = projection
        self.shortcut = shortcut
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        activated = F.relu(self.norm(x), inplace=True)
        skipped = self.shortcut(x) if self.projection is None else self.projection(activated)
        out: Tensor = self.after(refined_sum(self.refine, self.branch(activated), skipped))
        return out


def network(
    skeleton: PreResNet | WideResNet, place: Place, branch: Callable[[ResidualUnit], nn.Module], *, bias: bool = False
) -> Network:
    """The network; ``branch(unit)`` makes the modules between a block's first activation and ``refine``."""

    def block(unit: ResidualUnit) -> PreactivationBlock:
        projects = unit.shortcut == "projection"
        return PreactivationBlock(
            nn.BatchNorm2d(unit.in_channels),
            branch(unit),
            place(unit.name, "refine"),
            place(unit.name, "after"),
            projection=conv(unit.in_channels, unit.out_channels, 1, unit.stride, bias=bias) if projects else None,
            shortcut=PoolShortcut(unit.in_channels, unit.out_channels, unit.stride)
            if unit.shortcut == "pool"
            else nn.Identity(),
        )

    units = skeleton.units()
    channels = units[-1].out_channels
    return Network(
        conv(skeleton.in_channels, skeleton.width, 3, bias=bias),
        stages((unit.name, block(unit)) for unit in units),
        nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *classifier(channels, skeleton.num_classes)),
    )


def network_cost(
    skeleton: PreResNet | WideResNet, branch_cost: Callable[[ResidualUnit], Cost], *, bias: bool = False
) -> Cost:
    """Cost of everything outside the slots; ``branch_cost(unit)`` gives the fixed parts of ``branch(unit)``."""
    units = skeleton.units()
    channels = units[-1].out_channels
    total = conv_cost(skeleton.in_channels, skeleton.width, 3, skeleton.image_size, bias=bias)
    for unit in units:
        total += norm_cost(unit.in_channels) + branch_cost(unit)
        if unit.shortcut == "projection":
            total += conv_cost(unit.in_channels, unit.out_channels, 1, unit.out_size, bias=bias)
    return total + norm_cost(channels) + linear_cost(channels, skeleton.num_classes)
