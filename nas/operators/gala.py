"""Learning what and where to attend (Linsley, Shiebler, Eberhardt, Serre; ICLR 2019) - https://arxiv.org/abs/1805.08819

``gala``: x * sigmoid(alpha (S + G) + beta S G), with alpha and beta learned per channel. G = W2 relu(W1 mean(x)) is
global (the layers of SE), S = conv1x1(relu(conv1x1(x))), C -> C/r -> 1, is local.

This is the form that the AA paper compares with: its parameter count for ResNet-50 (29.4 M) fits the layers above with
biases and r = 16, on the output of every block. alpha and beta start at 1.

Deviations from the authors' TensorFlow code (serre-lab/gala_tpu), whose gate is also a sigmoid: that code has a ReLU
after W2 in G, a 5x5 convolution with ReLU at C/r in S, and r = 4. It applies GALA to the inputs of the blocks in
ResNet-50's third stage; alpha and beta start at random values.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W.
"""

import torch
from torch import Tensor, nn

from nas.operators.base import Cost, Operator, Replaced, Resolved, conv, conv_cost, zero
from nas.operators.gating import Gate, show_gate, squeeze
from search_spaces.sites import Site


class GALA(Gate):
    """Scale by a gate of a global and a local map: [N, C, H, W] -> [N, C, H, W]."""

    undecayed = ("alpha", "beta")

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = conv(channels, hidden, 1, bias=True)
        self.expand = conv(hidden, channels, 1, bias=True)
        self.local = nn.Sequential(conv(channels, hidden, 1, bias=True), nn.ReLU(), conv(hidden, 1, 1, bias=True))
        self.alpha = nn.Parameter(torch.ones(channels, 1, 1))
        self.beta = nn.Parameter(torch.ones(channels, 1, 1))

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> x and a factor of [N, C, H, W]."""
        mean, x = squeeze(x)
        everywhere = self.expand(torch.relu(self.reduce(mean)))  # G: [N, C, 1, 1]
        here = self.local(x)  # S: [N, 1, H, W]
        # alpha (S + G) + beta S G = alpha G + S (alpha + beta G): two maps of the full size, not five.
        slope = self.alpha + self.beta * everywhere
        return x, torch.sigmoid(self.alpha * everywhere + here * slope)

    def open(self, logit: float) -> None:
        """The product S G starts with no weight; it would carry the opened gate's logit into S."""
        assert self.expand.bias is not None
        nn.init.constant_(self.expand.bias, logit)
        nn.init.zeros_(self.beta)


def _build(site: Site, resolved: Resolved) -> nn.Module:
    return GALA(site.out_channels, int(resolved["hidden"]))


def _cost(site: Site, resolved: Resolved) -> Cost:
    channels, hidden = site.out_channels, int(resolved["hidden"])
    return (
        conv_cost(channels, hidden, 1, 1, bias=True)
        + conv_cost(hidden, channels, 1, 1, bias=True)
        + conv_cost(channels, hidden, 1, site.size, bias=True)
        + conv_cost(hidden, 1, 1, site.size, bias=True)
        + Cost(2 * channels)
    )


def _start(module: nn.Module, _replaced: Replaced) -> float:
    assert isinstance(module, GALA)
    zero(module.expand, module.local[-1])
    return 0.5


GALA_OPERATOR = Operator(_build, _cost, show_gate, _start)
