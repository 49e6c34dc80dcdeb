"""What is built: x * sigmoid(conv1d(mean(x))), a convolution over channels without bias."""

import torch
from torch import Tensor, nn

from nas.operators import Cost, Operator, Resolved
from search_spaces import Site


class Eca(nn.Module):
    """[N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scales every channel."""
        means = x.mean((2, 3))[:, None]  # [N, 1, C]
        return x * torch.sigmoid(self.conv(means))[:, 0, :, None, None]


def _build(_site: Site, resolved: Resolved) -> nn.Module:
    return Eca(int(resolved["kernel"]))


def _cost(site: Site, resolved: Resolved) -> Cost:
    kernel = int(resolved["kernel"])
    return Cost(params=kernel, macs=kernel * site.out_channels)


ECA = Operator(_build, _cost)
