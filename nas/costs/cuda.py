"""What CUDA does differently for fake tensors: autocast's casts and the attention kernels.

In C++ a fake tensor is a CPU tensor, so this module does both at the level of Python functions.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nas.costs.attention import cuda_attention_kernel

aten = torch.ops.aten

# Names of the functions that run in the lower precision, and of those in float32: aten/src/ATen/autocast_mode.h.
_LOWER = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul __matmul__ __rmatmul__ mm mv"
    " bmm addmm addmv addbmm baddbmm einsum chain_matmul prelu scaled_dot_product_attention".split()
)
_FLOAT32 = frozenset(
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow __pow__ softplus layer_norm"
    " group_norm norm nll_loss cross_entropy kl_div l1_loss smooth_l1_loss mse_loss cosine_similarity cdist renorm"
    " logsumexp interpolate prod softmax log_softmax cumprod cumsum sum".split()
)


class AsOnCuda(TorchFunctionMode):
    """In this mode functions on fake CUDA tensors cast and choose kernels as on CUDA; new tensors need no driver."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if "device" in kwargs:
            kwargs = {**kwargs, "device": _host(kwargs["device"])}
        name = getattr(func, "__name__", "")
        if name in ("to", "cuda"):
            args = (args[0], *(_host(arg) for arg in args[1:]))
            if name == "cuda":
                return args[0]
        if torch.is_autocast_enabled("cuda"):
            if name in _LOWER:
                args, kwargs = self._cast(args, kwargs, torch.get_autocast_dtype("cuda"))
            elif name in _FLOAT32:
                args, kwargs = self._cast(args, kwargs, torch.float32)
        elif self._weights:
            self._weights.clear()
        if name == "scaled_dot_product_attention":
            return attend(*args, **kwargs)
        return func(*args, **kwargs)

    def _cast(self, args: Any, kwargs: Any, dtype: torch.dtype) -> Any:
        cast = functools.partial(self._cast_one, dtype=dtype)
        return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}

    def _cast_one(self, value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
            return type(value)(self._cast_one(item, dtype) for item in value)
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype in (dtype, torch.float64):
            return value
        if value.is_leaf and value.requires_grad and value.dtype is torch.float32:
            # Autocast caches the copies of weights until its block ends.
            if not torch.is_autocast_cache_enabled():
                return value.to(dtype)
            if id(value) not in self._weights:
                self._weights[id(value)] = value, value.to(dtype)
            return self._weights[id(value)][1]
        return value.to(dtype)


def _host(device: Any) -> Any:
    """Replaces a CUDA device by the CPU, which is the C++ device of fake tensors."""
    if isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda":
        return torch.device("cpu")
    return device


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, with the operations that CUDA runs."""
    kernel = cuda_attention_kernel(query, key, value, attn_mask)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "math" or enable_gqa:
        return _attend_plainly(query, key, value, attn_mask, dropout_p, is_causal, scale)
    grad = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    if kernel == "flash":
        width = query.shape[-1]
        padding = -width % 8
        if padding:
            query, key, value = (torch.nn.functional.pad(t, (0, padding)) for t in (query, key, value))
        out: Tensor = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
        return out[..., :width]
    mask = attn_mask
    if mask is not None:
        mask = torch.zeros_like(mask, dtype=query.dtype) if mask.dtype is torch.bool else mask
        mask = mask.expand(*query.shape[:-1], key.shape[-2])
    result: Tensor = aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, grad, dropout_p, is_causal, scale=scale
    )[0]
    return result


def _attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, is_causal: bool, scale: float
) -> Tensor:
    """aten/src/ATen/native/transformers/attention.cpp, `_scaled_dot_product_attention_math`."""
    out: Tensor = aten._scaled_dot_product_attention_math(query, key, value, mask, dropout_p, is_causal, scale=scale)[0]
    return out
