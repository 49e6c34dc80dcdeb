"""BAM: Bottleneck Attention Module (Park, Woo, Lee, Kweon; BMVC 2018) - https://arxiv.org/abs/1807.06514

``bam``: x * (1 + sigmoid(M_c + M_s)) (Eq. 1 and 2). M_c depends on the channel, M_s on the position:

- M_c = BN(W2 relu(BN(W1 mean(x)))), C -> C/r -> C (Eq. 3);
- M_s = BN(conv1x1(conv3x3(conv3x3(conv1x1(x))))), C -> C/r -> C/r -> C/r -> 1, the 3x3 dilated (Eq. 4), BN and ReLU
  after the first three.

All convolutions and linear layers have biases. In ``after`` of a stage's last block this is the paper's BAM; in
``refine`` of every block it is the paper's BAM-C.

Consulted: the authors' PyTorch code (Jongchan/attention-module). Paper and code differ: ``form: code`` has M_c * M_s
in place of the sum, and no BN at the end of the branches. The printed parameters (4 C more than the code's) include a
BN of C channels at the end of each branch. So with ``form: paper`` M_s is normalised as one map, and then has a scale
and a shift per channel, which equals a BN of C copies of the map.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W. Raises: M_c normalises over the batch only, so training on a batch
of one image raises ValueError.
"""

from functools import partial

import torch
from torch import Tensor, nn

from nas.operators.base import BatchNorm, Cost, Operator, Replaced, Resolved, conv, conv_cost, norm_cost, zero
from nas.operators.gating import Gate, show_gate, squeeze
from search_spaces.sites import Site


class BAM(Gate):
    """Scale by 1 + sigmoid of a channel and a position map: [N, C, H, W] -> [N, C, H, W]."""

    undecayed = ("weight", "bias")

    def __init__(self, channels: int, hidden: int, dilation: int, *, as_code: bool) -> None:
        super().__init__()
        self.as_code = as_code
        self.channel = nn.Sequential(
            conv(channels, hidden, 1, bias=True),
            BatchNorm(hidden),
            nn.ReLU(),
            conv(hidden, channels, 1, bias=True),
        )

        def dilated() -> nn.Module:
            return nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)

        layers: list[nn.Module] = []
        for layer in (conv(channels, hidden, 1, bias=True), dilated(), dilated()):
            layers += [layer, BatchNorm(hidden), nn.ReLU()]
        self.spatial = nn.Sequential(*layers, conv(hidden, 1, 1, bias=True))
        if not as_code:
            self.channel.append(BatchNorm(channels))
            self.spatial.append(BatchNorm(1, affine=False))
            self.weight = nn.Parameter(torch.ones(channels, 1, 1))
            self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> x and a factor of [N, C, H, W]."""
        mean, x = squeeze(x)
        by_channel = self.channel(mean)  # [N, C, 1, 1]
        by_position = self.spatial(x)  # [N, 1, H, W]
        if self.as_code:
            return x, 1 + torch.sigmoid(by_channel * by_position)
        return x, 1 + torch.sigmoid(by_channel + self.bias + by_position * self.weight)


def _build(site: Site, resolved: Resolved) -> nn.Module:
    hidden, dilation = int(resolved["hidden"]), int(resolved["dilation"])
    return BAM(site.out_channels, hidden, dilation, as_code=resolved["form"] == "code")


def _cost(site: Site, resolved: Resolved) -> Cost:
    channels, hidden, size = site.out_channels, int(resolved["hidden"]), site.size
    closing = Cost() if resolved["form"] == "code" else norm_cost(channels) + norm_cost(channels)
    dilated = conv_cost(hidden, hidden, 3, size, bias=True) + norm_cost(hidden)
    return (
        conv_cost(channels, hidden, 1, 1, bias=True)
        + norm_cost(hidden)
        + conv_cost(hidden, channels, 1, 1, bias=True)
        + conv_cost(channels, hidden, 1, size, bias=True)
        + norm_cost(hidden)
        + dilated
        + dilated
        + conv_cost(hidden, 1, 1, size, bias=True)
        + closing
    )


def _start(module: nn.Module, _replaced: Replaced) -> float:
    """In the form of the code M_s keeps its values: if both factors of a product are zero, neither has a gradient."""
    assert isinstance(module, BAM)
    zero(module.channel[-1])
    if not module.as_code:
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    return 1.5


BAM_OPERATOR = Operator(_build, _cost, partial(show_gate, low=1.0), _start)
