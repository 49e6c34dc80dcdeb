"""Squeeze-and-Excitation Networks (Hu, Shen, Albanie, Sun, Wu; CVPR 2018) - https://arxiv.org/abs/1709.01507

``se``: x * sigmoid(W2 relu(W1 mean(x))), the mean over positions (Eq. 2 to 4). Biases of both layers are an option: the
tables of the SE, CBAM and AW papers need them, those of the AA paper need none.

Consulted: the authors' Caffe models (hujie-frank/SENet), which have biases. Deviations: none.
"""

import torch
from torch import Tensor, nn

from nas.operators.base import Cost, Operator, Resolved, conv, conv_cost
from search_spaces.sites import Site


class SE(nn.Module):
    """Scale channels by a function of their means: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.reduce = conv(channels, hidden, 1, bias=bias)
        self.expand = conv(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        squeezed = x.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))


def _build(site: Site, resolved: Resolved) -> nn.Module:
    return SE(site.out_channels, int(resolved["hidden"]), bias=bool(resolved["bias"]))


def _cost(site: Site, resolved: Resolved) -> Cost:
    channels, hidden, bias = site.out_channels, int(resolved["hidden"]), bool(resolved["bias"])
    return conv_cost(channels, hidden, 1, 1, bias=bias) + conv_cost(hidden, channels, 1, 1, bias=bias)


SE_OPERATOR = Operator(_build, _cost)
