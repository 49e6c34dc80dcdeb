"""Every hand-written gradient equals finite differences: both modes, second derivatives, and sizes that include 1."""

import heapq
import itertools
import pkgutil
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import nas
from nas.operators import OPERATORS, attention, aw, gating, non_local
from nas.operators.derivatives import differentiates
from nas.operators.gating import Gate, pooled, squeeze
from nas.operators.gc import _context, _WeightedMean
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site

Row = Mapping[str, Any]


def pairwise(**axes: Sequence[Hashable]) -> list[Row]:
    """A few rows that contain every pair of values of two axes."""
    rows = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    random.Random(0).shuffle(rows)
    pairs = [frozenset(itertools.combinations(row.items(), 2)) for row in rows]
    left, chosen = frozenset().union(*pairs), []
    # The number of new pairs in a row only falls, so a row is counted again only when it comes first.
    most_first = [(-len(found), index) for index, found in enumerate(pairs)]
    heapq.heapify(most_first)
    while left:
        index = most_first[0][1]
        now = (-len(pairs[index] & left), index)
        if heapq.heapreplace(most_first, now) == now == most_first[0]:
            chosen.append(rows[index])
            left -= pairs[index]
    return chosen


def tensor(*shape: int, layout: str = "contiguous") -> Tensor:
    x = torch.randn(shape, dtype=torch.float64)
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "neither":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    return x


class Product(Gate):
    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def gate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.factor


def used(outputs: tuple[Tensor, Tensor], use: str) -> tuple[Tensor, ...]:
    small, passed = outputs  # use `passed` in a product, as `squeeze` requires
    return {"both": (small, passed * 2), "small": (small,), "map": (passed * 2,)}[use]


Call = tuple[Callable[..., Any], list[Tensor]]


def gated(row: Row) -> Call:
    n, c, (h, w) = row["n"], row["c"], row["size"]
    shape = {
        "channels": (n, c, 1, 1), "positions": (n, 1, h, w), "all": (n, c, h, w), "images": (n, 1, 1, 1),
        "shared": (1, c, 1, 1),
    }[row["factor"]]  # fmt: skip
    inputs = [tensor(n, c, h, w, layout=row["layout"]), tensor(*shape)]
    if row["shortcut"]:
        inputs.append(tensor(n, c, h, w))
    return lambda x, factor, *shortcut: Product(factor)(x, *shortcut), inputs


def squeezed(row: Row) -> Call:
    x = tensor(row["n"], row["c"], *row["size"], layout=row["layout"])
    return lambda x: used(squeeze(x), row["use"]), [x]


POOLINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "bins": (partial(F.adaptive_avg_pool1d, output_size=3), partial(F.adaptive_avg_pool2d, output_size=3)),
    "windows": (
        partial(F.avg_pool1d, kernel_size=3, stride=2, padding=1, count_include_pad=False),
        partial(F.avg_pool2d, kernel_size=3, stride=2, padding=1, count_include_pad=False),
    ),
}


def pooling(row: Row) -> Call:
    x = tensor(row["n"], row["c"], *row["size"], layout=row["layout"])
    return lambda x: used(pooled(x, *POOLINGS[row["pooling"]]), row["use"]), [x]


def context(row: Row) -> Call:
    inputs = [tensor(row["n"], row["c"], *row["size"], layout=row["layout"]), tensor(1, row["c"])]

    def call(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        outputs = _WeightedMean.apply(x, weight) if differentiates(x) else (_context(x, weight)[0], x)
        return used(outputs, row["use"])

    return call, inputs


def scaled(row: Row) -> Call:
    n, c_in, c_out, kernel = row["n"], row["c_in"], row["c_out"], row["kernel"]
    inputs = [
        tensor(n, c_in, *row["size"], layout=row["layout"]),
        tensor(c_out, c_in, kernel, kernel),
        1 + tensor(n, c_out, kernel, kernel).sigmoid(),
    ]
    return partial(aw.scaled_conv, stride=row["stride"]), inputs


def attended(row: Row) -> Call:
    heads, d, e, (h, w) = row["heads"], row["d"], row["e"], row["size"]
    inputs = [tensor(row["n"], heads * (2 * d + e), h, w, layout=row["layout"])]
    if row["relative"]:
        inputs += [tensor(2 * h - 1, d), tensor(2 * w - 1, d)]
    return lambda qkv, *tables: attention.attend(qkv, heads, heads * d, tables or None), inputs


@dataclass(frozen=True)
class Case:
    call: Callable[[Row], Call]
    rows: list[Row]
    module: Any = None  # the module whose attributes the capital axes set


MAPS = {
    "n": (1, 2), "c": (1, 3), "size": ((1, 1), (1, 3), (3, 1), (2, 3), (4, 4)),
    "layout": ("contiguous", "channels_last", "neither"),
}  # fmt: skip
USES = ("both", "small", "map")

CASES = {
    "_Gated": Case(
        gated,
        pairwise(
            **MAPS, factor=("channels", "positions", "all", "images", "shared"), shortcut=(False, True),
            _CHUNK=(1, 1 << 19),
        ),
        gating,
    ),
    "_Squeeze": Case(squeezed, pairwise(**MAPS, use=USES)),
    "_Pool": Case(pooling, pairwise(**MAPS, use=USES, pooling=tuple(POOLINGS), _AT_ONCE=(0, 1 << 15)), gating),
    "_WeightedMean": Case(context, pairwise(**MAPS, use=USES, frozen=(False, True))),
    "attention_nas::aw_conv": Case(
        scaled,
        pairwise(
            n=(1, 2), c_in=(1, 2, 5), c_out=(1, 2), size=((1, 1), (1, 3), (3, 1), (3, 4)), layout=MAPS["layout"],
            kernel=(3, 5), stride=(1, 2), _WEIGHTS=(1, 1 << 23), _ROWS=(1, 1600), frozen=(False, True),
        ),
        aw,
    ),
    "attention_nas::attention": Case(
        attended,
        pairwise(
            n=(1, 2), heads=(1, 2), d=(1, 2), e=(1, 2), size=((1, 1), (1, 3), (3, 1), (2, 3)), layout=MAPS["layout"],
            relative=(False, True), frozen=(False, True), _FOLDED=(0, 32), _BLOCK=(2, 1 << 18), _SAFE=(0.0, 60.0),
        ),
        attention,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # PyTorch's own, of forward mode
@pytest.mark.parametrize(
    ("name", "row"),
    [pytest.param(name, row, id=f"{name}-{i}") for name in CASES for i, row in enumerate(CASES[name].rows)],
)
def test_equals_finite_differences(name: str, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in row:
        if constant.startswith("_"):
            monkeypatch.setattr(CASES[name].module, constant, row[constant])
    torch.manual_seed(0)
    call, inputs = CASES[name].call(row)
    for index, leaf in enumerate(inputs):
        leaf.requires_grad_(not (row.get("frozen") and index == len(inputs) - 1 > 0))
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True, check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_every_gradient_written_by_hand_has_a_case() -> None:
    for module in pkgutil.walk_packages(nas.__path__, "nas."):
        import_module(module.name)
    functions = {
        kind.__name__ for kind in torch.autograd.Function.__subclasses__() if kind.__module__.startswith("nas.")
    }
    operators = {
        name for name, operator in torch._library.custom_ops.OPDEFS.items()
        if name.startswith("attention_nas::") and operator._backward_fn is not None
    }  # fmt: skip
    assert functions | operators == set(CASES)


def test_fused_attention_refuses_a_second_derivative_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(non_local, "_FEW", 0)
    site = Site("refine", 16, 16, size=3)
    module = OPERATORS["non_local"].build(site, resolve(OPTIONS["non_local"], {}, site)).double().eval()
    torch.nn.init.ones_(module.norm.weight)
    x = tensor(2, 16, 3, 3).requires_grad_()

    def second() -> Tensor:
        first = torch.autograd.grad(module(x).sin().sum(), x, create_graph=True)[0]
        return torch.autograd.grad(first.square().sum(), x)[0]

    assert torch.autograd.grad(module(x).sum(), x)[0].isfinite().all()
    with pytest.raises(RuntimeError, match=r"non_local: fused attention has no second derivative; .*SDPBackend\.MATH"):
        second()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the remedy that the message names
        found = second()
    monkeypatch.undo()
    torch.testing.assert_close(found, second(), rtol=1e-9, atol=1e-12)
