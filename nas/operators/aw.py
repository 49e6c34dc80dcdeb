"""An Attention Module for Convolutional Neural Networks (Zhu, Hofstee, Lee, Al-Ars; 2021) - https://arxiv.org/abs/2108.08205

Every image has its own kernel, K + A * K (Eq. 6), with A = sigmoid(BN(W2 relu(BN(W1 avgpool_kxk(x))))) of shape
[C_out, k, k], expanded over the input channels (Eq. 7 and 8 with the paper's r_C1 = C_1, r_C2 = r_hw = 1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators.base import Cost, Operator, Resolved, conv, conv_cost, norm_cost
from search_spaces.sites import Site


class AWConv2d(nn.Module):
    """A convolution with attentional weights: [N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, hidden: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.reduce = conv(in_channels, hidden, 1)
        self.reduce_norm = nn.BatchNorm2d(hidden)
        self.expand = conv(hidden, out_channels, 1)
        self.expand_norm = nn.BatchNorm2d(out_channels)
        self.kernel_size = kernel_size
        self.stride = stride

    def attention(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, k, k], in (0, 1)."""
        pooled = F.adaptive_avg_pool2d(x, self.kernel_size)
        hidden = torch.relu(self.reduce_norm(self.reduce(pooled)))
        return torch.sigmoid(self.expand_norm(self.expand(hidden)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        n, k = x.shape[0], self.kernel_size
        kernels = self.conv.weight.to(x.dtype) * (1 + self.attention(x).to(x.dtype)).unsqueeze(
            2
        )  # [N, C_out, C_in, k, k]
        out = F.conv2d(
            x.reshape(1, -1, *x.shape[2:]), kernels.flatten(0, 1), stride=self.stride, padding=k // 2, groups=n
        )
        out = out.reshape(n, -1, *out.shape[2:])
        return out if self.conv.bias is None else out + self.conv.bias.to(out.dtype).view(-1, 1, 1)


def aw_cost(in_channels: int, out_channels: int, kernel_size: int, out_size: int, hidden: int, *, bias: bool) -> Cost:
    """Of `AWConv2d`. The kernels differ from image to image; applying one costs what the plain convolution costs."""
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


AW = Operator(_build, _cost)
