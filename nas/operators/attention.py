"""Multi-head attention over the positions of a map with 2D relative logits, computed exactly and fast.

The formula (Bello et al., 2019, Eq. 3 and 4), for a query at (y, x) and a key at (i, j), per head of key width d:

    logit = d^-1/2 q . (k + rel_w[j - x + W - 1] + rel_h[i - y + H - 1]),    out = softmax(logits) v

No step keeps a tensor of (HW)^2 logits after it ends. `attend` chooses between two forms:

- **On the CPU: blocks** (operator ``attention_nas::attention``). The logits of a block of queries fit into the cache
  (`_BLOCK`). A block takes one matrix product, one exponential, and one product with [v; 1], whose last row gives the
  sum of the weights. On small maps the matrix product includes the relative logits: queries are extended by q . rel_w
  and q . rel_h, keys by one-hot codes of x and y. On large maps a broadcast sum adds them (`_FOLDED`). The backward
  pass recomputes the blocks from the saved log-sum-exp. Half types are computed in float32.
- **On other devices, and in recorded programs (`torch.export`, ONNX, `torch.jit.trace`): folded.** The extended queries
  and keys satisfy q' . k' = logit exactly, so that `scaled_dot_product_attention` and its fused kernels can be used.
  These need a last dimension of stride 1 (otherwise they silently use (HW)^2 memory) and widths that are multiples of
  8. This form has only public ATen operators, so a recorded program does not need this package.

FLOP counters count the formula's products for blocks (content, relative, mixing; see `products`), not the actual ones.
Derivatives beyond the first use the folded form with stored logits (`nas.operators.derivatives`).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from nas.operators.base import fixed, recording, without_autocast
from nas.operators.derivatives import Context, by_formula, formula_gradients, transformed

_BLOCK = 1 << 18
"""Number of logits of a block for each thread: 1 MiB of float32, about the size of a core's L2 cache."""

_FOLDED = 32
"""Largest H + W for which a product wider by H + W is cheaper than two broadcast terms for every logit."""

_SAFE = 60.0
"""Within this bound the softmax needs no row maximum: exp(60) times a long row, and exp(-60), fit into float32."""


def products(d_k: int, d_v: int, height: int, width: int, *, relative: bool) -> int:
    """Multiply-adds of one image: content logits, relative logits (every row of both tables), mixing of values.

    ``d_k`` and ``d_v`` are widths over all heads; the count does not depend on the number of heads.
    """
    pixels = height * width
    rows = (2 * height - 1) + (2 * width - 1) if relative else 0
    return pixels * (pixels * (d_k + d_v) + rows * d_k)


def attend(qkv: Tensor, heads: int, d_k: int, tables: tuple[Tensor, Tensor] | None) -> Tensor:
    """Attend over the positions of a map.

    Args:
        qkv: [N, 2 d_k + d_v, H, W]: queries, keys, values, each with its heads one after another.
        heads: number of heads; divides d_k and d_v.
        d_k: width of the queries over all heads.
        tables: ``(rel_h, rel_w)`` of [2 H - 1, d_k / heads] and [2 W - 1, d_k / heads], or None for no relative logits.

    Returns:
        [N, d_v, H, W] in the dtype of ``qkv``.
    """
    if qkv.device.type in {"cpu", "meta"} and not recording() and not transformed():
        rel = qkv.new_empty(0, d_k // heads) if tables is None else torch.cat([tables[1], tables[0]])
        out: Tensor = _attention(qkv, rel, heads, d_k)[0]
        return out
    return _folded(qkv, heads, d_k, tables)


def mixed(query: Tensor, key: Tensor, value: Tensor, *, operator: str) -> Tensor:
    """softmax(query key') value by fused kernels, which store no logits. Shapes: [..., L, d], [..., S, d], [..., S, e].

    Raises:
        RuntimeError: a second derivative is required, but fused kernels have none; the message names ``operator``.
    """
    if transformed():
        return _mixed_plainly(query, key, value)
    out = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    if out.requires_grad and not torch.compiler.is_compiling() and any(asked() for asked in _FUSED):
        out.register_hook(partial(_refuse_second, operator))  # type: ignore[no-untyped-call]
    return out


_fused = partial(mixed, operator="aa")

_FUSED = torch._C._get_flash_sdp_enabled, torch._C._get_mem_efficient_sdp_enabled, torch._C._get_cudnn_sdp_enabled
"""Functions that return whether a kind of fused kernel is enabled, including the CPU's."""


def _refuse_second(operator: str, _grad: Tensor) -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{operator}: fused attention has no second derivative; run the forward pass within "
            "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)"
        )


def _mixed_plainly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    logits = torch.matmul(query, key.mT)
    weights = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return torch.matmul(weights.to(value.dtype), value)


# Folded: for fused kernels -------------------------------------------------------------------------------------------


def _toeplitz(table: Tensor, size: int) -> Tensor:
    """[2 S - 1, d] -> [S (query), S (key), d]: the row of every offset key - query."""
    position = torch.arange(size, device=table.device)
    return table[position[None, :] - position[:, None] + size - 1]


def _codes(height: int, width: int, like: Tensor) -> Tensor:
    """One-hot x, then one-hot y, of every position: [W + H, HW]."""
    x = torch.eye(width, dtype=like.dtype, device=like.device).repeat(1, height)
    y = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, 1)
    return torch.cat([x, y])


def _formula(qkv: Tensor, rel: Tensor, heads: int, d_k: int) -> Tensor:
    """The first output of `_attention`, computed by public operators."""
    columns = 2 * qkv.shape[3] - 1
    tables = (rel[columns:], rel[:columns]) if rel.shape[0] else None
    dtype = torch.float64 if qkv.dtype == torch.float64 else torch.float32
    return _folded(qkv.to(dtype), heads, d_k, tables, _mixed_plainly).to(qkv.dtype)


def _folded(
    qkv: Tensor,
    heads: int,
    d_k: int,
    tables: tuple[Tensor, Tensor] | None,
    mix: Callable[[Tensor, Tensor, Tensor], Tensor] = _fused,
) -> Tensor:
    n, channels, h, w = qkv.shape
    value_width = channels - 2 * d_k
    v = torch.functional.split(qkv, [2 * d_k, value_width], 1)[1]
    v = v.reshape(n, heads, value_width // heads, h, w).flatten(3).transpose(2, 3)
    query, key = logit_factors(qkv, heads, d_k, tables)
    out = mix(query, key, v.contiguous())  # [N, heads, HW, d_v / heads]
    return out.transpose(2, 3).flatten(1, 2).reshape(n, value_width, h, w)


def logit_factors(qkv: Tensor, heads: int, d_k: int, tables: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Extended queries and keys, both [N, heads, HW, width]: query . key is the logit. Arguments as of `attend`."""
    n, channels, h, w = qkv.shape
    q, k, _ = torch.functional.split(qkv, [d_k, d_k, channels - 2 * d_k], 1)
    d = d_k // heads
    # Each step cuts or joins one dimension: a general reshape compares sizes, which a recorded program may leave open.
    q = q.reshape(n, heads, d, h, w).permute(0, 1, 3, 4, 2) * d**-0.5  # [N, heads, H, W, d]
    k = k.reshape(n, heads, d, h, w).flatten(3).transpose(2, 3)
    queries, keys = [q], [k]
    if tables is not None:
        rel_h, rel_w = (table.to(q.dtype) for table in tables)
        queries += [
            torch.einsum("nhyxd,xjd->nhyxj", q, _toeplitz(rel_w, w)),
            torch.einsum("nhyxd,yid->nhyxi", q, _toeplitz(rel_h, h)),
        ]
        keys.append(_codes(h, w, k).t().expand(n, heads, -1, -1))
    width = sum(part.shape[-1] for part in queries)
    pad = -width % 8 if fixed(width) else 0  # does not change the result, but fused kernels need it
    if pad:
        queries.append(q.new_zeros(n, heads, h, w, pad))
        keys.append(k.new_zeros(n, heads, h * w, pad))
    return torch.cat(queries, -1).flatten(2, 3), torch.cat(keys, -1)


# Blocks: for the CPU -------------------------------------------------------------------------------------------------


def _blocks(batch: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Cuts [batch, length] queries into even blocks of about `_BLOCK` logits per thread: (heads, positions) of each."""
    budget = _BLOCK * torch.get_num_threads()
    rows = max(1, min(length, budget // length))
    rows = -(-length // -(-length // rows))
    group = max(1, budget // (rows * length))
    group = -(-batch // -(-batch // group))
    for first in range(0, batch, group):
        for row in range(0, length, rows):
            yield slice(first, min(batch, first + group)), slice(row, min(length, row + rows))


def _skewed(logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Views of q . table that read the offsets of a query as the positions of its keys.

    ``logits`` is [B, HW, 2 W - 1 + 2 H - 1], contiguous. Returns x and y logits, [B, H, W, W] and [B, H, W, H]: entry
    [b, y, x, j] is column j - x + W - 1 of row (y, x), and this address is an affine function of y, x and j. Entries of
    a view do not share memory, so that gradients can be written to it.
    """
    batch, length, columns = logits.shape
    x_strides = (length * columns, width * columns, columns - 1, 1)
    y_strides = (length * columns, width * columns - 1, columns, 1)
    return (
        logits.as_strided((batch, height, width, width), x_strides, width - 1),
        logits.as_strided((batch, height, width, height), y_strides, 2 * width - 1 + height - 1),
    )


class _Parts:
    """Queries, keys and values of one call, laid out for the blocks (B = N heads, L = HW, d and e widths per head).

    Attributes:
        q: [B, L, d + W + H] folded, else [B, L, d]; scaled.
        k: [B, d + W + H, L] folded, else [B, d, L].
        v: [B, e + 1, L]; the last row is ones.
        x, y: broadcast logits [B, L, W] and [B, L, H], or None.
    """

    def __init__(self, qkv: Tensor, rel: Tensor, heads: int, d_k: int) -> None:
        n, channels, h, w = qkv.shape
        dtype = torch.float64 if qkv.dtype == torch.float64 else torch.float32
        q, k, v = torch.functional.split(qkv, [d_k, d_k, channels - 2 * d_k], 1)
        batch, length, d, e = n * heads, h * w, d_k // heads, (channels - 2 * d_k) // heads
        relative = rel.shape[0] > 0
        self.folded = relative and h + w <= _FOLDED
        self.width, self.height, self.depth = w, h, d
        extra = h + w if self.folded else 0
        self.q = qkv.new_empty(batch, length, d + extra, dtype=dtype)
        by_head = self.q.view(n, heads, length, d + extra)[..., :d]
        by_head.copy_(q.reshape(n, heads, d, length).transpose(2, 3)).mul_(d**-0.5)
        self.k = qkv.new_empty(batch, d + extra, length, dtype=dtype)
        self.k.view(n, heads, d + extra, length)[:, :, :d].copy_(k.reshape(n, heads, d, length))
        self.v = qkv.new_empty(batch, e + 1, length, dtype=dtype)
        self.v.view(n, heads, e + 1, length)[:, :, :e].copy_(v.reshape(n, heads, e, length))
        self.v[:, e] = 1
        self.x = self.y = None
        if relative:
            by_x, by_y = _skewed(self.q[..., :d] @ rel.to(dtype).t(), h, w)
            if self.folded:
                by_position = self.q.view(batch, h, w, -1)
                by_position[..., d : d + w].copy_(by_x)
                by_position[..., d + w :].copy_(by_y)
                self.k[:, d:].copy_(_codes(h, w, self.k))
            else:
                self.x, self.y = by_x.reshape(batch, length, w), by_y.reshape(batch, length, h)

    def safe(self) -> bool:
        """Whether all logits are within `_SAFE`, by a bound from the norms of queries and keys."""
        # Squares and sums are vectorised; torch's norm over a dimension takes ten times as long.
        bound = (self.q.square().sum(2).amax() * self.k.square().sum(1).amax()).sqrt()
        if self.x is not None and self.y is not None:
            bound = bound + self.x.abs().amax() + self.y.abs().amax()
        return bool(bound < _SAFE)  # False for NaN

    def logits(self, heads: slice, rows: slice, out: Tensor) -> Tensor:
        """Write the logits of a block into ``out``, [heads, rows, L]."""
        if self.x is None or self.y is None:
            return torch.bmm(self.q[heads, rows], self.k[heads], out=out)
        shaped = out.view(*out.shape[:2], self.height, self.width)
        torch.add(self.x[heads, rows, None, :], self.y[heads, rows, :, None], out=shaped)
        return out.baddbmm_(self.q[heads, rows], self.k[heads])


@torch.library.custom_op("attention_nas::attention", mutates_args=(), device_types="cpu")
@without_autocast
def _attention(qkv: Tensor, rel: Tensor, heads: int, d_k: int) -> tuple[Tensor, Tensor]:
    """The weighted sums of the values, [N, d_v, H, W], and the log-sum-exp of the logits, [N heads, HW, 1].

    ``rel`` has the rows of rel_w, then those of rel_h, [2 W - 1 + 2 H - 1, d]; or no rows.
    """
    n, channels, h, w = qkv.shape
    if n == 0:
        dtype = torch.float64 if qkv.dtype == torch.float64 else torch.float32
        return qkv.new_empty(0, channels - 2 * d_k, h, w), qkv.new_empty(0, h * w, 1, dtype=dtype)
    parts = _Parts(qkv, rel, heads, d_k)
    safe = parts.safe()
    batch, values, length = parts.v.shape
    out = parts.v.new_empty(batch, values - 1, length)
    sums = parts.v.new_empty(batch, length, 1)
    largest = torch.zeros_like(sums)  # also if safe: memory must not depend on values
    buffer = None
    for head, row in _blocks(batch, length):
        shape = (head.stop - head.start, row.stop - row.start, length)
        if buffer is None:  # the first block is the largest
            buffer = parts.q.new_empty(shape).flatten()
        weights = buffer[: shape[0] * shape[1] * length].view(shape)
        parts.logits(head, row, weights)
        if not safe:
            torch.amax(weights, 2, keepdim=True, out=largest[head, row])
            weights.sub_(largest[head, row])
        mixed = torch.bmm(parts.v[head], weights.exp_().transpose(1, 2))  # [heads, e + 1, rows]
        torch.div(mixed[:, :-1], mixed[:, -1:], out=out[head, :, row])
        sums[head, row, 0] = mixed[:, -1]
    lse = sums.log_().add_(largest)
    return out.view(n, -1, h, w).to(qkv.dtype, memory_format=_memory_format(qkv)), lse


@torch.library.custom_op("attention_nas::attention_backward", mutates_args=(), device_types="cpu")
@without_autocast
def _attention_backward(
    grad: Tensor, qkv: Tensor, rel: Tensor, out: Tensor, lse: Tensor, heads: int, d_k: int
) -> tuple[Tensor, Tensor]:
    """Gradients of ``qkv`` and ``rel``."""
    n, _, h, w = qkv.shape
    if n == 0:
        return torch.empty_like(qkv), torch.zeros_like(rel)
    parts = _Parts(qkv, rel, heads, d_k)
    batch, values, length = parts.v.shape
    d, e, q, k = parts.depth, values - 1, parts.q, parts.k
    # dS = P * (dO v - delta), with delta = sum(dO * out). The product of [dO; -delta] and [v; 1] gives dO v - delta.
    grad_out = parts.v.new_empty(batch, values, length)
    grad_out[:, :e] = grad.reshape(batch, e, length)
    torch.sum(grad_out[:, :e] * out.reshape(batch, e, length), 1, out=grad_out[:, e]).neg_()
    if parts.y is not None:
        parts.y.sub_(lse)  # every logit has one term of y, so this subtracts the log-sum-exp from every logit
    elif parts.folded:
        q[..., d + w :].sub_(lse)
    grad_q, grad_k, grad_v = torch.empty_like(q), k.new_zeros(batch, d, length), k.new_zeros(batch, e, length)
    grad_x, grad_y = (None if part is None else torch.empty_like(part) for part in (parts.x, parts.y))
    buffer = None
    for head, row in _blocks(batch, length):
        shape = (head.stop - head.start, row.stop - row.start, length)
        if buffer is None:  # the first block is the largest
            buffer = q.new_empty(2, shape[0] * shape[1] * length)
        weights, grad_logits = (part[: shape[0] * shape[1] * length].view(shape) for part in buffer)
        parts.logits(head, row, weights)
        if rel.shape[0] == 0:
            weights.sub_(lse[head, row])
        weights.exp_()
        grad_v[head].baddbmm_(grad_out[head, :e, row], weights)
        torch.bmm(grad_out[head, :, row].transpose(1, 2), parts.v[head], out=grad_logits).mul_(weights)
        grad_q[head, row] = torch.bmm(grad_logits, k[head].transpose(1, 2))
        grad_k[head].baddbmm_(q[head, row, :d].transpose(1, 2), grad_logits)
        if grad_x is not None and grad_y is not None:
            shaped = grad_logits.view(*shape[:2], h, w)
            grad_x[head, row], grad_y[head, row] = shaped.sum(2), shaped.sum(3)
    grad_rel, grad_query = torch.zeros_like(rel), grad_q[..., :d]
    if rel.shape[0]:
        if grad_x is None or grad_y is None:
            grad_x, grad_y = grad_q[..., d : d + w], grad_q[..., d + w :]
        by_offset = q.new_zeros(batch, length, rel.shape[0])
        by_x, by_y = _skewed(by_offset, h, w)
        by_x.copy_(grad_x.reshape(batch, h, w, w))
        by_y.copy_(grad_y.reshape(batch, h, w, h))
        grad_rel = (by_offset.flatten(0, 1).t() @ q[..., :d].reshape(-1, d)).to(rel.dtype)
        grad_query = torch.baddbmm(grad_query, by_offset, rel.to(q.dtype).expand(batch, -1, -1))
    grad_query = grad_query.transpose(1, 2) * d**-0.5
    joined = torch.cat([part.reshape(n, -1, h, w) for part in (grad_query, grad_k, grad_v)], 1)
    return joined.to(qkv.dtype, memory_format=_memory_format(qkv)), grad_rel


def _memory_format(x: Tensor) -> torch.memory_format:
    dense = x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
    return torch.contiguous_format if dense else torch.channels_last


@_attention.register_fake
def _(qkv: Tensor, rel: Tensor, heads: int, d_k: int) -> tuple[Tensor, Tensor]:
    del rel
    n, channels, h, w = qkv.shape
    dtype = torch.float64 if qkv.dtype == torch.float64 else torch.float32
    out = qkv.new_empty(n, channels - 2 * d_k, h, w).to(memory_format=_memory_format(qkv))
    return out, qkv.new_empty(n * heads, h * w, 1, dtype=dtype)


@_attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, rel: Tensor, out: Tensor, lse: Tensor, heads: int, d_k: int) -> tuple[Tensor, Tensor]:
    del grad, out, lse, heads, d_k
    return torch.empty_like(qkv).contiguous(memory_format=_memory_format(qkv)), torch.empty_like(rel)


class _AttentionContext(Context, Protocol):
    heads: int
    d_k: int


def _remember(ctx: _AttentionContext, inputs: tuple[Tensor, Tensor, int, int], output: tuple[Tensor, Tensor]) -> None:
    qkv, rel, ctx.heads, ctx.d_k = inputs
    ctx.save_for_backward(qkv, rel, *output)


def _differentiate(ctx: _AttentionContext, grad: Tensor, _grad_lse: Tensor) -> tuple[Tensor | None, ...]:
    if by_formula(grad):
        formula = partial(_formula, heads=ctx.heads, d_k=ctx.d_k)
        return *formula_gradients(formula, ctx.saved_tensors[:2], grad), None, None
    grad_qkv, grad_rel = _attention_backward(grad, *ctx.saved_tensors, ctx.heads, ctx.d_k)
    return grad_qkv, grad_rel, None, None


_attention.register_autograd(_differentiate, setup_context=_remember)


@register_flop_formula(torch.ops.attention_nas.attention)
def _flops(qkv: Sequence[int], rel: Sequence[int], _heads: int, d_k: int, **_: object) -> int:
    n, channels, h, w = qkv
    return 2 * n * products(d_k, channels - 2 * d_k, h, w, relative=rel[0] > 0)


@register_flop_formula(torch.ops.attention_nas.attention_backward)
def _backward_flops(
    _grad: Sequence[int],
    qkv: Sequence[int],
    rel: Sequence[int],
    _out: object,
    _lse: object,
    heads: int,
    d_k: int,
    **_: object,
) -> int:
    return 2 * int(_flops(qkv, rel, heads, d_k))  # each product has two factors to differentiate
