"""CBAM: Convolutional Block Attention Module (Woo, Park, Lee, Kweon; ECCV 2018) - https://arxiv.org/abs/1807.06521

Channels first, then positions (Eq. 1): x' = x * sigmoid(MLP(mean) + MLP(max)) with one MLP, C -> C/r -> C, on the mean
and the maximum over positions (Eq. 2); then x' * sigmoid(BN(conv7x7([max; mean]))) on the maximum and the mean over
channels (Eq. 3).

Consulted: the authors' PyTorch code (Jongchan/attention-module). From it: biases in the MLP, the BN after the 7x7 (not
in the paper's text, but in its parameter counts), the order [max; mean], no bias in the 7x7. Variants of the AW paper
(https://arxiv.org/abs/2108.08205): ``max_pool`` has no spatial part; ``spatial`` uses only means in both parts.

Deviations from that code: its spatial BN has momentum 0.01, and the scale of that BN starts at 0, so that every
position starts with a factor of 1/2; here both are PyTorch's, 0.1 and 1.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W. Raises: on maps of one pixel the spatial part normalises over the
batch only, so training on a batch of one image raises ValueError.
"""

import torch
from torch import Tensor, nn

from nas.operators.base import BatchNorm, Cost, Operator, Replaced, Resolved, conv, conv_cost, norm_cost, zero
from nas.operators.gating import Gate, squeeze
from nas.operators.shown import ChannelGates, Maps, SpatialGates
from search_spaces.sites import Site

_KERNEL = 7


class CBAM(Gate):
    """Scale channels, then positions: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, hidden: int, variant: str) -> None:
        super().__init__()
        self.reduce = conv(channels, hidden, 1, bias=True)
        self.expand = conv(hidden, channels, 1, bias=True)
        self.use_max = variant != "spatial"
        self.spatial = None if variant == "max_pool" else conv(2 if self.use_max else 1, 1, _KERNEL)
        self.norm = None if variant == "max_pool" else BatchNorm(1)

    def _mlp(self, pooled: Tensor) -> Tensor:
        out: Tensor = self.expand(torch.relu(self.reduce(pooled)))
        return out

    def by_channel(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> x and the factor of its channels, [N, C, 1, 1]."""
        mean, x = squeeze(x)
        logits = self._mlp(mean)  # [N, C, 1, 1]
        if self.use_max:
            logits = logits + self._mlp(x.amax((2, 3), keepdim=True))
        return x, torch.sigmoid(logits)

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> x and its last factor. With a spatial part, the channels of x are already scaled."""
        x, by_channel = self.by_channel(x)
        if self.spatial is None or self.norm is None:
            return x, by_channel
        x = x * by_channel
        average = x.mean(1, keepdim=True)  # [N, 1, H, W]
        pooled = torch.cat([x.amax(1, keepdim=True), average], 1) if self.use_max else average
        return x, torch.sigmoid(self.norm(self.spatial(pooled)))

    def open(self, logit: float) -> None:
        """Both factors start near sigmoid(logit)."""
        assert self.expand.bias is not None
        nn.init.constant_(self.expand.bias, logit / 2 if self.use_max else logit)  # the mean and the maximum add it
        if self.norm is not None:
            nn.init.constant_(self.norm.bias, logit)


def _build(site: Site, resolved: Resolved) -> nn.Module:
    return CBAM(site.out_channels, int(resolved["hidden"]), str(resolved["variant"]))


def _cost(site: Site, resolved: Resolved) -> Cost:
    channels, hidden, variant = site.out_channels, int(resolved["hidden"]), resolved["variant"]
    mlp = conv_cost(channels, hidden, 1, 1, bias=True) + conv_cost(hidden, channels, 1, 1, bias=True)
    if variant != "spatial":
        mlp += Cost(0, mlp.macs)  # once for the mean, once for the maximum
    if variant == "max_pool":
        return mlp
    return mlp + conv_cost(1 if variant == "spatial" else 2, 1, _KERNEL, site.size) + norm_cost(1)


def _shows(module: nn.Module, x: Tensor) -> Maps:
    assert isinstance(module, CBAM)
    maps: Maps = {"channels": ChannelGates(module.by_channel(x)[1].flatten(1))}
    return maps if module.spatial is None else {**maps, "positions": SpatialGates(module.gate(x)[1])}


def _start(module: nn.Module, _replaced: Replaced) -> float:
    assert isinstance(module, CBAM)
    zero(module.expand)
    if module.norm is None:
        return 0.5
    zero(module.norm)
    return 0.25


CBAM_OPERATOR = Operator(_build, _cost, _shows, _start)
