"""An Attention Module for Convolutional Neural Networks (Zhu, Hofstee, Lee, Al-Ars; 2021) - https://arxiv.org/abs/2108.08205

``aw``: every image has its own kernel, K + A * K (Eq. 6), with A = sigmoid(BN(W2 relu(BN(W1 avgpool_kxk(x))))) of shape
[C_out, k, k], expanded over the input channels (Eq. 7 and 8 with the paper's r_C1 = C_1, r_C2 = r_hw = 1, r = 16).

Consulted: only the paper; the authors' code was not available. Deviations: none known. The pointwise convolutions W1
and W2 have no bias: the printed parameters (+0.165 M on ResNet-50) include none.

A does not depend on the input channel. So the operator is a sum over taps t (positions in the kernel) of scaled
convolutions:

    out[n, p] = sum over taps t of (1 + A[n, p, t]) * shift_t(conv1x1(x[n], K[p, :, t])).

There are two exact forms. Each image needs k^2 C_in C_out weights in the first, and k^2 C_out maps of H' W' positions
in the second; `_by_kernels` chooses the cheaper one:

- **kernels** (H' W' > 2 C_in): makes the kernels of a few images at a time and applies them by one grouped convolution.
  The backward pass makes them again, so that there are never more than `_WEIGHTS` weights.
- **maps** (otherwise): one 1x1 convolution per tap, whose results are scaled, shifted and summed. A's gradient needs
  the maps again. Training keeps them if they are small (`_keeps_maps`); otherwise A's gradient is computed from each
  image's gradient of its own kernel.

On the CPU both forms are in one operator, ``attention_nas::aw_conv``, with a hand-written gradient. Other devices,
recorded programs (`torch.export`, ONNX, `torch.jit.trace`) and derivatives beyond the first
(`nas.operators.derivatives`) use public ATen operators. A 1x1 kernel has a single tap: a plain convolution, then a
product. FLOP counters count one convolution.

Raises: the attention of a 1x1 kernel has one value per channel and image, so training on a batch of one image raises
ValueError.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from nas.operators.base import (
    BatchNorm,
    Cost,
    Operator,
    Replaced,
    Resolved,
    conv,
    conv_cost,
    norm_cost,
    recording,
    without_autocast,
    zero,
)
from nas.operators.derivatives import Context, by_formula, formula_gradients, transformed
from nas.operators.gating import pooled
from nas.operators.shown import ChannelGates, Maps
from search_spaces.sites import Site

_WEIGHTS = 1 << 23
"""Largest number of kernel weights at a time: 32 MiB of float32. Smaller groups copy results and repeat fixed work."""

_NUMBERS = 1 << 22
"""Largest number of input values at a time, 16 MiB of float32: a convolution of more does not fit into the caches.
With a stride, the limit applies to the output; in larger groups the gradient takes 1.5 times as long."""

Window = tuple[slice, slice]

_ROWS = 1600
"""Number of positions (rows of the matrix products) at a time in the form "maps", so that results stay in the cache."""


def scaled_conv(x: Tensor, weight: Tensor, scale: Tensor, stride: int = 1) -> Tensor:
    """Convolve every image with its own kernel ``weight * scale[n]``, "same" padding.

    Args:
        x: [N, C_in, H, W].
        weight: [C_out, C_in, k, k], k odd.
        scale: [N, C_out, k, k], without zeros: a gradient divides by it.
        stride: of the convolution.

    Returns:
        [N, C_out, ceil(H / stride), ceil(W / stride)].
    """
    kernel = weight.shape[-1]
    if kernel == 1:
        return F.conv2d(x, weight, stride=stride) * scale
    if x.device.type in {"cpu", "meta"} and not recording() and not transformed():
        training = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or scale.requires_grad)
        mixed: Tensor = _aw_conv(x, weight, scale, stride, training)[0]
        return mixed
    return _formula(x, weight, scale, stride)


def _formula(x: Tensor, weight: Tensor, scale: Tensor, stride: int) -> Tensor:
    """`scaled_conv` for k > 1 by public operators."""
    weight, scale = weight.to(x.dtype), scale.to(x.dtype)
    n, c_in, h, w = x.shape
    kernel = weight.shape[-1]
    rows, columns = _out_size(x.shape, stride)
    if not recording() and _by_kernels(rows * columns, c_in):
        kernels = (weight * scale.unsqueeze(2)).flatten(0, 1)
        out = F.conv2d(x.reshape(1, n * c_in, h, w), kernels, stride=stride, padding=kernel // 2, groups=n)
        return out.reshape(n, -1, *out.shape[2:])
    border, total = kernel // 2, None
    padded = F.pad(x, [border] * 4)
    for y in range(kernel):
        for z in range(kernel):
            # Cropped by a negative pad, not by a slice up to the size: what is recorded can leave the size open.
            read, tap = F.pad(padded, (-z, z - 2 * border, -y, y - 2 * border)), weight[:, :, y : y + 1, z : z + 1]
            part = F.conv2d(read, tap, stride=stride) * scale[:, :, y : y + 1, z : z + 1]
            total = part if total is None else total + part
    assert total is not None  # a kernel has taps
    return total


def _by_kernels(positions: int, in_channels: int) -> bool:
    return positions > 2 * in_channels


def _keeps_maps(positions: int, in_channels: int) -> bool:
    # Implies that `_by_kernels` is false; the form "kernels" has no maps.
    return 4 * positions <= in_channels


def _maps_shape(weight: Tensor, images: int, size: tuple[int, int]) -> tuple[int, ...]:
    """[k^2, N, H', W', C_out]."""
    return weight.shape[2] * weight.shape[3], images, *size, weight.shape[0]


def _cut(n: int, size: int) -> Iterator[slice]:
    """Even parts of at most ``size``."""
    size = -(-n // max(1, -(-n // size)))
    for first in range(0, n, max(1, size)):
        yield slice(first, min(n, first + size))


def _taps(kernel: int, stride: int, height: int, width: int) -> Iterator[tuple[int, int, Window, Window]]:
    """For every tap, the middle one first: its index, its phase (`_phases`), the window of the ``height`` x ``width``
    output that it writes, and the window of the phase that it reads."""
    reach = kernel // 2
    offsets = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    for y, x in sorted(offsets, key=lambda offset: offset != (0, 0)):
        (down, row), (right, column) = divmod(y, stride), divmod(x, stride)
        write = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
        read = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
        if write[0].start < write[0].stop and write[1].start < write[1].stop:
            yield (y + reach) * kernel + x + reach, row * stride + column, write, read


def _rims(window: Window, height: int, width: int) -> Iterator[tuple[int, slice]]:
    """The parts of [N, height, width, C] outside a window, as (dimension, slice)."""
    for dim, inside, size in ((1, window[0], height), (2, window[1], width)):
        for rim in (slice(0, inside.start), slice(inside.stop, size)):
            if rim.start < rim.stop:
                yield dim, rim


def _memory_format(x: Tensor) -> torch.memory_format:
    dense = x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
    return torch.contiguous_format if dense else torch.channels_last


# Kernels -------------------------------------------------------------------------------------------------------------


def _tiled(scale: Tensor, in_channels: int) -> Tensor:
    """[N, C_out, k, k] -> [N, C_out, 1, r k^2] with r a divisor of C_in, so that rows are long enough to vectorise."""
    n, channels, kernel, _ = scale.shape
    repeat = math.gcd(in_channels, 16)
    return scale.reshape(n, channels, 1, 1, kernel**2).expand(-1, -1, -1, repeat, -1).reshape(n, channels, 1, -1)


def _group(x: Tensor, weight: Tensor, stride: int) -> int:
    # Grouping images along the channels needs contiguous images; channels_last images go one by one.
    images = min(_WEIGHTS // weight.numel(), _NUMBERS // stride**2 // x[0].numel())
    return max(1, images) if x.is_contiguous() else 1


def _joined(parts: Sequence[Tensor], x: Tensor) -> Tensor:
    """The concatenated parts of a batch in the memory format of ``x``; a single part is not copied.

    The result is never a view: an operator must not return one, because writing to it in place would raise an error.
    """
    whole = torch.ops.aten._unsafe_view(parts[0], parts[0].shape) if len(parts) == 1 else torch.cat(list(parts))
    return whole.contiguous(memory_format=_memory_format(x))


def _kernels_forward(x: Tensor, weight: Tensor, scale: Tensor, stride: int) -> Tensor:
    n, c_in, h, w = x.shape
    c_out, _, kernel, _ = weight.shape
    parts = []
    tiled = _tiled(scale, c_in)
    rows = weight.contiguous().view(c_out, -1, tiled.shape[-1])
    for part in _cut(n, _group(x, weight, stride)):
        size = part.stop - part.start
        kernels = (rows * tiled[part]).view(size * c_out, c_in, kernel, kernel)
        images = x[part] if size == 1 else x[part].view(1, size * c_in, h, w)
        result = F.conv2d(images, kernels, stride=stride, padding=kernel // 2, groups=size)
        parts.append(result.view(size, c_out, *result.shape[2:]) if size > 1 else result)
    return _joined(parts, x)


def _kernels_backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    n, c_in, h, w = x.shape
    c_out, _, kernel, _ = weight.shape
    grad = grad.contiguous(memory_format=_memory_format(x))
    tiled = _tiled(scale, c_in)
    rows = weight.contiguous().view(c_out, -1, tiled.shape[-1])
    parts, grad_rows, grad_tiled = [], torch.zeros_like(rows), torch.empty_like(tiled)
    for part in _cut(n, _group(x, weight, stride)):
        size = part.stop - part.start
        kernels = rows * tiled[part]
        images, grads = x[part], grad[part]
        if size > 1:
            images, grads = images.view(1, size * c_in, h, w), grads.view(1, size * c_out, *grad.shape[2:])
        grad_images, grad_kernels, _ = torch.ops.aten.convolution_backward(
            grads, images, kernels.view(size * c_out, c_in, kernel, kernel), None,
            [stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], size, [True, True, False],
        )  # fmt: skip
        parts.append(grad_images.view(size, c_in, h, w) if size > 1 else grad_images)
        grad_kernels = grad_kernels.contiguous().view(kernels.shape)
        torch.sum(torch.mul(grad_kernels, rows, out=kernels), 2, keepdim=True, out=grad_tiled[part])
        for one, by in zip(grad_kernels, tiled[part], strict=True):
            grad_rows.addcmul_(one, by)
    grad_scale = grad_tiled.view(n, c_out, -1, kernel, kernel).sum(2)
    return _joined(parts, x), grad_rows.view(weight.shape), grad_scale


# Maps ----------------------------------------------------------------------------------------------------------------


def _phases(x: Tensor, stride: int) -> Tensor:
    """[N, C, H, W] -> [s^2, N, H', W', C]: pixel (i s + r, j s + c) is at (i, j) of phase r s + c, padded with zeros.

    A tap of a convolution with stride s reads one phase, shifted by whole pixels.
    """
    n, c, h, w = x.shape
    if h % stride or w % stride:
        x = F.pad(x, (0, -w % stride, 0, -h % stride))
    cut = x.reshape(n, c, -(-h // stride), stride, -(-w // stride), stride)
    return cut.permute(3, 5, 0, 2, 4, 1).contiguous().flatten(0, 1)


def _from_phases(phases: Tensor, stride: int, like: Tensor) -> Tensor:
    """The inverse of `_phases`, in shape and memory format of ``like``."""
    _, n, h, w, c = phases.shape
    whole = phases.view(stride, stride, n, h, w, c).permute(2, 5, 3, 0, 4, 1)
    return whole.reshape(n, c, h * stride, w * stride)[:, :, : like.shape[2], : like.shape[3]]


def _by_tap(weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """[C_out, C_in, k, k] -> [k^2, C_out, C_in]; [N, C_out, k, k] -> [k^2, N, 1, 1, C_out]."""
    scales = scale.permute(2, 3, 0, 1).reshape(-1, len(scale), 1, 1, len(weight))
    return weight.permute(2, 3, 0, 1).flatten(0, 1).contiguous(), scales.contiguous()


def _maps_forward(x: Tensor, weight: Tensor, scale: Tensor, stride: int, keep: bool) -> tuple[Tensor, Tensor]:
    """The output and, with ``keep``, the maps: [k^2, N, H', W', C_out]."""
    n, (h, w) = x.shape[0], _out_size(x.shape, stride)
    c_out, c_in, kernel, _ = weight.shape
    taps, scales = _by_tap(weight, scale)
    result = torch.empty(n, c_out, h, w, dtype=x.dtype, memory_format=_memory_format(x))
    maps = x.new_empty(_maps_shape(weight, n, (h, w)) if keep else (0,))
    for part in _cut(n, max(1, _ROWS // (h * w))):
        images = _phases(x[part], stride)
        out = x.new_empty(*images.shape[1:4], c_out)
        buffer = None if keep else torch.empty_like(out)
        for index, (tap, phase, write, read) in enumerate(_taps(kernel, stride, h, w)):
            plane = maps[tap, part] if buffer is None else buffer
            torch.mm(images[phase].view(-1, c_in), taps[tap].t(), out=plane.view(-1, c_out))
            if index == 0:
                torch.mul(plane, scales[tap, part], out=out)
            else:
                out[:, *write].addcmul_(plane[:, *read], scales[tap, part])
        result[part] = out.permute(0, 3, 1, 2)
    return result, maps


def _maps_backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, maps: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    n, c_out, h, w = grad.shape
    c_in, kernel = weight.shape[1:3]
    taps, scales = _by_tap(weight, scale)
    grad_taps, grad_scales = torch.zeros_like(taps), torch.zeros_like(scales)
    kept = maps.numel() > 0
    result = torch.empty_like(x)
    for part in _cut(n, max(1, _ROWS // (h * w))):
        images, grads = _phases(x[part], stride), _phases(grad[part], 1)[0]
        size, ones = len(grads), x.new_ones(len(grads))
        grad_images, shifted = torch.zeros_like(images), torch.empty_like(grads)
        rows = shifted.view(-1, c_out)
        products = x.new_empty(grads.numel() if kept else size * c_out * c_in)
        for tap, phase, write, read in _taps(kernel, stride, h, w):
            source, by, grad_scale = images[phase].view(-1, c_in), scales[tap, part], grad_scales[tap, part]
            # The gradient of the window that this tap read; it is zero outside.
            for dim, rim in _rims(read, h, w):
                shifted.narrow(dim, rim.start, rim.stop - rim.start).zero_()
            torch.mul(grads[:, *write], by, out=shifted[:, *read])
            if kept:
                mapped = maps[tap, part][:, *read]
                product = torch.mul(grads[:, *write], mapped, out=products[: mapped.numel()].view(mapped.shape))
                torch.sum(product, (1, 2), keepdim=True, out=grad_scale)
                grad_taps[tap].addmm_(rows.t(), source)
            else:
                # own: every image's gradient of its kernel, times its scale; grad_scale divides by the scale again.
                own = products.view(size, c_out, c_in)
                torch.bmm(rows.view(size, -1, c_out).transpose(1, 2), source.view(size, -1, c_in), out=own)
                grad_taps[tap].view(-1).addmv_(own.view(size, -1).t(), ones)
                dots = torch.bmm(taps[tap].unsqueeze(1), own.permute(1, 2, 0))
                torch.div(dots.view(c_out, size).t(), by.view(size, c_out), out=grad_scale.view(size, c_out))
            grad_images[phase].view(-1, c_in).addmm_(rows, taps[tap])
        result[part] = _from_phases(grad_images, stride, x)
    del taps  # frees the memory before a copy of the same size
    grad_weight = grad_taps.permute(1, 2, 0).contiguous().view(weight.shape)
    return result, grad_weight, grad_scales.view(kernel, kernel, n, c_out).permute(2, 3, 0, 1).contiguous()


# The operator --------------------------------------------------------------------------------------------------------


def _out_size(x: Sequence[int], stride: int) -> tuple[int, int]:
    return -(-x[2] // stride), -(-x[3] // stride)


@torch.library.custom_op("attention_nas::aw_conv", mutates_args=(), device_types="cpu")
@without_autocast
def _aw_conv(x: Tensor, weight: Tensor, scale: Tensor, stride: int, training: bool) -> tuple[Tensor, Tensor]:
    """The output of `scaled_conv`, and the maps for the backward pass (empty if they are not kept)."""
    weight, scale = weight.to(x.dtype), scale.to(x.dtype)
    x = x.contiguous(memory_format=_memory_format(x))
    size, c_in = _out_size(x.shape, stride), x.shape[1]
    positions = math.prod(size)
    kept = training and _keeps_maps(positions, c_in)
    if len(x) == 0:
        return x.new_empty(0, len(weight), *size), x.new_empty(_maps_shape(weight, 0, size) if kept else (0,))
    if _by_kernels(positions, c_in):
        return _kernels_forward(x, weight, scale, stride), x.new_empty(0)
    return _maps_forward(x, weight, scale, stride, kept)


@torch.library.custom_op("attention_nas::aw_conv_backward", mutates_args=(), device_types="cpu")
@without_autocast
def _aw_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, maps: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``weight`` and ``scale``."""
    dtypes = weight.dtype, scale.dtype
    weight, scale, grad = weight.to(x.dtype), scale.to(x.dtype), grad.to(x.dtype)
    x = x.contiguous(memory_format=_memory_format(x))
    if len(x) == 0:
        grads = torch.empty_like(x), torch.zeros_like(weight), torch.empty_like(scale)
    elif _by_kernels(math.prod(grad.shape[2:]), x.shape[1]):
        grads = _kernels_backward(grad, x, weight, scale, stride)
    else:
        grads = _maps_backward(grad, x, weight, scale, maps, stride)
    return grads[0], grads[1].to(dtypes[0]), grads[2].to(dtypes[1])


@_aw_conv.register_fake
def _(x: Tensor, weight: Tensor, scale: Tensor, stride: int, training: bool) -> tuple[Tensor, Tensor]:
    del scale
    n, c_in, _, _ = x.shape
    size = _out_size(x.shape, stride)
    out = x.new_empty(n, len(weight), *size).contiguous(memory_format=_memory_format(x))
    positions = math.prod(size)
    kept = training and _keeps_maps(positions, c_in)
    return out, x.new_empty(_maps_shape(weight, n, size) if kept else (0,))


@_aw_conv_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, maps: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    del grad, maps, stride
    grad_x = torch.empty_like(x).contiguous(memory_format=_memory_format(x))
    return grad_x, weight.new_empty(weight.shape), scale.new_empty(scale.shape)


class _ConvContext(Context, Protocol):
    stride: int


def _remember(
    ctx: _ConvContext, inputs: tuple[Tensor, Tensor, Tensor, int, bool], output: tuple[Tensor, Tensor]
) -> None:
    x, weight, scale, ctx.stride, _ = inputs
    ctx.set_materialize_grads(False)  # otherwise PyTorch allocates zeros as the gradient of the maps
    ctx.save_for_backward(x, weight, scale, output[1])


def _differentiate(ctx: _ConvContext, grad: Tensor | None, _grad_maps: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    if by_formula(grad):
        return *formula_gradients(partial(_formula, stride=ctx.stride), ctx.saved_tensors[:3], grad), None, None
    return *_aw_conv_backward(grad, *ctx.saved_tensors, ctx.stride), None, None


_aw_conv.register_autograd(_differentiate, setup_context=_remember)


@register_flop_formula(torch.ops.attention_nas.aw_conv)
def _flops(x: Sequence[int], weight: Sequence[int], _scale: object, stride: int, *_: object, **__: object) -> int:
    return 2 * x[0] * math.prod(weight) * math.prod(_out_size(x, stride))


@register_flop_formula(torch.ops.attention_nas.aw_conv_backward)
def _backward_flops(
    _grad: object, x: Sequence[int], weight: Sequence[int], scale: object, _maps: object, stride: int, **_: object
) -> int:
    return 2 * int(_flops(x, weight, scale, stride))  # the gradients of the input and of the kernel


class AWConv2d(nn.Module):
    """A convolution with attentional weights: [N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, hidden: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.reduce = conv(in_channels, hidden, 1)
        self.reduce_norm = BatchNorm(hidden)
        self.expand = conv(hidden, out_channels, 1)
        self.expand_norm = BatchNorm(out_channels)
        self.kernel_size = kernel_size
        self.stride = stride

    def attention(self, means: Tensor) -> Tensor:
        """Means over k x k bins, [N, C_in, k, k] -> [N, C_out, k, k], in (0, 1)."""
        hidden = torch.relu(self.reduce_norm(self.reduce(means)))
        return torch.sigmoid(self.expand_norm(self.expand(hidden)))

    def scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C_in, H, W] -> x and the factor of the kernel for each image, [N, C_out, k, k], in (1, 2)."""
        bins = self.kernel_size
        means, x = pooled(
            x, partial(F.adaptive_avg_pool1d, output_size=bins), partial(F.adaptive_avg_pool2d, output_size=bins)
        )
        return x, 1 + self.attention(means)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        x, scale = self.scale(x)
        # Autocast does not affect our own operator, so we use the type in which the attention's convolutions ran.
        out = scaled_conv(x.to(scale.dtype), self.conv.weight, scale, self.stride)
        return out if self.conv.bias is None else out + self.conv.bias.to(out.dtype).view(-1, 1, 1)


def aw_cost(in_channels: int, out_channels: int, kernel_size: int, out_size: int, hidden: int, *, bias: bool) -> Cost:
    """Cost of `AWConv2d`. Every image has its own kernel; applying it costs as much as the plain convolution."""
    return (
        conv_cost(in_channels, out_channels, kernel_size, out_size, bias=bias)
        + conv_cost(in_channels, hidden, 1, kernel_size)
        + norm_cost(hidden)
        + conv_cost(hidden, out_channels, 1, kernel_size)
        + norm_cost(out_channels)
    )


def _build(site: Site, resolved: Resolved) -> nn.Module:
    hidden = int(resolved["hidden"])
    return AWConv2d(site.in_channels, site.out_channels, site.kernel_size, site.stride, hidden, bias=site.bias)


def _cost(site: Site, resolved: Resolved) -> Cost:
    hidden = int(resolved["hidden"])
    return aw_cost(site.in_channels, site.out_channels, site.kernel_size, site.out_size, hidden, bias=site.bias)


def _shows(module: nn.Module, x: Tensor) -> Maps:
    assert isinstance(module, AWConv2d)
    return {"channels": ChannelGates(module.scale(x)[1].mean((2, 3)), 1.0, 2.0)}


def _start(module: nn.Module, replaced: Replaced) -> float:
    """K (1 + A) with A = 1/2 is 1.5 K, so K starts at two thirds of the convolution that was there."""
    assert isinstance(module, AWConv2d)
    assert replaced.convolution is not None
    zero(module.expand_norm)
    with torch.no_grad():
        module.conv.weight.copy_(replaced.convolution.weight / 1.5)
        if module.conv.bias is not None and replaced.convolution.bias is not None:
            module.conv.bias.copy_(replaced.convolution.bias)
    return 1.0


AW = Operator(_build, _cost, _shows, _start)
