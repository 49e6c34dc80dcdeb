"""What is built: x * sigmoid(conv1d(mean(x))), a convolution over channels without bias."""

import torch
from torch import Tensor, nn

from nas.operators import ChannelGates, Cost, Maps, Operator, Resolved
from search_spaces import Site


class Eca(nn.Module):
    """[N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scales every channel."""
        return x * self.factors(x)[:, :, None, None]

    def factors(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the channels' factors, [N, C]."""
        return torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))[:, 0]


def _build(_site: Site, resolved: Resolved) -> nn.Module:
    return Eca(int(resolved["kernel"]))


def _cost(site: Site, resolved: Resolved) -> Cost:
    kernel = int(resolved["kernel"])
    return Cost(params=kernel, macs=kernel * site.out_channels)


def _shows(module: nn.Module, x: Tensor) -> Maps:
    assert isinstance(module, Eca)
    return {"channels": ChannelGates(module.factors(x))}


ECA = Operator(_build, _cost, _shows)
