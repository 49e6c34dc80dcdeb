"""GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond (Cao, Xu, Lin, Wei, Hu; ICCVW 2019)
- https://arxiv.org/abs/1904.11492

Both add the same vector everywhere, made of a weighted mean: context = sum over positions of softmax(w x) x.

- ``gc``: x + W2 relu(LayerNorm(W1 context)), C -> C/r -> C (Eq. 5);
- ``snl``, the simplified non-local block: x + W context (Eq. 4).

Consulted: the authors' PyTorch code (xvjiarui/GCNet): biases in W1 and W2 of ``gc``, W2 starts at zero. Deviations: the
1x1 convolution w has no bias, which the softmax would cancel; ``snl``'s W has none and starts at zero too, so that both
operators start as the identity.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W. Raises: nothing of its own.
"""

import torch
from torch import Tensor, nn

from nas.operators.base import Cost, Operator, Resolved, conv
from search_spaces.sites import Site


class Context(nn.Module):
    """Add a transform of the weighted mean over positions: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, transform: nn.Module) -> None:
        super().__init__()
        self.mask = conv(channels, 1, 1)
        # By its inputs: by its one output, logits would spread so far that most weights were denormal, and slow.
        nn.init.kaiming_normal_(self.mask.weight, mode="fan_in", nonlinearity="relu")
        self.transform = transform  # [N, C] -> [N, C]

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        weights = self.mask(x).flatten(2).softmax(2, dtype=torch.promote_types(x.dtype, torch.float32))  # [N, 1, HW]
        # A column, not a row: its gradient then has the layout of x, and is added to others without strides.
        context = torch.matmul(x.flatten(2), weights.to(x.dtype).flatten(1).unsqueeze(2))  # [N, C, 1]
        added: Tensor = self.transform(context.squeeze(2))
        return x + added[:, :, None, None]


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _context_cost(site: Site) -> Cost:
    # The mask and the weighted sum each multiply every number of the map once.
    return Cost(site.out_channels, 2 * site.out_channels * site.size**2)


def _build_gc(site: Site, resolved: Resolved) -> nn.Module:
    channels, hidden = site.out_channels, int(resolved["hidden"])
    layers = nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), _zero(nn.Linear(hidden, channels))
    return Context(channels, nn.Sequential(*layers))


def _gc_cost(site: Site, resolved: Resolved) -> Cost:
    channels, hidden = site.out_channels, int(resolved["hidden"])
    weights = 2 * channels * hidden
    return _context_cost(site) + Cost(weights + hidden + channels + 2 * hidden, weights)


def _build_snl(site: Site, _resolved: Resolved) -> nn.Module:
    return Context(site.out_channels, _zero(nn.Linear(site.out_channels, site.out_channels, bias=False)))


def _snl_cost(site: Site, _resolved: Resolved) -> Cost:
    return _context_cost(site) + Cost(site.out_channels**2, site.out_channels**2)


GC = Operator(_build_gc, _gc_cost)
SNL = Operator(_build_snl, _snl_cost)
