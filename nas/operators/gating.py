"""Fast parts shared by the operators that scale their input: means over the map, and the product with a factor.

The plain form of these operators reads and writes the whole map too often. There are three remedies:

- The input has two uses, the means and the product. Autograd would write both gradients and then add them. `squeeze`
  and `pooled` return both uses from one node, so that the smaller gradient is added in place.
- On the CPU, PyTorch's pooling is not vectorised. As a product with a small matrix it takes a tenth of the time
  (`pooled`).
- The sum with a block's shortcut would read the product again. A `Merging` operator takes the shortcut as an argument
  and computes product and sum in one step.

`torch.compile`, recorded programs (`nas.operators.base.recording`) and derivatives beyond the first
(`nas.operators.derivatives`) use the plain formulas.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from nas.operators.base import recording, without_autocast
from nas.operators.derivatives import Context, by_formula, differentiates, transformed
from nas.operators.shown import ChannelGates, Maps, SpatialGates

_SINGLE = {torch.float32, torch.float64}
"""Types in which a sum over a map does not overflow and 1 / count is accurate enough to multiply by."""

_CPU = {"cpu", "meta"}
"""Devices that use the CPU kernels. On meta tensors they compute nothing, but their operations can be counted."""

_AT_ONCE = 1 << 15
"""Largest matrix, in numbers, that pools both dimensions in one product. Beyond it, each dimension has its product."""

_CHUNK = 1 << 19
"""How many numbers of a product are computed and summed at a time: 2 MiB of float32."""

Linear = Callable[[Tensor], Tensor]


class Merging(nn.Module):
    """An operator for the end of a residual branch that can add the shortcut itself."""

    @abstractmethod
    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """[N, C, H, W], and a shortcut of the same shape or None -> the operator's output plus the shortcut."""


OPEN = 3.0
"""Logit of a gate that starts open. sigmoid(3) = 0.95: nearly the identity, where the sigmoid still has a gradient."""


class Gate(Merging):
    """x * factor, where the factor is a function of x."""

    @abstractmethod
    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> the two tensors to multiply: x, and a factor that broadcasts with it."""

    def open(self, logit: float) -> None:
        """Sets parameters so that the factor starts near sigmoid(logit); `nas.quick_start` calls it.

        By default nothing changes: the factor has no parameters, or it is not below 1 from the start.
        """

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        x, factor = self.gate(x)
        if differentiates(x):
            out: Tensor = _Gated.apply(x, factor, shortcut)
            return out
        return x * factor if shortcut is None else torch.addcmul(shortcut, x, factor)


def show_gate(module: nn.Module, x: Tensor, *, low: float = 0.0) -> Maps:
    """The factor of a `Gate` at the map ``x``, which is between ``low`` and ``low + 1``.

    Channels are shown by their means over positions. Where the factor differs between positions, these are shown too.
    """
    assert isinstance(module, Gate)
    factor = module.gate(x)[1]  # [N, C, 1, 1] or [N, C, H, W]
    maps: Maps = {"channels": ChannelGates(factor.mean((2, 3)), low, low + 1)}
    if factor.shape[2:] == (1, 1):
        return maps
    return {**maps, "positions": SpatialGates(factor.mean(1, keepdim=True), low, low + 1)}


def refined_sum(refine: nn.Module, x: Tensor, shortcut: Tensor) -> Tensor:
    """refine(x) + shortcut."""
    out: Tensor = refine(x, shortcut) if isinstance(refine, Merging) else refine(x) + shortcut
    return out


def squeeze(x: Tensor) -> tuple[Tensor, Tensor]:
    """The means over the positions of a map, and the map itself.

    Args:
        x: [N, C, H, W].

    Returns:
        The means, [N, C, 1, 1], and ``x``. Use the returned ``x``, and only in products and convolutions: its gradient
        is modified in place, but in a sum ``x + y`` the same gradient tensor also belongs to ``y``.
    """
    if not differentiates(x):
        return _mean(x), x
    mean, passed = _Squeeze.apply(x)
    return mean, passed


def pooled(x: Tensor, line: Linear, plane: Linear) -> tuple[Tensor, Tensor]:
    """``plane(x)`` and ``x``. Use the returned ``x``: its gradient is modified in place (see `squeeze`).

    Args:
        x: [N, C, H, W].
        line: a linear pooling in one dimension, [B, 1, L] -> [B, 1, L'].
        plane: the same pooling along rows and columns, [N, C, H, W] -> [N, C, H', W']; used where it is faster than
            matrix products.
    """
    looked_on = torch.compiler.is_compiling() or recording() or transformed()
    if x.device.type not in _CPU or x.dtype not in _SINGLE or looked_on:
        return plane(x), x
    matrices = {side: line(torch.eye(side, dtype=x.dtype, device=x.device)[:, None])[:, 0] for side in {*x.shape[2:]}}
    rows, columns = (matrices[side] for side in x.shape[2:])
    if not differentiates(x):
        return _resample(x, rows, columns), x
    small, passed = _Pool.apply(x, rows, columns)
    return small, passed


class _GatingContext(Context, Protocol):
    shape: torch.Size
    shortcut_dtype: torch.dtype | None


# The gate ------------------------------------------------------------------------------------------------------------


class _Gated(torch.autograd.Function):
    """(x, factor, shortcut) -> x * factor + shortcut. PyTorch's own gradient needs three products of full size."""

    @staticmethod
    def forward(ctx: _GatingContext, x: Tensor, factor: Tensor, shortcut: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, factor)
        ctx.shortcut_dtype = None if shortcut is None else shortcut.dtype
        return x * factor if shortcut is None else torch.addcmul(shortcut, x, factor)

    @staticmethod
    def backward(ctx: _GatingContext, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, factor = ctx.saved_tensors
        by_shortcut = None if ctx.shortcut_dtype is None else grad.to(ctx.shortcut_dtype)
        return (grad * factor).to(x.dtype), _summed_product(grad, x, factor).to(factor.dtype), by_shortcut


def _summed_product(grad: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """grad * x, summed to the shape of ``factor``."""
    by_channel = factor.shape == (*x.shape[:2], 1, 1)
    by_parts = by_channel and grad.dtype == x.dtype and x.device.type in _CPU
    if not by_parts or by_formula(grad) or len(x) == 0:
        return (grad * x).sum_to_size(factor.shape)
    # A few images at a time, so that the product stays in the cache.
    images = min(len(x), max(1, _CHUNK // x.shape[1:].numel()))
    buffer, sums = torch.empty_like(x[:images]), torch.empty_like(factor)
    for first in range(0, len(x), images):
        part = slice(first, first + images)
        product = torch.mul(grad[part], x[part], out=buffer[: len(x[part])])
        torch.sum(product, (2, 3), keepdim=True, out=sums[part])
    return sums


# The mean ------------------------------------------------------------------------------------------------------------


def _mean(x: Tensor) -> Tensor:
    if x.dtype in _SINGLE:  # a sum over two dimensions is vectorised on the CPU, a mean is not
        return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
    return x.mean((2, 3), keepdim=True)


class _Squeeze(torch.autograd.Function):
    """x -> (mean of x, x)."""

    @staticmethod
    def forward(ctx: _GatingContext, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = x.shape
        ctx.set_materialize_grads(False)
        return _mean(x), x

    @staticmethod
    def backward(ctx: _GatingContext, by_mean: Tensor | None, grad: Tensor | None) -> Tensor | None:
        if by_mean is None:
            return grad
        share = by_mean / (ctx.shape[2] * ctx.shape[3])
        if grad is None:
            return share.expand(ctx.shape)
        return grad + share if by_formula(by_mean, grad) else grad.add_(share)


# Pooling by products -------------------------------------------------------------------------------------------------


class _Pool(torch.autograd.Function):
    """(x, rows, columns) -> (rows' x columns of every channel, x)."""

    @staticmethod
    def forward(ctx: _GatingContext, x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = x.shape
        ctx.save_for_backward(rows, columns)
        ctx.set_materialize_grads(False)
        return _resample(x, rows, columns), x

    @staticmethod
    def backward(ctx: _GatingContext, by_small: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, None, None]:
        if by_small is None:
            return grad, None, None
        rows, columns = ctx.saved_tensors
        if by_formula(by_small, grad):
            by_x = torch.matmul(torch.matmul(rows, by_small), columns.t())
            return by_x if grad is None else grad + by_x, None, None
        if grad is None:
            return _resample(by_small, rows.t(), columns.t()), None, None
        _add_resampled(grad, by_small, rows, columns)
        return grad, None, None


def _at_once(rows: Tensor, columns: Tensor) -> bool:
    return rows.numel() * columns.numel() <= _AT_ONCE


def _kron(rows: Tensor, columns: Tensor) -> Tensor:
    """The Kronecker product. torch.kron fails on some transposed matrices, and on single rows or columns."""
    products = rows[:, None, :, None] * columns[None, :, None, :]
    return products.reshape(rows.shape[0] * columns.shape[0], -1)


@torch.library.custom_op("attention_nas::resample", mutates_args=(), device_types="cpu")
@without_autocast
def _resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[N, C, H, W], [H, H'], [W, W'] -> [N, C, H', W']."""
    n, c, h, w = x.shape
    height, width = rows.shape[1], columns.shape[1]
    if x.is_contiguous():
        if _at_once(rows, columns):
            return (x.view(n * c, h * w) @ _kron(rows, columns)).view(n, c, height, width)
        return torch.matmul(torch.matmul(rows.t(), x.view(n * c, h, w)), columns).view(n, c, height, width)
    lines = torch.matmul(rows.t(), x.permute(0, 2, 3, 1).reshape(n, h, w * c))  # [N, H', W C]
    out = torch.matmul(columns.t(), lines.view(n * height, w, c)).view(n, height, width, c)
    return out.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


@_resample.register_fake
def _(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    out = x.new_empty(*x.shape[:2], rows.shape[1], columns.shape[1])
    return out if x.is_contiguous() else out.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("attention_nas::add_resampled", mutates_args=("grad",), device_types="cpu")
@without_autocast
def _add_resampled(grad: Tensor, small: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Adds ``rows @ small @ columns.T`` of every channel, [N, C, H, W], to ``grad``; ``small`` is [N, C, H', W']."""
    n, c, h, w = grad.shape
    if grad.is_contiguous() and _at_once(rows, columns):
        flat = small.reshape(n * c, math.prod(small.shape[2:]))
        grad.view(n * c, h * w).addmm_(flat, _kron(rows, columns).t())
    elif grad.is_contiguous():
        lines = torch.matmul(rows, small.reshape(n * c, *small.shape[2:]))  # [N C, H, W']
        grad.view(n * c, h, w).baddbmm_(lines, columns.t().expand(n * c, -1, -1))
    else:
        grad.add_(_resample(small, rows.t(), columns.t()))


@_add_resampled.register_fake
def _(grad: Tensor, small: Tensor, rows: Tensor, columns: Tensor) -> None:
    del grad, small, rows, columns
