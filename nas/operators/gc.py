"""GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond (Cao, Xu, Lin, Wei, Hu; ICCVW 2019)
- https://arxiv.org/abs/1904.11492

Both add the same vector at every position, a function of a weighted mean: context = sum over positions of softmax(w x)
x.

- ``gc``: x + W2 relu(LayerNorm(W1 context)), C -> C/r -> C (Eq. 5);
- ``snl``, the simplified non-local block: x + W context (Eq. 4).

Consulted: the authors' PyTorch code (xvjiarui/GCNet): biases in W1 and W2 of ``gc``, W2 starts at zero. Deviations: the
1x1 convolution w has no bias, because the softmax would cancel it. ``snl``'s W has no bias and starts at zero, so that
both operators start as the identity.

Shapes: [N, C, H, W] -> [N, C, H, W], any H and W.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from nas.operators.base import Cost, Operator, Replaced, Resolved, conv, zero
from nas.operators.derivatives import by_formula, differentiates, formula_gradients, transformed
from nas.operators.gating import Merging
from nas.operators.shown import Attention, Maps
from search_spaces.sites import Site


class Context(Merging):
    """Add a transform of the weighted mean over positions: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, transform: nn.Module) -> None:
        super().__init__()
        self.mask = conv(channels, 1, 1)
        # With fan-out (one output) the logits would be so large that most weights were denormal, and slow.
        nn.init.kaiming_normal_(self.mask.weight, mode="fan_in", nonlinearity="relu")
        self.transform = transform  # [N, C] -> [N, C]

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        weight = self.mask.weight.view(1, -1)
        if differentiates(x):
            context, x = _WeightedMean.apply(x, weight)
        else:
            context = _context(x, weight)[0]
        added: Tensor = self.transform(context)[:, :, None, None]
        if shortcut is None:
            return x + added
        return x + shortcut + added if transformed() else (x + shortcut).add_(added)


def _columns(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, HW]; a view if the map is contiguous or channels_last."""
    return x.flatten(2) if x.is_contiguous() else x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)


def _context(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean over positions, [N, C], and the weights of positions, [N, HW, 1], in the dtype of ``x``."""
    columns = _columns(x)
    # matmul would fold the batch into one product and copy x for that.
    logits = torch.bmm(weight.to(x.dtype).expand(x.shape[0], 1, -1), columns)  # [N, 1, HW]
    weights = logits.softmax(2, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype).transpose(1, 2)
    return torch.bmm(columns, weights).squeeze(2), weights


class _Saved(Protocol):
    saved_tensors: tuple[Tensor, Tensor, Tensor]

    def save_for_backward(self, *tensors: Tensor) -> None: ...

    def set_materialize_grads(self, value: bool, /) -> None: ...


class _WeightedMean(torch.autograd.Function):
    """(x, weight) -> (context, x). One product gives the sum of the gradients from the three uses of x."""

    @staticmethod
    def forward(ctx: _Saved, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        context, weights = _context(x, weight)
        ctx.save_for_backward(x, weight, weights)
        ctx.set_materialize_grads(False)
        return context, x

    @staticmethod
    def backward(ctx: _Saved, grad_context: Tensor | None, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if grad_context is None:
            return grad, None
        x, weight, weights = ctx.saved_tensors
        if by_formula(grad_context, grad):
            by_x, by_weight = formula_gradients(lambda *inputs: _context(*inputs)[0], (x, weight), grad_context)
            return by_x if grad is None or by_x is None else grad + by_x, by_weight
        columns, by_context = _columns(x), grad_context.to(x.dtype).unsqueeze(2)  # [N, C, HW], [N, C, 1]
        by_weights = torch.bmm(columns.transpose(1, 2), by_context)  # [N, HW, 1]
        by_logits = weights * (by_weights - (weights * by_weights).sum(1, keepdim=True))
        left = torch.cat([by_context, weight.to(x.dtype).view(1, -1, 1).expand_as(by_context)], 2)  # [N, C, 2]
        right = torch.cat([weights, by_logits], 2).transpose(1, 2)  # [N, 2, HW]
        by_weight = torch.bmm(columns, by_logits).sum(0).view_as(weight).to(weight.dtype)
        start = _columns(torch.zeros_like(x) if grad is None else grad)
        if x.is_contiguous():
            return torch.baddbmm(start, left, right).view(x.shape), by_weight
        rows = torch.baddbmm(start.mT, right.mT, left.mT)  # [N, HW, C]
        return rows.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2), by_weight


def _context_cost(site: Site) -> Cost:
    # The mask and the weighted sum each take one multiply-add per number of the map.
    return Cost(site.out_channels, 2 * site.out_channels * site.size**2)


def _build_gc(site: Site, resolved: Resolved) -> nn.Module:
    channels, hidden = site.out_channels, int(resolved["hidden"])
    layers = nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, channels)
    zero(layers[-1])
    return Context(channels, nn.Sequential(*layers))


def _gc_cost(site: Site, resolved: Resolved) -> Cost:
    channels, hidden = site.out_channels, int(resolved["hidden"])
    weights = 2 * channels * hidden
    return _context_cost(site) + Cost(weights + hidden + channels + 2 * hidden, weights)


def _build_snl(site: Site, _resolved: Resolved) -> nn.Module:
    transform = nn.Linear(site.out_channels, site.out_channels, bias=False)
    zero(transform)
    return Context(site.out_channels, transform)


def _snl_cost(site: Site, _resolved: Resolved) -> Cost:
    return _context_cost(site) + Cost(site.out_channels**2, site.out_channels**2)


def _shows(module: nn.Module, x: Tensor) -> Maps:
    """Attention of one query, the vector w, which all positions share."""
    assert isinstance(module, Context)
    h, w = x.shape[2:]
    query = module.mask.weight.view(1, 1, 1, -1).to(x.dtype).expand(len(x), 1, 1, -1)
    return {"attention": Attention(query, _columns(x).mT.unsqueeze(1), (1, 1), (h, w))}


def _start(module: nn.Module, _replaced: Replaced) -> float:
    assert isinstance(module, Context)
    zero(module.transform[-1] if isinstance(module.transform, nn.Sequential) else module.transform)
    return 1.0


GC = Operator(_build_gc, _gc_cost, _shows, _start)
SNL = Operator(_build_snl, _snl_cost, _shows, _start)
