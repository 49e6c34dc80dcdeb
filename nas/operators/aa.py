"""Attention Augmented Convolutional Networks (Bello, Zoph, Vaswani, Shlens, Le; ICCV 2019)
- https://arxiv.org/abs/1904.09925

``aa``: concat[conv(x) with F_out - d_v filters, MHA(x) with d_v] (section 3.2). Queries, keys and values are one
convolution with 2 d_k + d_v filters; a 1x1 convolution d_v -> d_v mixes the heads (Eq. 2). d_v = F_out leaves no
convolution. The skeleton's BatchNorm follows, as in the paper. Positions (section 3.1.1 and 4.5):

- ``relative``: tables of 2 H - 1 and 2 W - 1 rows of width d_k / heads, shared by heads (Eq. 3). If the map is larger
  than the one for which the operator was built, offsets outside the tables use the outermost row. So near offsets keep
  their trained meaning, which interpolation would change. The tables get weight decay, because the paper names no
  exception;
- ``sine``: adds sin y, cos y, sin x and cos x to the input, each to a quarter of the channels (a remainder of less than
  4 channels stays unchanged);
- ``coordconv``: channels x, y in [-1, 1] and r, the distance from the middle, appended to the input;
- ``none``.

``poolings``: the map is halved so many times before the attention (3x3 average, stride 2); bilinear interpolation
restores the size of the output. An operator with a stride first pools its input in the same way to the output size.

``aw``: one of the convolutions has attentional weights (see `nas.operators.aw`): ``conv``, ``qkv`` and ``projection``
are AW-AA 1, 2 and 3 of the AW paper. That paper's table fits ``qkv_kernel`` 3.

Consulted: the paper. It does not say how an operator with a stride gets its output size. Deviations from the TensorFlow
code in its appendix:

- all convolutions there have biases; here the site decides, because the printed parameters include none;
- its first convolution gives k, q, v in that order, ours q, k, v: weights from there must be reordered;
- its tables of relative positions are drawn with mean and deviation d^-1/2 (d = d_k / heads), ours with mean 0.

`nas.operators.attention` computes the attention.

Multiply-adds are those of the formula. Relative logits count every row of both tables; with this count AA-ResNet-50 has
the known 4.215 G. One-hot codes and recomputation, which an implementation may add, are not counted.

Shapes: [N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)], any H and W. `search_spaces.options` refuses
heads that do not divide d_k or d_v, and a pool of a 1x1 map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators.attention import attend, logit_factors, products
from nas.operators.aw import AW, AWConv2d, aw_cost
from nas.operators.base import Cost, Operator, Replaced, Resolved, conv, conv_cost
from nas.operators.gating import pooled
from nas.operators.shown import Attention, Maps
from search_spaces.sites import Site


def _fitted(table: Tensor, size: int) -> Tensor:
    """The table for a map of ``size``: [2 R - 1, d] -> [2 S - 1, d]. Offsets outside it use the outermost row."""
    reach = table.shape[0] // 2
    offsets = torch.arange(1 - size, size, device=table.device)
    return table[offsets.clamp(-reach, reach) + reach]


class AAConv2d(nn.Module):
    """An attention augmented convolution: [N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, site: Site, resolved: Resolved) -> None:
        super().__init__()
        self.d_k, self.d_v, self.heads = (int(resolved[name]) for name in ("d_k", "d_v", "heads"))
        self.position = str(resolved["position"])
        self.stride = site.stride
        self.poolings = int(resolved["poolings"])
        self.pools = [site.stride] * (site.stride > 1) + [2] * self.poolings  # strides of the pools
        inner = str(resolved["aw"])
        hidden = int(resolved.get("aw_hidden", 0))

        def part(name: str, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
            if name == inner:
                return AWConv2d(c_in, c_out, kernel, stride, hidden, bias=site.bias)
            return conv(c_in, c_out, kernel, stride, groups, site.bias)

        filters = site.out_channels - self.d_v
        self.conv = (
            part("conv", site.in_channels, filters, site.kernel_size, site.stride, site.groups) if filters else None
        )
        inputs = site.in_channels + 3 * (self.position == "coordconv")
        self.qkv = part("qkv", inputs, 2 * self.d_k + self.d_v, int(resolved["qkv_kernel"]))
        self.projection = part("projection", self.d_v, self.d_v, 1)
        width = self.d_k // self.heads
        side = 2 * _attended(site, resolved) - 1
        relative = self.position == "relative"
        self.rel_h = nn.Parameter(torch.empty(side, width)) if relative else None
        self.rel_w = nn.Parameter(torch.empty(side, width)) if relative else None
        for table in (self.rel_h, self.rel_w):
            if table is not None:
                nn.init.normal_(table, std=width**-0.5)

    def _pool_line(self, x: Tensor) -> Tensor:
        for stride in self.pools:
            x = F.avg_pool1d(x, 3, stride, 1, count_include_pad=False)
        return x

    def _pool_plane(self, x: Tensor) -> Tensor:
        for stride in self.pools:
            x = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        return x

    def attended(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """[N, C_in, H, W] -> x, and what `attend` gets: [N, 2 d_k + d_v, h, w] and the tables for this size."""
        if self.pools:
            small, x = pooled(x, self._pool_line, self._pool_plane)
        else:
            small = x
        if self.position == "sine":
            small = small + _sine(small)
        elif self.position == "coordconv":
            small = torch.cat([small, _coordinates(small).expand(small.shape[0], -1, -1, -1)], 1)
        h, w = small.shape[2:]
        tables = None
        if self.rel_h is not None and self.rel_w is not None:
            tables = _fitted(self.rel_h, h), _fitted(self.rel_w, w)
        return x, self.qkv(small), tables

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        x, out = self.augment(x)
        return out if self.conv is None else torch.cat([self.conv(x), out], 1)

    def augment(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C_in, H, W] -> x and the attention's filters, [N, d_v, ceil(H / stride), ceil(W / stride)]."""
        size = [(side - 1) // self.stride + 1 for side in x.shape[2:]]  # written as convolutions do, for open sizes
        x, qkv, tables = self.attended(x)
        out = self.projection(attend(qkv, self.heads, self.d_k, tables))
        return x, F.interpolate(out, size, mode="bilinear", align_corners=False) if self.poolings else out


def _sine(x: Tensor) -> Tensor:
    """Sinusoids of 2D positions: [1, C, H, W]; a quarter of the channels each for sin y, cos y, sin x, cos x."""
    _, channels, h, w = x.shape
    count, dtype = channels // 4, torch.promote_types(x.dtype, torch.float32)
    places = (torch.arange(size, device=x.device, dtype=dtype) for size in (h, w))
    rates = 10000.0 ** (-torch.arange(count, device=x.device, dtype=dtype) / max(count - 1, 1))
    by_y, by_x = (rates[:, None] * place for place in places)  # [C / 4, H], [C / 4, W]
    by_y, by_x = by_y[:, :, None].expand(-1, h, w), by_x[:, None, :].expand(-1, h, w)
    waves = torch.cat([by_y.sin(), by_y.cos(), by_x.sin(), by_x.cos()])
    return F.pad(waves, (0, 0, 0, 0, 0, channels - 4 * count))[None].to(x.dtype)


def _coordinates(x: Tensor) -> Tensor:
    """CoordConv's x, y and r: [1, 3, H, W]."""
    h, w = x.shape[2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    places = (torch.arange(size, device=x.device, dtype=dtype) for size in (h, w))
    by_y, by_x = (2 * place / place[-1].clamp(min=1) - 1 for place in places)  # linspace would fix an open size
    ys, xs = by_y[:, None].expand(h, w), by_x[None, :].expand(h, w)
    return torch.stack([xs, ys, (xs.square() + ys.square()).sqrt()])[None].to(x.dtype)


def _attended(site: Site, resolved: Resolved) -> int:
    """Side of the map on which attention is computed."""
    size = site.out_size
    for _ in range(int(resolved["poolings"])):
        size = -(-size // 2)
    return size


def _build(site: Site, resolved: Resolved) -> nn.Module:
    return AAConv2d(site, resolved)


def _cost(site: Site, resolved: Resolved) -> Cost:
    d_k, d_v, heads = (int(resolved[name]) for name in ("d_k", "d_v", "heads"))
    side = _attended(site, resolved)
    position = resolved["position"]

    def part(name: str, c_in: int, c_out: int, kernel: int, out_size: int, groups: int = 1) -> Cost:
        if name == resolved["aw"]:
            return aw_cost(c_in, c_out, kernel, out_size, int(resolved["aw_hidden"]), bias=site.bias)
        return conv_cost(c_in, c_out, kernel, out_size, groups, site.bias)

    inputs = site.in_channels + 3 * (position == "coordconv")
    rows = 2 * (2 * side - 1) if position == "relative" else 0
    return (
        part("conv", site.in_channels, site.out_channels - d_v, site.kernel_size, site.out_size, site.groups)
        + part("qkv", inputs, 2 * d_k + d_v, int(resolved["qkv_kernel"]), side)
        + Cost(rows * d_k // heads, products(d_k, d_v, side, side, relative=position == "relative"))
        + part("projection", d_v, d_v, 1, side)
    )


def _shows(module: nn.Module, x: Tensor) -> Maps:
    assert isinstance(module, AAConv2d)
    _, qkv, tables = module.attended(x)
    h, w = qkv.shape[2:]
    return {"attention": Attention(*logit_factors(qkv, module.heads, module.d_k, tables), (h, w), (h, w))}


_STEPS, _BATCH, _RATE = 200, 32, 3e-3
"""Of the fit: steps of Adam, pictures in each, highest learning rate."""


def _start(module: nn.Module, replaced: Replaced) -> None:
    """Keeps the filters that the convolution still has. The attention is fitted to the filters that it replaces.

    The fit is a regression of their outputs at the maps of ``replaced``; without maps, the attention starts as ever. A
    convolution with groups keeps its filters only as a first guess, because fewer filters have other borders between
    groups; they are fitted too.
    """
    assert isinstance(module, AAConv2d)
    assert replaced.convolution is not None
    whole = replaced.convolution
    filters = whole.out_channels - module.d_v
    if module.conv is not None:
        kept = conv(whole.in_channels, filters, whole.kernel_size[0], groups=whole.groups, bias=whole.bias is not None)
        with torch.no_grad():
            kept.weight.copy_(whole.weight[:filters])
            if kept.bias is not None and whole.bias is not None:
                kept.bias.copy_(whole.bias[:filters])
        if isinstance(module.conv, AWConv2d):
            assert AW.start is not None
            AW.start(module.conv, Replaced(kept))
        else:
            module.conv.load_state_dict(kept.state_dict())
    if replaced.maps is not None:
        maps = replaced.maps()
        with torch.no_grad():
            wanted = whole(maps)
        _fit(module, maps, wanted, filters if whole.groups == 1 else 0)


def _fit(module: AAConv2d, maps: Tensor, wanted: Tensor, first: int) -> None:
    """Fits the filters from `first` on to `wanted`, in the mean of squares over pictures, positions and filters."""
    parts = [module.qkv, module.projection, *([] if first or module.conv is None else [module.conv])]
    tables = [table for table in (module.rel_h, module.rel_w) if table is not None]
    parameters = [parameter for part in parts for parameter in part.parameters()] + tables
    adam = torch.optim.Adam(parameters, _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, _RATE, total_steps=_STEPS)
    with torch.enable_grad():
        for _ in range(_STEPS):
            chosen = torch.randint(len(maps), (_BATCH,), device=maps.device)
            out = module(maps[chosen]) if not first else module.augment(maps[chosen])[1]
            error = F.mse_loss(out, wanted[chosen, first:])
            gradients = torch.autograd.grad(error, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            adam.step()
            schedule.step()
    adam.zero_grad()


AA = Operator(_build, _cost, _shows, _start)
