"""Means, gates and sums in fewer passes equal the plain formulas, forward and backward."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators import OPERATORS, refined_sum
from nas.operators.gating import Merging, squeeze
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site


def map_of(*shape: int, dtype: torch.dtype = torch.float64, channels_last: bool = False) -> Tensor:
    torch.manual_seed(sum(shape))
    x = torch.randn(shape, dtype=dtype)
    return (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 4, 8, 9), (3, 2, 2, 1), (2, 1, 6, 6)])
def test_squeeze_is_adaptive_pooling(shape: tuple[int, ...], size: int, channels_last: bool) -> None:
    x = map_of(*shape, channels_last=channels_last)
    means, passed = squeeze(x, size)
    expected = F.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(means, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(passed, x, rtol=0, atol=0)
    weights = torch.randn_like(expected), torch.randn_like(x)
    ours = torch.autograd.grad((means * weights[0]).sum() + (passed * weights[1] * means.mean()).sum(), x)
    theirs = torch.autograd.grad((expected * weights[0]).sum() + (x * weights[1] * expected.mean()).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("used", ["means", "map"])
def test_one_use_alone_has_its_gradient(used: str, size: int) -> None:
    x = map_of(2, 3, 4, 5)
    means, passed = squeeze(x, size)
    expected = F.adaptive_avg_pool2d(x, size) if used == "means" else x * 2
    ours = torch.autograd.grad((means if used == "means" else passed * 2).square().sum(), x)
    torch.testing.assert_close(ours, torch.autograd.grad(expected.square().sum(), x), rtol=1e-11, atol=1e-11)


def test_a_gradient_in_neither_memory_format() -> None:
    x, pattern = map_of(2, 3, 4, 5), torch.randn(2, 5, 3, 4, dtype=torch.float64).permute(0, 2, 3, 1)
    means, passed = squeeze(x, 3)
    ours = torch.autograd.grad((means.square().sum(), passed), x, (None, pattern.clone()))
    theirs = torch.autograd.grad(F.adaptive_avg_pool2d(x, 3).square().sum(), x)[0] + pattern
    torch.testing.assert_close(ours[0], theirs, rtol=1e-11, atol=1e-11)


def test_half_types_keep_their_range() -> None:
    x = torch.full((1, 2, 40, 40), 1000.0, dtype=torch.float16)  # the sum of a map is infinite in this type
    for size in (1, 3):
        assert torch.equal(squeeze(x, size)[0], torch.full((1, 2, size, size), 1000.0, dtype=torch.float16))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck itself
def test_the_operators_are_registered_as_pytorch_asks() -> None:
    x = torch.randn(2, 3, 7, 5)
    torch.library.opcheck(torch.ops.attention_nas.bin_means.default, (x, 3))
    torch.library.opcheck(torch.ops.attention_nas.add_bin_gradients.default, (x, torch.randn(2, 3, 3, 3)))


@pytest.mark.parametrize("name", ["se", "ge", "gc"])
def test_second_derivatives(name: str) -> None:
    site = Site("refine", 16, 16, size=3)
    module = OPERATORS[name].build(site, resolve(OPTIONS[name], {}, site)).double().eval()
    for parameter in module.parameters():  # none at zero, where there is nothing to see
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
    assert merging == {"se", "no_squeeze", "ge", "bam", "cbam", "gala", "gc", "snl"}
