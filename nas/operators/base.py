"""What every operator is made of: its two functions, its cost, and the layers that several of them share."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.sites import Site, Value

_P = ParamSpec("_P")
_R = TypeVar("_R")

Resolved: TypeAlias = Mapping[str, Value]
"""What an option resolved to at a site (`search_spaces.Option.resolve`)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one image: ``params`` trainable parameters, ``macs`` multiply-adds.

    Multiply-adds are those of convolutions, linear layers and matrix products, attention's two products included: half
    of what `torch.utils.flop_counter.FlopCounterMode` counts. Costs add.
    """

    params: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True, slots=True)
class Operator:
    """The half of an option that needs torch.

    ``build(site, resolved)`` makes the module, initialised and in training mode: [N, in_channels, H, W] ->
    [N, out_channels, H', W'] with H' = ceil(H / stride). H and W are ``site.size`` in training, but need not be.
    ``cost(site, resolved)`` is its exact cost on one image of ``site.size``, in plain integers. A module whose own
    parameters are scales names them in a class attribute ``undecayed``: weight decay spares them (`nas.decay`).
    """

    build: Callable[[Site, Resolved], nn.Module]
    cost: Callable[[Site, Resolved], Cost]


def recording() -> bool:
    """Whether the program is being written down, by `torch.export`, ONNX or `torch.jit.trace`.

    What is written down has to run without this package, so it is made of ATen operators alone; and it should hold for
    other sizes too, so it must not ask what a size is.
    """
    return torch.compiler.is_exporting() or torch._C._is_tracing()


def fixed(*sizes: object) -> bool:
    """Whether sizes are plain integers. A program that is being recorded may leave them open."""
    return all(type(size) is int for size in sizes)


class BatchNorm(nn.BatchNorm2d):
    """BN in an operator, whose maps can be means over positions: there a batch of one image has no spread.

    Raises ValueError for that batch in training, where PyTorch's own error names neither the reason nor the remedy.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        if self.training and fixed(*x.shape) and x.shape[0] == x.shape[2] == x.shape[3] == 1:
            raise ValueError(
                "training with a batch of 1 image: BN has a single value a channel here, [1, "
                f"{x.shape[1]}, 1, 1], and no spread to normalise by; take 2 images or more (drop the last batch if "
                "it is smaller), or call eval()"
            )
        return super().forward(x)


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution, which over a single position is a product with a matrix.

    As that it costs a fraction: on the CPU a convolution brings its weights into another layout every time. What
    excites channels from their means is made of these.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]."""
        if not recording() and x.shape[2:] == (1, 1):
            return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        return super().forward(x)


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution with "same" padding, initialised for the ReLU behind it (He et al., 2015; fan-out)."""
    kind = _Pointwise if kernel_size == stride == groups == 1 else nn.Conv2d
    layer = kind(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def conv_cost(
    in_channels: int, out_channels: int, kernel_size: int, out_size: int, groups: int = 1, bias: bool = False
) -> Cost:
    """Of `conv` on a map whose output has side ``out_size``."""
    weights = in_channels // groups * out_channels * kernel_size**2
    return Cost(weights + bias * out_channels, weights * out_size**2)


def norm_cost(channels: int) -> Cost:
    """Of a BatchNorm2d with scale and shift; normalising multiplies nothing that FLOP counters count."""
    return Cost(2 * channels, 0)


def without_autocast(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a CPU kernel that chooses its types itself: autocast would cast the products inside it again."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return run
