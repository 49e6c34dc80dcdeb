"""Compares every operator with its paper's formula, in loops and einsum: float64, forward and gradients."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from nas.operators import OPERATORS
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site, Value

State = Mapping[str, Tensor]


def built(name: str, params: Mapping[str, Value], site: Site) -> nn.Module:
    """The operator in evaluation mode and float64; no parameter keeps its initial zero or one."""
    torch.manual_seed(3)
    module = OPERATORS[name].build(site, resolve(OPTIONS[name], params, site)).double().eval()
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn_like(value), alpha=0.3)
        for key, value in module.named_buffers():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if key.endswith("var") else value.normal_(std=0.3)
    return module


def pointwise(x: Tensor, s: State, name: str) -> Tensor:
    """[N, C, ...] through a 1x1 convolution or a linear layer."""
    weight = s[f"{name}.weight"].flatten(1)
    out = torch.einsum("nc...,oc->no...", x, weight)
    bias = s.get(f"{name}.bias")
    return out if bias is None else out + bias.view(-1, *[1] * (x.dim() - 2))


def convolution(x: Tensor, kernel: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolution with padding "same", tap by tap; ``kernel``: [O, C, k, k], or one per image, [N, O, C, k, k]."""
    k = kernel.shape[-1]
    reach = k // 2 * dilation
    n, _, h, w = x.shape
    padded = x.new_zeros(n, x.shape[1], h + 2 * reach, w + 2 * reach)
    padded[:, :, reach : reach + h, reach : reach + w] = x
    kernel = kernel.expand(n, *kernel.shape[-4:])
    out = x.new_zeros(n, kernel.shape[1], h, w)
    for i in range(k):
        for j in range(k):
            part = padded[:, :, i * dilation : i * dilation + h, j * dilation : j * dilation + w]
            out = out + torch.einsum("nchw,noc->nohw", part, kernel[..., i, j])
    return out[:, :, ::stride, ::stride]


def normalised(x: Tensor, s: State, name: str) -> Tensor:
    """BatchNorm in evaluation mode."""
    shape = (-1, *[1] * (x.dim() - 2))
    out = (x - s[f"{name}.running_mean"].view(shape)) / (s[f"{name}.running_var"].view(shape) + 1e-5).sqrt()
    if f"{name}.weight" in s:
        out = out * s[f"{name}.weight"].view(shape) + s[f"{name}.bias"].view(shape)
    return out


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def mean(x: Tensor) -> Tensor:
    return x.sum((2, 3)) / (x.shape[2] * x.shape[3])


def se(x: Tensor, s: State) -> Tensor:
    return x * sigmoid(pointwise(relu(pointwise(mean(x), s, "reduce")), s, "expand"))[..., None, None]


def no_squeeze(x: Tensor, s: State) -> Tensor:
    return x * sigmoid(pointwise(relu(pointwise(x, s, "reduce")), s, "expand"))


def ge_theta_minus(x: Tensor, _s: State) -> Tensor:
    return x * sigmoid(mean(x))[..., None, None]


def ge_theta(x: Tensor, s: State) -> Tensor:
    gathered = normalised(torch.einsum("nchw,chw->nc", x, s["gather.0.weight"][:, 0]), s, "gather.1")
    return x * sigmoid(gathered)[..., None, None]


def ge_theta_plus(x: Tensor, s: State) -> Tensor:
    gathered = normalised(torch.einsum("nchw,chw->nc", x, s["gather.0.weight"][:, 0]), s, "gather.1")
    return x * sigmoid(pointwise(relu(pointwise(relu(gathered), s, "excite.1")), s, "excite.3"))[..., None, None]


def _bam(x: Tensor, s: State) -> tuple[Tensor, Tensor]:
    channel = pointwise(relu(normalised(pointwise(mean(x), s, "channel.0"), s, "channel.1")), s, "channel.3")
    y = relu(normalised(pointwise(x, s, "spatial.0"), s, "spatial.1"))
    for layer in (3, 6):
        y = convolution(y, s[f"spatial.{layer}.weight"], dilation=2) + s[f"spatial.{layer}.bias"].view(-1, 1, 1)
        y = relu(normalised(y, s, f"spatial.{layer + 1}"))
    return channel, pointwise(y, s, "spatial.9")


def bam(x: Tensor, s: State) -> Tensor:
    channel, position = _bam(x, s)
    channel = normalised(channel, s, "channel.4")[..., None, None]
    copies = normalised(position, s, "spatial.10").expand(-1, x.shape[1], -1, -1)
    return x * (1 + sigmoid(channel + copies * s["weight"] + s["bias"]))


def bam_code(x: Tensor, s: State) -> Tensor:
    channel, position = _bam(x, s)
    return x * (1 + sigmoid(channel[..., None, None] * position))


def _mlp(x: Tensor, s: State) -> Tensor:
    return pointwise(relu(pointwise(x, s, "reduce")), s, "expand")


def cbam(x: Tensor, s: State) -> Tensor:
    x = cbam_max_pool(x, s)
    pooled = torch.stack([x.max(1).values, x.sum(1) / x.shape[1]], 1)
    return x * sigmoid(normalised(convolution(pooled, s["spatial.weight"]), s, "norm"))


def cbam_max_pool(x: Tensor, s: State) -> Tensor:
    return x * sigmoid(_mlp(mean(x), s) + _mlp(x.flatten(2).max(2).values, s))[..., None, None]


def cbam_spatial(x: Tensor, s: State) -> Tensor:
    x = x * sigmoid(_mlp(mean(x), s))[..., None, None]
    pooled = x.sum(1, keepdim=True) / x.shape[1]
    return x * sigmoid(normalised(convolution(pooled, s["spatial.weight"]), s, "norm"))


def gala(x: Tensor, s: State) -> Tensor:
    everywhere = _mlp(mean(x), s)[..., None, None].expand_as(x)
    here = pointwise(relu(pointwise(x, s, "local.0")), s, "local.2").expand_as(x)
    return x * sigmoid(s["alpha"] * (here + everywhere) + s["beta"] * here * everywhere)


def _context(x: Tensor, s: State) -> Tensor:
    weights = pointwise(x, s, "mask").flatten(1).exp()
    return torch.einsum("ncl,nl->nc", x.flatten(2), weights / weights.sum(1, keepdim=True))


def gc(x: Tensor, s: State) -> Tensor:
    hidden = pointwise(_context(x, s), s, "transform.0")
    centred = hidden - hidden.mean(1, keepdim=True)
    hidden = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    hidden = hidden * s["transform.1.weight"] + s["transform.1.bias"]
    return x + pointwise(relu(hidden), s, "transform.3")[..., None, None]


def snl(x: Tensor, s: State) -> Tensor:
    return x + pointwise(_context(x, s), s, "transform")[..., None, None]


def non_local(pairwise: str, *, sub_sample: bool = False) -> Callable[[Tensor, State], Tensor]:
    def formula(x: Tensor, s: State) -> Tensor:
        n, _, h, w = x.shape
        source = x
        if sub_sample:
            even = x[:, :, : h // 2 * 2, : w // 2 * 2]
            source = torch.stack([even[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).max(0).values
        theta, phi = (x, source) if pairwise == "gaussian" else (pointwise(x, s, "theta"), pointwise(source, s, "phi"))
        theta, phi, g = theta.flatten(2), phi.flatten(2), pointwise(source, s, "g").flatten(2)
        rows = []
        for image in range(n):
            for i in range(h * w):
                scores = torch.einsum("c,cj->j", theta[image, :, i], phi[image])
                if pairwise == "dot_product":
                    f = scores / phi.shape[2]
                elif pairwise == "concatenation":
                    weight = torch.cat([s["from_theta.weight"][0], s["from_phi.weight"][0]])
                    pairs = torch.cat([theta[image, :, i : i + 1].expand_as(phi[image]), phi[image]])
                    f = relu(weight @ pairs) / phi.shape[2]
                else:
                    f = torch.exp(scores - scores.max())
                    f = f / f.sum()
                rows.append(g[image] @ f)
        y = torch.stack(rows).view(n, h * w, -1).transpose(1, 2).reshape(n, -1, h, w)
        return x + normalised(pointwise(y, s, "out"), s, "norm")

    return formula


def pooled(x: Tensor, stride: int = 2) -> Tensor:
    """3x3 average pool; at the border, only existing pixels are averaged."""
    n, c, h, w = x.shape
    rows = []
    for y in range(0, h, stride):
        for z in range(0, w, stride):
            window = x[:, :, max(0, y - 1) : y + 2, max(0, z - 1) : z + 2]
            rows.append(window.mean((2, 3)))
    return torch.stack(rows, -1).view(n, c, -(-h // stride), -(-w // stride))


def upsampled(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear interpolation with pixels as areas (``align_corners=False``)."""

    def matrix(old: int, new: int) -> Tensor:
        out = torch.zeros(new, old, dtype=x.dtype)
        for i in range(new):
            place = min(max((i + 0.5) * old / new - 0.5, 0.0), old - 1.0)
            low = min(int(place), old - 1)
            out[i, low] += 1 - (place - low)
            if place > low:
                out[i, low + 1] += place - low
        return out

    return torch.einsum("nchw,yh,xw->ncyx", x, matrix(x.shape[2], height), matrix(x.shape[3], width))


def mixed(qkv: Tensor, d_k: int, heads: int, tables: tuple[Tensor, Tensor] | None) -> Tensor:
    """Eq. 3 and 4 of the AA paper, one query at a time; offsets beyond the table use its outermost row."""
    n, channels, h, w = qkv.shape
    d, e = d_k // heads, (channels - 2 * d_k) // heads
    out = qkv.new_zeros(n, heads * e, h, w)
    for head in range(heads):
        q = qkv[:, head * d : (head + 1) * d]
        k = qkv[:, d_k + head * d : d_k + (head + 1) * d]
        v = qkv[:, 2 * d_k + head * e : 2 * d_k + (head + 1) * e]
        for y in range(h):
            for x in range(w):
                keys = k
                if tables is not None:
                    (rel_h, rel_w), places = tables, []
                    for table, at, size in ((rel_h, y, h), (rel_w, x, w)):
                        reach = len(table) // 2
                        places.append(table[[min(max(j - at, -reach), reach) + reach for j in range(size)]].t())
                    keys = k + places[0][None, :, :, None] + places[1][None, :, None, :]
                logits = torch.einsum("nd,ndij->nij", q[:, :, y, x], keys) / math.sqrt(d)
                weights = torch.exp(logits - logits.amax((1, 2), keepdim=True))
                weights = weights / weights.sum((1, 2), keepdim=True)
                out[:, head * e : (head + 1) * e, y, x] = torch.einsum("nij,neij->ne", weights, v)
    return out


def aw_convolution(x: Tensor, s: State, prefix: str = "", stride: int = 1) -> Tensor:
    kernel = s[f"{prefix}conv.weight"]
    k, (h, w) = kernel.shape[-1], x.shape[2:]
    bins = []
    for i in range(k):
        for j in range(k):
            rows = slice(i * h // k, -(-(i + 1) * h // k))
            columns = slice(j * w // k, -(-(j + 1) * w // k))
            bins.append(x[:, :, rows, columns].mean((2, 3)))
    a = torch.stack(bins, -1).unflatten(-1, (k, k))
    a = relu(normalised(pointwise(a, s, f"{prefix}reduce"), s, f"{prefix}reduce_norm"))
    a = sigmoid(normalised(pointwise(a, s, f"{prefix}expand"), s, f"{prefix}expand_norm"))
    out = convolution(x, kernel + a.unsqueeze(2) * kernel, stride)
    return out + s[f"{prefix}conv.bias"].view(-1, 1, 1) if f"{prefix}conv.bias" in s else out


def aa(
    d_k: int, heads: int, *, position: str = "relative", stride: int = 1, poolings: int = 0, aw: str = "none"
) -> Callable[[Tensor, State], Tensor]:
    def layer(x: Tensor, s: State, name: str, stride: int = 1) -> Tensor:
        if name == aw:
            return aw_convolution(x, s, f"{name}.", stride)
        out = convolution(x, s[f"{name}.weight"], stride)
        return out + s[f"{name}.bias"].view(-1, 1, 1) if f"{name}.bias" in s else out

    def formula(x: Tensor, s: State) -> Tensor:
        height, width = -(-x.shape[2] // stride), -(-x.shape[3] // stride)
        source = pooled(x, stride) if stride > 1 else x
        for _ in range(poolings):
            source = pooled(source)
        n, channels, h, w = source.shape
        if position == "coordconv":
            coordinates = source.new_zeros(n, 3, h, w)
            for y in range(h):
                for z in range(w):
                    row, column = 2 * y / (h - 1) - 1, 2 * z / (w - 1) - 1
                    coordinates[:, :, y, z] = torch.tensor([column, row, math.hypot(row, column)], dtype=source.dtype)
            source = torch.cat([source, coordinates], 1)
        elif position == "sine":
            waves, count = torch.zeros_like(source), channels // 4
            for c in range(count):
                rate = 10000.0 ** (-c / max(count - 1, 1))
                for y in range(h):
                    for z in range(w):
                        values = math.sin(y * rate), math.cos(y * rate), math.sin(z * rate), math.cos(z * rate)
                        for quarter, value in enumerate(values):
                            waves[:, quarter * count + c, y, z] = value
            source = source + waves
        tables = (s["rel_h"], s["rel_w"]) if position == "relative" else None
        attended = layer(mixed(layer(source, s, "qkv"), d_k, heads, tables), s, "projection")
        if poolings:
            attended = upsampled(attended, height, width)
        if not any(key.startswith("conv.") for key in s):
            return attended
        return torch.cat([layer(x, s, "conv", stride), attended], 1)

    return formula


MAP = Site("refine", 8, 8, size=5)
CONV = Site("conv", 6, 8, size=5, kernel_size=3)
STRIDED = Site("conv", 6, 8, size=5, kernel_size=3, stride=2)
DEEP = Site("conv", 12, 8, size=3, kernel_size=3)
AA = {"kappa": 0.5, "upsilon": 0.5, "heads": 2, "multiple": 4, "min_key_width": 2}
AW = {"aw_reduction": 2}
R = {"reduction": 2}

Case = tuple[str, Mapping[str, Value], Site, Callable[[Tensor, State], Tensor]]
CASES: Mapping[str, Case] = {
    "plain": ("plain", {}, STRIDED, lambda x, s: convolution(x, s["weight"], 2)),
    "se": ("se", R, MAP, se),
    "se without biases": ("se", R | {"bias": False}, MAP, se),
    "no_squeeze": ("no_squeeze", R, MAP, no_squeeze),
    "ge theta_minus": ("ge", {"variant": "theta_minus"}, MAP, ge_theta_minus),
    "ge theta": ("ge", {"variant": "theta"}, MAP, ge_theta),
    "ge theta_plus": ("ge", R | {"variant": "theta_plus"}, MAP, ge_theta_plus),
    "bam": ("bam", R | {"dilation": 2}, MAP, bam),
    "bam as code": ("bam", R | {"dilation": 2, "form": "code"}, MAP, bam_code),
    "cbam": ("cbam", R, MAP, cbam),
    "cbam max_pool": ("cbam", R | {"variant": "max_pool"}, MAP, cbam_max_pool),
    "cbam spatial": ("cbam", R | {"variant": "spatial"}, MAP, cbam_spatial),
    "gala": ("gala", R, MAP, gala),
    "gc": ("gc", R, MAP, gc),
    "snl": ("snl", {}, MAP, snl),
    "non_local gaussian": ("non_local", {"pairwise": "gaussian"}, MAP, non_local("gaussian")),
    "non_local": ("non_local", {"sub_sample": True}, MAP, non_local("embedded_gaussian", sub_sample=True)),
    "non_local dot_product": ("non_local", {"pairwise": "dot_product"}, MAP, non_local("dot_product")),
    "non_local dot_product, few positions": (
        "non_local", {"pairwise": "dot_product"}, Site("refine", 8, 8, size=1), non_local("dot_product"),
    ),
    "non_local concatenation": ("non_local", {"pairwise": "concatenation"}, MAP, non_local("concatenation")),
    "aa": ("aa", AA, CONV, aa(4, 2)),
    "aa without positions": ("aa", AA | {"position": "none"}, CONV, aa(4, 2, position="none")),
    "aa sine": ("aa", AA | {"position": "sine"}, CONV, aa(4, 2, position="sine")),
    "aa coordconv": ("aa", AA | {"position": "coordconv"}, CONV, aa(4, 2, position="coordconv")),
    "aa strided": ("aa", AA, STRIDED, aa(4, 2, stride=2)),
    "aa downsampled": ("aa", AA | {"downsample": True}, STRIDED, aa(4, 2, stride=2, poolings=1)),
    "aa full": ("aa", AA | {"upsilon": 1.0, "multiple": 8, "kappa": 1.0}, CONV, aa(8, 2)),
    "aa, aw conv": ("aa", AA | AW | {"aw": "conv", "qkv_kernel": 3}, CONV, aa(4, 2, aw="conv")),
    "aa, aw qkv": ("aa", AA | AW | {"aw": "qkv"}, CONV, aa(4, 2, aw="qkv")),
    "aa, aw projection": ("aa", AA | AW | {"aw": "projection"}, CONV, aa(4, 2, aw="projection")),
    "aw kernels": ("aw", R, CONV, aw_convolution),
    "aw maps": ("aw", R, DEEP, aw_convolution),
    "aw strided": ("aw", R, STRIDED, lambda x, s: aw_convolution(x, s, stride=2)),
    "aw pointwise": ("aw", R, Site("conv", 6, 8, size=5), aw_convolution),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_formula(name: str) -> None:
    option, params, site, formula = CASES[name]
    module = built(option, params, site)
    x = torch.randn(2, site.in_channels, site.size, site.size, dtype=torch.float64, requires_grad=True)
    values = dict(module.named_parameters())
    state = values | dict(module.named_buffers())
    out, expected = module(x), formula(x, state)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    leaves, grad = [x, *values.values()], torch.randn_like(out)
    ours = torch.autograd.grad(out, leaves, grad)
    theirs = torch.autograd.grad(expected, leaves, grad, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(8, 8), (3, 7), (2, 1)])
def test_aa_at_another_size_clamps_offsets(size: tuple[int, int]) -> None:
    module = built("aa", AA, CONV)
    x = torch.randn(2, CONV.in_channels, *size, dtype=torch.float64)
    expected = aa(4, 2)(x, dict(module.named_parameters()))
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-10)


def test_ge_at_another_size_averages_to_its_own() -> None:
    module = built("ge", {"variant": "theta"}, Site("refine", 8, 8, size=2))
    x = torch.randn(2, 8, 4, 6, dtype=torch.float64)
    bins = x.unflatten(3, (2, 3)).unflatten(2, (2, 2)).mean((3, 5))
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    gathered = normalised(torch.einsum("nchw,chw->nc", bins, state["gather.0.weight"][:, 0]), state, "gather.1")
    torch.testing.assert_close(module(x), x * sigmoid(gathered)[..., None, None], rtol=0, atol=1e-10)
