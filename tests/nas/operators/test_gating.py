"""The fast means, gates and sums equal the plain formulas, forward and backward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators import OPERATORS, refined_sum
from nas.operators.gating import Merging, pooled, squeeze
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site


def map_of(*shape: int, dtype: torch.dtype = torch.float64, channels_last: bool = False) -> Tensor:
    torch.manual_seed(sum(shape))
    x = torch.randn(shape, dtype=dtype)
    return (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()


Pooling = tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Callable[[Tensor], Tensor]]


def twice(pool: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: pool(pool(x))


def windows(dimensions: int) -> Callable[[Tensor], Tensor]:
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d}[dimensions]
    return lambda x: pool(x, 3, 2, 1, count_include_pad=False)


def bins(dimensions: int, size: int) -> Callable[[Tensor], Tensor]:
    pool = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d}[dimensions]
    return lambda x: pool(x, size)


POOLINGS: dict[str, Pooling] = {
    "mean": (squeeze, bins(2, 1)),
    "3 bins": (lambda x: pooled(x, bins(1, 3), bins(2, 3)), bins(2, 3)),
    "5 bins": (lambda x: pooled(x, bins(1, 5), bins(2, 5)), bins(2, 5)),
    "windows": (lambda x: pooled(x, windows(1), windows(2)), windows(2)),
    "windows twice": (lambda x: pooled(x, twice(windows(1)), twice(windows(2))), twice(windows(2))),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 4, 30, 29), (3, 2, 2, 1), (2, 1, 6, 6)])
def test_pooling_is_pytorch_s(shape: tuple[int, ...], pooling: str, channels_last: bool) -> None:
    ours, plain = POOLINGS[pooling]
    x = map_of(*shape, channels_last=channels_last)
    small, passed = ours(x)
    expected = plain(x)
    torch.testing.assert_close(small, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(passed, x, rtol=0, atol=0)
    weights = torch.randn_like(expected), torch.randn_like(x)
    found = torch.autograd.grad((small * weights[0]).sum() + (passed * weights[1] * small.mean()).sum(), x)
    wanted = torch.autograd.grad((expected * weights[0]).sum() + (x * weights[1] * expected.mean()).sum(), x)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pooling", ["mean", "3 bins"])
@pytest.mark.parametrize("used", ["small", "map"])
def test_gradient_if_only_one_output_is_used(used: str, pooling: str) -> None:
    ours, plain = POOLINGS[pooling]
    x = map_of(2, 3, 4, 5)
    small, passed = ours(x)
    expected = plain(x) if used == "small" else x * 2
    found = torch.autograd.grad((small if used == "small" else passed * 2).square().sum(), x)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), x), rtol=1e-11, atol=1e-11)


def test_a_gradient_in_neither_memory_format() -> None:
    ours, plain = POOLINGS["3 bins"]
    x, pattern = map_of(2, 3, 4, 5), torch.randn(2, 5, 3, 4, dtype=torch.float64).permute(0, 2, 3, 1)
    small, passed = ours(x)
    found = torch.autograd.grad((small.square().sum(), passed), x, (None, pattern.clone()))
    wanted = torch.autograd.grad(plain(x).square().sum(), x)[0] + pattern
    torch.testing.assert_close(found[0], wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("pooling", ["mean", "3 bins"])
def test_half_types_keep_their_range(pooling: str) -> None:
    x = torch.full((1, 2, 40, 40), 1000.0, dtype=torch.float16)  # the sum of a map is infinite in this type
    small = POOLINGS[pooling][0](x)[0]
    assert torch.equal(small, torch.full_like(small, 1000.0))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck itself
def test_the_operators_are_registered_as_pytorch_asks() -> None:
    x = torch.randn(2, 3, 7, 5)
    rows, columns = torch.randn(7, 3), torch.randn(5, 2)
    torch.library.opcheck(torch.ops.attention_nas.resample.default, (x, rows, columns))
    torch.library.opcheck(torch.ops.attention_nas.add_resampled.default, (x, torch.randn(2, 3, 3, 2), rows, columns))


@pytest.mark.parametrize("name", ["se", "ge", "gc"])
def test_second_derivatives(name: str) -> None:
    site = Site("refine", 16, 16, size=3)
    module = OPERATORS[name].build(site, resolve(OPTIONS[name], {}, site)).double().eval()
    for parameter in module.parameters():  # a parameter at zero would hide errors
        nn.init.normal_(parameter, std=0.5)
    assert torch.autograd.gradgradcheck(module, map_of(2, 16, 3, 3), fast_mode=True)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["none", "se", "no_squeeze", "ge", "bam", "cbam", "gala", "gc", "snl", "non_local"])
def test_a_block_s_sum(name: str, channels_last: bool) -> None:
    site = Site("refine", 16, 16, size=6)
    module = OPERATORS[name].build(site, resolve(OPTIONS[name], {}, site)).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = map_of(2, 16, 6, 6, channels_last=channels_last)
    shortcut = torch.randn_like(x).requires_grad_()
    leaves = [x, shortcut, *module.parameters()]
    merged, apart = refined_sum(module, x, shortcut), module(x) + shortcut
    torch.testing.assert_close(merged, apart, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(apart)
    torch.testing.assert_close(
        torch.autograd.grad(merged, leaves, grad), torch.autograd.grad(apart, leaves, grad), rtol=1e-10, atol=1e-10
    )


def test_gates_and_contexts_take_the_shortcut_along() -> None:
    site = Site("refine", 16, 16, size=6)
    merging = {
        name for name in OPTIONS if "refine" in OPTIONS[name].slots
        and isinstance(OPERATORS[name].build(site, resolve(OPTIONS[name], {}, site)), Merging)
    }  # fmt: skip
    assert merging >= {"se", "no_squeeze", "ge", "bam", "cbam", "gala", "gc", "snl"}
