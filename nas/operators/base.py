"""Base types of the operators, and the layers that several operators share."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators.shown import Maps
from search_spaces.sites import Site, Value

_P = ParamSpec("_P")
_R = TypeVar("_R")

Resolved: TypeAlias = Mapping[str, Value]
"""The integers that define an option at a site; `search_spaces.Option.resolve` returns them."""


@dataclass(frozen=True, slots=True)
class Cost:
    """``params`` trainable parameters, and ``macs`` multiply-adds for one image. Costs can be added.

    Multiply-adds are those of convolutions, linear layers and matrix products, including the two of attention. They are
    half of the operations that `torch.utils.flop_counter.FlopCounterMode` counts.
    """

    params: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a trained network has in a slot before an operator is inserted there."""

    convolution: nn.Conv2d | None
    """In ``conv`` and ``conv2``; None: nothing, as in ``refine`` and ``after``."""
    maps: Callable[[], Tensor] | None = None
    """Gives the slot's input for a few hundred pictures, [N, in_channels, H, W]; None: there are no pictures."""


@dataclass(frozen=True, slots=True)
class Operator:
    """The module and the cost of an option.

    ``build(site, resolved)`` makes the module, initialised and in training mode: [N, in_channels, H, W] ->
    [N, out_channels, H', W'] with H' = ceil(H / stride). H and W are usually ``site.size``, but any size must work.
    ``cost(site, resolved)`` is the exact cost on one image of ``site.size``, in plain integers. A module names those of
    its own parameters that are scales in a class attribute ``undecayed``; they get no weight decay (`nas.decay`).

    ``shows(module, x)``, if there is one, gives what the module's attention looks at in the map ``x`` that it gets, as
    typed maps (`nas.operators.shown`). The module is in evaluation mode, without gradients; nothing of it or of ``x``
    changes.

    ``start(module, replaced)``, if there is one, sets parameters for a module that is inserted into a trained network:
    it then computes what was there before (the input, or the convolution), times a constant above 0, for every input.
    Returns the constant, which the layers around it undo, or None if the module only comes near to what was there.
    Every parameter must get a gradient within two steps.
    """

    build: Callable[[Site, Resolved], nn.Module]
    cost: Callable[[Site, Resolved], Cost]
    shows: Callable[[nn.Module, Tensor], Maps] | None = None
    start: Callable[[nn.Module, Replaced], float | None] | None = None


def recording() -> bool:
    """Whether the program is being recorded by `torch.export`, ONNX or `torch.jit.trace`.

    A recorded program must run without this package, so it may use only ATen operators. It should also work for other
    sizes, so it must not branch on a size.
    """
    return torch.compiler.is_exporting() or torch._C._is_tracing()


def fixed(*sizes: object) -> bool:
    """Whether all sizes are plain integers. They are symbols while a program with dynamic sizes is recorded."""
    return all(type(size) is int for size in sizes)


class BatchNorm(nn.BatchNorm2d):
    """BN for operators. On maps of one pixel, such as means over positions, a batch of one image has no variance.

    Raises ValueError for such a batch in training. PyTorch's own error names neither the reason nor the remedy.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        if self.training and fixed(*x.shape) and x.shape[0] == x.shape[2] == x.shape[3] == 1:
            raise ValueError(
                "training with a batch of 1 image: BN has a single value per channel here, [1, "
                f"{x.shape[1]}, 1, 1], and no variance to normalise by; take 2 images or more (drop the last batch if "
                "it is smaller)"
            )
        return super().forward(x)


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution that runs as a matrix product on maps of a single position.

    There the product is several times faster, because a convolution on the CPU converts the layout of its weights in
    every call. The layers that compute channel factors from channel means use this class.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]."""
        if not recording() and x.shape[2:] == (1, 1):
            return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        return super().forward(x)


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution with "same" padding, initialised for a ReLU after it (He et al., 2015; fan-out)."""
    kind = _Pointwise if kernel_size == stride == groups == 1 else nn.Conv2d
    layer = kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def zero(*layers: nn.Module) -> None:
    """Sets weights and biases to zero, so that the layers give zero for every input."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def conv_cost(
    in_channels: int, out_channels: int, kernel_size: int, out_size: int, groups: int = 1, bias: bool = False
) -> Cost:
    """Cost of `conv`; ``out_size`` is the side of the output map."""
    weights = in_channels // groups * out_channels * kernel_size**2
    return Cost(weights + bias * out_channels, weights * out_size**2)


def norm_cost(channels: int) -> Cost:
    """Cost of a BatchNorm2d with scale and shift. FLOP counters do not count the normalisation."""
    return Cost(2 * channels, 0)


def without_autocast(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorator for a CPU kernel that chooses its own types, so that autocast does not cast the products in it."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return run
