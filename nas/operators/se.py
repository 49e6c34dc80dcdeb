"""Squeeze-and-Excitation Networks (Hu, Shen, Albanie, Sun, Wu; CVPR 2018) - https://arxiv.org/abs/1709.01507

``se``: x * sigmoid(W2 relu(W1 mean(x))), the mean over positions (Eq. 2 to 4). Both layers can have biases: parameter
counts in the SE, CBAM and AW papers include them, those in the AA paper do not.

``no_squeeze`` (Table 16, "NoSqueeze"): the same without the mean, both layers as 1x1 convolutions at every position,
with biases.

Consulted: the authors' Caffe models (hujie-frank/SENet), which have biases. Deviations: none.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W.
"""

import torch
from torch import Tensor, nn

from nas.operators.base import Cost, Operator, Replaced, Resolved, conv, conv_cost, zero
from nas.operators.gating import Gate, show_gate, squeeze
from search_spaces.sites import Site


class SE(Gate):
    """Scale channels by a function of their means, or (``squeeze=False``) of each position's channels."""

    def __init__(self, channels: int, hidden: int, *, bias: bool, squeeze: bool = True) -> None:
        super().__init__()
        self.reduce = conv(channels, hidden, 1, bias=bias)
        self.expand = conv(hidden, channels, 1, bias=bias)
        self.squeeze = squeeze

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> x and a factor of [N, C, 1, 1] or, without squeeze, [N, C, H, W]."""
        squeezed, x = squeeze(x) if self.squeeze else (x, x)
        return x, torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))

    def open(self, logit: float) -> None:
        """Without biases nothing changes."""
        if self.expand.bias is not None:
            nn.init.constant_(self.expand.bias, logit)


def _two_layers(channels: int, hidden: int, size: int, *, bias: bool) -> Cost:
    return conv_cost(channels, hidden, 1, size, bias=bias) + conv_cost(hidden, channels, 1, size, bias=bias)


def _build_se(site: Site, resolved: Resolved) -> nn.Module:
    return SE(site.out_channels, int(resolved["hidden"]), bias=bool(resolved["bias"]))


def _se_cost(site: Site, resolved: Resolved) -> Cost:
    return _two_layers(site.out_channels, int(resolved["hidden"]), 1, bias=bool(resolved["bias"]))


def _build_no_squeeze(site: Site, resolved: Resolved) -> nn.Module:
    return SE(site.out_channels, int(resolved["hidden"]), bias=True, squeeze=False)


def _no_squeeze_cost(site: Site, resolved: Resolved) -> Cost:
    return _two_layers(site.out_channels, int(resolved["hidden"]), site.size, bias=True)


def _start(module: nn.Module, _replaced: Replaced) -> float:
    assert isinstance(module, SE)
    zero(module.expand)
    return 0.5


SE_OPERATOR = Operator(_build_se, _se_cost, show_gate, _start)
NO_SQUEEZE = Operator(_build_no_squeeze, _no_squeeze_cost, show_gate, _start)
