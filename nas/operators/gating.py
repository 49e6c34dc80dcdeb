"""What operators that weigh their input share: means over the map, and the product that ends in a block's sum.

Two habits of such operators cost more than their arithmetic, because they pass over the whole map:

- The input is used twice, for means and in a product, and autograd adds the two gradients after each has been written
  out. `squeeze` hands both uses out of one node, so that the gradient of the means is added in place.
- The product is written out, and read again by the sum with a block's shortcut. A `Merging` operator takes the shortcut
  along and makes product and sum at once.

`torch.compile` and `torch.export` see the plain formulas.
"""

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators.base import without_autocast

_SINGLE = {torch.float32, torch.float64}
"""Types whose sums over a map stay in range, and whose reciprocals of counts are exact enough to multiply by."""


class Merging(nn.Module):
    """An operator for the end of a residual branch that can add the shortcut itself."""

    @abstractmethod
    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """[N, C, H, W], and as much of a shortcut -> the operator's output, plus the shortcut."""


class Gate(Merging):
    """x * factor, where the factor is a function of x."""

    @abstractmethod
    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> what is to be multiplied: x and a factor that broadcasts with it."""

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        x, factor = self.gate(x)
        return x * factor if shortcut is None else torch.addcmul(shortcut, x, factor)


def refined_sum(refine: nn.Module, x: Tensor, shortcut: Tensor) -> Tensor:
    """refine(x) + shortcut."""
    out: Tensor = refine(x, shortcut) if isinstance(refine, Merging) else refine(x) + shortcut
    return out


def squeeze(x: Tensor, size: int = 1) -> tuple[Tensor, Tensor]:
    """Means over ``size`` x ``size`` bins of a map, and the map itself.

    Args:
        x: [N, C, H, W].
        size: bins a side, as `torch.nn.functional.adaptive_avg_pool2d` cuts them.

    Returns:
        The means, [N, C, size, size], and ``x``. Let the latter go through products or convolutions: its gradient is
        written to, and that of a sum, ``x + y``, belongs to ``y`` as well.
    """
    plain = torch.compiler.is_compiling() or (size > 1 and not _by_product(x))
    if plain or not (torch.is_grad_enabled() and x.requires_grad):
        return _means(x, size), x
    means, passed = _Squeeze.apply(x, size)
    return means, passed


def _by_product(x: Tensor) -> bool:
    return x.device.type in {"cpu", "meta"} and x.dtype in _SINGLE and not torch.compiler.is_compiling()


def _means(x: Tensor, size: int) -> Tensor:
    if size > 1:
        means: Tensor = _bin_means(x, size) if _by_product(x) else F.adaptive_avg_pool2d(x, size)
        return means
    if x.dtype in _SINGLE:  # a sum over two dimensions is vectorised on the CPU, a mean is not
        return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
    return x.mean((2, 3), keepdim=True)


class _Context(Protocol):
    shape: torch.Size

    def set_materialize_grads(self, value: bool, /) -> None: ...


class _Squeeze(torch.autograd.Function):
    """x -> (means of x, x)."""

    @staticmethod
    def forward(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
        return _means(x, size), x

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        del output
        ctx.shape = inputs[0].shape
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _Context, grad_means: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, None]:
        if grad_means is None:
            return grad, None
        if grad is None:
            grad = grad_means.new_zeros(ctx.shape)
        if grad_means.shape[2] > 1:
            _add_bin_gradients(grad, grad_means)
            return grad, None
        share = grad_means / (ctx.shape[2] * ctx.shape[3])
        return (grad + share if torch.is_grad_enabled() else grad.add_(share)), None


# Bins, by one product over positions: many times as fast as adaptive pooling, which goes number by number -------------


def _bins(height: int, width: int, size: int, like: Tensor) -> Tensor:
    """The share of every position in the mean of every bin: [H W, size^2]."""
    sides = []
    for length in (height, width):
        side = like.new_zeros(length, size)
        for i in range(size):
            start, stop = i * length // size, -(-(i + 1) * length // size)
            side[start:stop, i] = 1 / (stop - start)
        sides.append(side)
    return torch.kron(*sides)


@torch.library.custom_op("attention_nas::bin_means", mutates_args=(), device_types="cpu")
@without_autocast
def _bin_means(x: Tensor, size: int) -> Tensor:
    """[N, C, H, W] -> [N, C, size, size]."""
    n, c, h, w = x.shape
    bins = _bins(h, w, size, x)
    if x.is_contiguous():
        return (x.view(n * c, h * w) @ bins).view(n, c, size, size)
    rows = x.permute(0, 2, 3, 1).reshape(n, h * w, c)  # a view of a channels_last map
    return torch.matmul(bins.t(), rows).transpose(1, 2).reshape(n, c, size, size)


@_bin_means.register_fake
def _(x: Tensor, size: int) -> Tensor:
    return x.new_empty(*x.shape[:2], size, size)


@torch.library.custom_op("attention_nas::add_bin_gradients", mutates_args=("grad",), device_types="cpu")
@without_autocast
def _add_bin_gradients(grad: Tensor, grad_means: Tensor) -> None:
    """Add the gradient of `_bin_means` to ``grad``, [N, C, H, W]."""
    n, c, h, w = grad.shape
    bins = _bins(h, w, grad_means.shape[2], grad)
    if grad.is_contiguous():
        grad.view(n * c, h * w).addmm_(grad_means.reshape(n * c, -1), bins.t())
    elif grad.is_contiguous(memory_format=torch.channels_last):
        rows = grad.permute(0, 2, 3, 1).view(n, h * w, c)
        rows.baddbmm_(bins.expand(n, -1, -1), grad_means.flatten(2).transpose(1, 2))
    else:
        grad.add_((grad_means.reshape(n * c, -1) @ bins.t()).view(grad.shape))


@_add_bin_gradients.register_fake
def _(grad: Tensor, grad_means: Tensor) -> None:
    del grad, grad_means
