"""Non-local Neural Networks (Wang, Girshick, Gupta, He; CVPR 2018) - https://arxiv.org/abs/1711.07971

``non_local``: x + BN(W y), y_i = sum over j of f(x_i, x_j) g(x_j) (Eq. 1 and 6), theta, phi, g of inner width C / 2
and W, all 1x1 convolutions with bias. Four pairwise functions (Eq. 2 to 5):

- ``gaussian``: softmax over j of x_i . x_j (no theta, phi);
- ``embedded_gaussian``: softmax over j of theta(x_i) . phi(x_j);
- ``dot_product``: theta(x_i) . phi(x_j) / N;
- ``concatenation``: relu(w . [theta(x_i), phi(x_j)]) / N.

N is the number of positions j. With ``sub_sample``, phi and g get a 2x2 max-pooled map. BN's scale starts at zero, so
the operator starts as the identity.

Consulted: the authors' Caffe2 code (facebookresearch/video-nonlocal-net): the pool comes before phi and g, an odd last
row or column is dropped, BN follows W, weights start with a standard deviation of 0.01 (nearly uniform attention).
Deviations: by default their code scales the logits of the two softmax forms by (C / 2)^-1/2, as Transformers do; the
paper's Eq. 2 and 3 have no such factor, nor does this code. w of ``concatenation`` has no bias.

``dot_product`` has no nonlinearity between its two products, so we compute them in the cheaper order (`_pairs_first`):
(theta phi^T) g over pairs of positions, or theta (phi^T g) over pairs of channels. The cost counts the order used. If
there are many logits (more than `_FEW`), the two softmax forms use `scaled_dot_product_attention`, which does not store
them and has no second derivative.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W (at least 2 with ``sub_sample``).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators.attention import mixed
from nas.operators.base import BatchNorm, Cost, Operator, Replaced, Resolved, conv, conv_cost, fixed, norm_cost, zero
from nas.operators.shown import Attention, Maps
from search_spaces.sites import Site

_FEW = 1 << 18
"""Largest number of logits of an image that are stored: 1 MiB of float32. Fused kernels are made for narrow heads; at
the width of all channels, two products and a softmax are faster as long as the logits fit into the cache."""


def _pairs_first(queries: int, keys: int, inner: int) -> bool:
    return 2 * queries * keys <= inner * (queries + keys)


class NonLocal(nn.Module):
    """Add to every position a weighted sum over all positions: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, inner: int, pairwise: str, *, sub_sample: bool) -> None:
        super().__init__()
        self.pairwise = pairwise
        self.sub_sample = sub_sample
        embedded = pairwise != "gaussian"
        self.theta = conv(channels, inner, 1, bias=True) if embedded else None
        self.phi = conv(channels, inner, 1, bias=True) if embedded else None
        self.g = conv(channels, inner, 1, bias=True)
        concatenated = pairwise == "concatenation"
        self.from_theta = nn.Linear(inner, 1, bias=False) if concatenated else None
        self.from_phi = nn.Linear(inner, 1, bias=False) if concatenated else None
        self.out = conv(inner, channels, 1, bias=True)
        self.norm = BatchNorm(channels)
        for layer in (self.theta, self.phi, self.g, self.out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(self.norm.weight)

    def pairs(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """x and the map of its keys -> theta [N, inner, HW] and phi [N, inner, positions] (gaussian: C, not inner)."""
        theta = (x if self.theta is None else self.theta(x)).flatten(2)
        return theta, (source if self.phi is None else self.phi(source)).flatten(2)

    def source(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the map of the keys: pooled with ``sub_sample``."""
        return F.max_pool2d(x, 2) if self.sub_sample else x

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        source = self.source(x)
        theta, phi = self.pairs(x, source)
        y = self._mix(theta, phi, self.g(source).flatten(2))  # [N, inner, HW]
        mixed: Tensor = self.norm(self.out(y.reshape(x.shape[0], y.shape[1], *x.shape[2:])))
        return x + mixed

    def _mix(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        keys = g.shape[2]
        if self.from_theta is not None and self.from_phi is not None:
            pairs = torch.relu(self.from_theta(theta.mT) + self.from_phi(phi.mT).mT)  # [N, HW, positions]
            return torch.bmm(g, (pairs / keys).mT)
        if self.pairwise == "dot_product":
            phi = phi / keys
            if fixed(theta.shape[2], keys) and _pairs_first(theta.shape[2], keys, g.shape[1]):
                return torch.bmm(g, torch.bmm(phi.mT, theta))
            return torch.bmm(torch.bmm(g, phi.mT), theta)
        if fixed(theta.shape[2], keys) and theta.shape[2] * keys <= _FEW:
            logits = torch.bmm(theta.mT, phi)  # [N, HW, positions]
            weights = logits.softmax(2, dtype=torch.promote_types(logits.dtype, torch.float32)).to(g.dtype)
            return torch.bmm(g, weights.mT)
        query, key, value = (part.mT.unsqueeze(1).contiguous() for part in (theta, phi, g))
        return mixed(query, key, value, operator="non_local").squeeze(1).mT


def _build(site: Site, resolved: Resolved) -> nn.Module:
    sub_sample = bool(resolved["sub_sample"])
    return NonLocal(site.out_channels, int(resolved["inner"]), str(resolved["pairwise"]), sub_sample=sub_sample)


def _cost(site: Site, resolved: Resolved) -> Cost:
    channels, inner, pairwise = site.out_channels, int(resolved["inner"]), resolved["pairwise"]
    size = site.size // 2 if resolved["sub_sample"] else site.size
    queries, keys = site.size**2, size**2
    total = (
        conv_cost(channels, inner, 1, size, bias=True)  # g
        + conv_cost(inner, channels, 1, site.size, bias=True)  # W
        + norm_cost(channels)
    )
    if pairwise == "gaussian":
        return total + Cost(0, queries * keys * (channels + inner))
    total += conv_cost(channels, inner, 1, site.size, bias=True) + conv_cost(channels, inner, 1, size, bias=True)
    if pairwise == "concatenation":
        return total + Cost(2 * inner, inner * (queries + keys) + queries * keys * inner)
    if pairwise == "dot_product" and not _pairs_first(queries, keys, inner):
        return total + Cost(0, (queries + keys) * inner**2)
    return total + Cost(0, 2 * queries * keys * inner)


def _shows(module: nn.Module, x: Tensor) -> Maps:
    """The two softmax forms alone: the weights of the others have any sign, or do not sum to 1."""
    assert isinstance(module, NonLocal)
    if module.pairwise not in {"gaussian", "embedded_gaussian"}:
        return {}
    source = module.source(x)
    (h, w), (height, width) = x.shape[2:], source.shape[2:]
    theta, phi = (part.mT.unsqueeze(1) for part in module.pairs(x, source))
    return {"attention": Attention(theta, phi, (h, w), (height, width))}


def _start(module: nn.Module, _replaced: Replaced) -> float:
    assert isinstance(module, NonLocal)
    zero(module.norm)
    return 1.0


NON_LOCAL = Operator(_build, _cost, _shows, _start)
