"""Which kernel `scaled_dot_product_attention` uses on CUDA, derived from shapes, strides and dtypes.

PyTorch's own rule for CUDA cannot be called without a GPU, so it is restated here
(aten/src/ATen/native/transformers/cuda/sdp_utils.cpp): flash attention first, then the memory-efficient kernel, then
plain mathematics. Only the last materialises the logits. Newer GPUs prefer cuDNN's kernel to flash attention; both
allocate the same memory.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Kernel: TypeAlias = Literal["flash", "efficient", "math"]


def cuda_attention_kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Kernel:
    """The kernel for q [N, heads, L, d], k [N, heads, S, d], v [N, heads, S, d_v] on an Ampere or newer GPU."""
    dense = all(t.ndim == 4 and t.stride(-1) == 1 and 0 not in t.shape for t in (q, k, v))
    if not dense or not q.dtype == k.dtype == v.dtype:
        return "math"
    width = q.shape[-1]
    if mask is None and q.dtype in (torch.float16, torch.bfloat16) and width == k.shape[-1] == v.shape[-1] <= 256:
        return "flash"
    if mask is not None and (mask.stride(-1) != 1 or mask.dtype not in (q.dtype, torch.bool)):
        return "math"
    if q.dtype in (torch.float16, torch.bfloat16, torch.float32):
        aligned = 4 if q.dtype is torch.float32 else 8
        if width % aligned == 0 and v.shape[-1] % aligned == 0:
            return "efficient"
    return "math"
