"""Gather-Excite (Hu, Shen, Albanie, Sun, Vedaldi; NeurIPS 2018) - https://arxiv.org/abs/1810.12348

``ge``, with the global extent:

- ``theta_minus``: x * sigmoid(mean(x)), no parameters;
- ``theta``: x * sigmoid(BN(global depthwise convolution(x)));
- ``theta_plus``: x * sigmoid(W2 relu(W1 relu(BN(global depthwise convolution(x))))); W1 and W2 are the layers of SE.

Consulted: the authors' Caffe models (hujie-frank/GENet). Deviation: the global kernel has the size of the map for which
the operator was built; a map of another size is first pooled to that size (adaptive average pool).

Shapes: [N, C, H, W] -> [N, C, H, W]. Raises: theta and theta_plus normalise over the batch only, so training on a
batch of one image raises ValueError.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators.base import BatchNorm, Cost, Operator, Replaced, Resolved, conv, conv_cost, fixed, norm_cost, zero
from nas.operators.gating import Gate, show_gate, squeeze
from search_spaces.sites import Site


class GE(Gate):
    """Scale channels by a summary of the whole map: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, size: int, variant: str, hidden: int) -> None:
        super().__init__()
        self.size = size
        self.gather: nn.Module | None = None
        self.excite: nn.Module | None = None
        if variant != "theta_minus":
            depthwise = nn.Conv2d(channels, channels, size, groups=channels, bias=False)
            self.gather = nn.Sequential(depthwise, BatchNorm(channels))
        if variant == "theta_plus":
            self.excite = nn.Sequential(
                nn.ReLU(), conv(channels, hidden, 1, bias=True), nn.ReLU(), conv(hidden, channels, 1, bias=True)
            )

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> x and a factor of [N, C, 1, 1]."""
        if self.gather is None:
            gathered, x = squeeze(x)
        else:
            built_for = fixed(*x.shape[2:]) and x.shape[2:] == (self.size, self.size)
            gathered = self.gather(x if built_for else F.adaptive_avg_pool2d(x, self.size))
        if self.excite is not None:
            gathered = self.excite(gathered)
        return x, torch.sigmoid(gathered)

    def open(self, logit: float) -> None:
        """Without parameters nothing changes."""
        last = self.excite or self.gather
        if isinstance(last, nn.Sequential):
            bias = last[-1].bias
            assert isinstance(bias, nn.Parameter)
            nn.init.constant_(bias, logit)


def _build(site: Site, resolved: Resolved) -> nn.Module:
    return GE(site.out_channels, site.size, str(resolved["variant"]), int(resolved.get("hidden", 0)))


def _cost(site: Site, resolved: Resolved) -> Cost:
    channels, total = site.out_channels, Cost()
    if resolved["variant"] != "theta_minus":
        total += conv_cost(channels, channels, site.size, 1, groups=channels) + norm_cost(channels)
    if resolved["variant"] == "theta_plus":
        hidden = int(resolved["hidden"])
        total += conv_cost(channels, hidden, 1, 1, bias=True) + conv_cost(hidden, channels, 1, 1, bias=True)
    return total


def _start(module: nn.Module, _replaced: Replaced) -> float | None:
    """theta_minus has no parameters, so its factor depends on the input from the start."""
    assert isinstance(module, GE)
    last = module.excite or module.gather
    if not isinstance(last, nn.Sequential):
        return None
    zero(last[-1])
    return 0.5


GE_OPERATOR = Operator(_build, _cost, show_gate, _start)
