"""How a constant factor on activations moves through a network's layers without changing what the network computes.

Factors are above 0, one for each channel. Convolutions, linear layers and norms take them up, in front or behind:

- `absorb` adapts layers whose input now has a factor;
- `scale` gives the output of layers a factor.

Both return the factor that remains: on the output for `absorb`, still to be given in front for `scale`. 1 means: done.
All other layers pass a factor on: ReLU, pools, and operators at their start, which multiply by a constant or add zero.
"""

from functools import singledispatch

import torch
from torch import Tensor, nn

from nas.operators.aa import AAConv2d
from nas.operators.aw import AWConv2d
from nas.skeletons.inception_resnet_v2 import ScaledResidualBlock
from nas.skeletons.mnasnet import InvertedResidualBlock
from nas.skeletons.network import Branches, PoolShortcut
from nas.skeletons.preactivation import PreactivationBlock
from nas.skeletons.resnet import ResidualBlock


def is_one(factor: Tensor) -> bool:
    """Whether there is nothing to do."""
    return bool((factor == 1).all())


# In front ------------------------------------------------------------------------------------------------------------


@singledispatch
def absorb(module: nn.Module, factor: Tensor) -> Tensor:
    """Adapts a module whose input has the factor, [C_in]. Returns the factor of its output, [C_out]."""
    del module
    return factor


@absorb.register
def _(module: nn.Conv2d, factor: Tensor) -> Tensor:
    groups, filters = module.groups, module.out_channels // module.groups
    _multiply(module.weight, factor.reciprocal().view(groups, 1, -1).expand(-1, filters, -1).flatten(0, 1))
    return factor.new_ones(module.out_channels)


@absorb.register
def _(module: nn.Linear, factor: Tensor) -> Tensor:
    _multiply(module.weight, factor.reciprocal().repeat_interleave(module.in_features // len(factor))[None])
    return factor.new_ones(module.out_features)


@absorb.register
def _(module: nn.BatchNorm2d, factor: Tensor) -> Tensor:
    """The statistics change, so it holds in training too (but for epsilon)."""
    assert module.running_mean is not None
    assert module.running_var is not None
    with torch.no_grad():
        module.running_mean.mul_(factor)
        module.running_var.add_(module.eps).mul_(factor.square()).sub_(module.eps)
    return torch.ones_like(factor)


@absorb.register
def _(module: nn.Sequential, factor: Tensor) -> Tensor:
    for child in module:
        factor = absorb(child, factor)
    return factor


@absorb.register
def _(module: Branches, factor: Tensor) -> Tensor:
    return torch.cat([absorb(branch, factor) for branch in module.branches])


@absorb.register
def _(module: PoolShortcut, factor: Tensor) -> Tensor:
    return torch.cat([factor, torch.ones(module.missing, device=factor.device)])


@absorb.register
def _(module: ResidualBlock, factor: Tensor) -> Tensor:
    absorb(module.branch, factor)
    return _carried(absorb(module.shortcut, factor), module.branch)


@absorb.register
def _(module: PreactivationBlock, factor: Tensor) -> Tensor:
    activated = absorb(module.norm, factor)
    if isinstance(module.projection, nn.Module):
        return absorb(module.projection, activated)
    return _carried(absorb(module.shortcut, factor), module.branch)


@absorb.register
def _(module: InvertedResidualBlock, factor: Tensor) -> Tensor:
    out = absorb(module.branch, factor)
    return _carried(factor, module.branch) if module.has_shortcut else out


@absorb.register
def _(module: ScaledResidualBlock, factor: Tensor) -> Tensor:
    absorb(module.branches, factor)
    return _carried(factor, module.expand)


def _carried(factor: Tensor, branch: nn.Module) -> Tensor:
    """The factor that a shortcut carries to the sum; the branch gets it too."""
    scale(branch, factor)
    return factor


# Behind --------------------------------------------------------------------------------------------------------------


@singledispatch
def scale(module: nn.Module, factor: Tensor) -> Tensor:
    """Multiplies a module's output by the factor, [C_out]. Returns what is left to do in front of it."""
    del module
    return factor


@scale.register
def _(module: nn.Conv2d, factor: Tensor) -> Tensor:
    _multiply(module.weight, factor[:, None])
    if module.bias is not None:
        _multiply(module.bias, factor)
    return factor.new_ones(module.in_channels)


@scale.register
def _(module: nn.BatchNorm2d, factor: Tensor) -> Tensor:
    _multiply(module.weight, factor)
    _multiply(module.bias, factor)
    return torch.ones_like(factor)


@scale.register
def _(module: AWConv2d, factor: Tensor) -> Tensor:
    return scale(module.conv, factor)


@scale.register
def _(module: AAConv2d, factor: Tensor) -> Tensor:
    filters = len(factor) - module.d_v
    scale(module.projection, factor[filters:])
    return factor.new_ones(1) if module.conv is None else scale(module.conv, factor[:filters])


@scale.register
def _(module: nn.Sequential, factor: Tensor) -> Tensor:
    for child in reversed(module):
        factor = scale(child, factor)
        if is_one(factor):
            break
    return factor


def _multiply(parameter: Tensor, factor: Tensor) -> None:
    """By a factor with the parameter's first dimensions."""
    if not is_one(factor):
        with torch.no_grad():
            parameter.mul_(factor.to(parameter.dtype).view(*factor.shape, *[1] * (parameter.dim() - factor.dim())))
