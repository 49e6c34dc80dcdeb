"""All forms of the attention kernel agree, and it has the symmetries that the paper claims."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas.costs.allocator import allocator_peak
from nas.operators import OPERATORS, attention
from nas.operators.attention import _folded, attend, products
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site

HEADS, D_K, D_V = 2, 8, 6


def inputs(h: int, w: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(h * 31 + w)
    shapes = (2, 2 * D_K + D_V, h, w), (2 * h - 1, D_K // HEADS), (2 * w - 1, D_K // HEADS)
    return tuple((scale * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["bounded", "row maxima"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (18, 15)], ids=str)
def test_blocks_equal_the_folded_form(
    size: tuple[int, int], scale: float, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of 64 logits: several heads per block, several blocks per head, and a smaller last block.
    monkeypatch.setattr(attention, "_BLOCK", 64)
    qkv, rel_h, rel_w = inputs(*size, scale=scale)
    tables = (rel_h, rel_w) if relative else None
    leaves = [qkv, rel_h, rel_w] if relative else [qkv]
    out, expected = attend(qkv, HEADS, D_K, tables), _folded(qkv, HEADS, D_K, tables)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    grad = torch.randn_like(out)
    ours, theirs = torch.autograd.grad(out, leaves, grad), torch.autograd.grad(expected, leaves, grad)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-8)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck itself
@pytest.mark.parametrize("size", [(4, 3), (17, 16)], ids=["folded", "broadcast"])
def test_the_operator_is_registered_as_pytorch_asks(size: tuple[int, int]) -> None:
    qkv, rel_h, rel_w = inputs(*size)
    rel = torch.cat([rel_w, rel_h]).detach().requires_grad_()
    torch.library.opcheck(torch.ops.attention_nas.attention.default, (qkv, rel, HEADS, D_K))


def test_half_types_are_computed_in_float32() -> None:
    qkv, rel_h, rel_w = inputs(6, 6, scale=4.0, dtype=torch.float32)
    low = qkv.detach().bfloat16()
    exact = attend(low.double(), HEADS, D_K, (rel_h.double(), rel_w.double()))
    out = attend(low, HEADS, D_K, (rel_h, rel_w))
    assert out.dtype == torch.bfloat16
    # Only the result is rounded, to 8 bits.
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-6)


def test_counters_see_the_formula_whatever_form_runs() -> None:
    for size in ((4, 3), (17, 16)):
        qkv, rel_h, rel_w = inputs(*size)
        for tables in ((rel_h, rel_w), None):
            with FlopCounterMode(display=False) as counter:
                out = attend(qkv, HEADS, D_K, tables)
            macs = products(D_K, D_V, *size, relative=tables is not None)
            assert counter.get_total_flops() == 2 * 2 * macs  # two images, two operations each
            with FlopCounterMode(display=False) as counter:
                out.sum().backward()
            assert counter.get_total_flops() == 2 * 2 * 2 * macs


def test_relative_attention_follows_a_shift() -> None:
    """If an object on an empty background moves, the attention inside it moves with it.

    Keys of the background get no weight in any softmax, so only offsets inside the object matter.
    """
    torch.manual_seed(0)
    rel_h, rel_w = (torch.randn(2 * 9 - 1, D_K // HEADS, dtype=torch.float64) for _ in range(2))
    patch = torch.randn(1, 2 * D_K + D_V, 3, 3, dtype=torch.float64)
    patch[:, : D_K // HEADS * HEADS : D_K // HEADS] = 1.0  # the first component of every query ...

    def attended(y: int, x: int) -> Tensor:
        canvas = torch.zeros(1, 2 * D_K + D_V, 9, 9, dtype=torch.float64)
        canvas[:, D_K : 2 * D_K : D_K // HEADS] = -1e4  # ... is multiplied by -10,000 for keys of the background
        canvas[:, :, y : y + 3, x : x + 3] = patch
        return attend(canvas, HEADS, D_K, (rel_h, rel_w))[:, :, y : y + 3, x : x + 3]

    reference = attended(1, 1)
    for place in ((1, 4), (5, 2), (6, 6)):
        torch.testing.assert_close(attended(*place), reference, rtol=1e-10, atol=1e-10)


def test_without_positions_a_permutation_of_pixels_permutes_the_output() -> None:
    qkv, _, _ = inputs(4, 5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))

    def permuted(x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, order].view_as(x)

    ours, theirs = attend(permuted(qkv), HEADS, D_K, None), permuted(attend(qkv, HEADS, D_K, None))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_with_positions_it_does_not() -> None:
    qkv, rel_h, rel_w = inputs(4, 5)
    flipped = attend(qkv.flip(3), HEADS, D_K, (rel_h, rel_w)).flip(3)
    assert (flipped - attend(qkv, HEADS, D_K, (rel_h, rel_w))).abs().max() > 1e-3


def test_position_free_aa_is_position_free_and_relative_is_not() -> None:
    site = Site("conv", 8, 8, size=4)
    torch.manual_seed(0)
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    differences = {}
    for position in ("none", "relative"):
        params = {"kappa": 1.0, "upsilon": 1.0, "heads": 2, "min_key_width": 2, "position": position}
        module = OPERATORS["aa"].build(site, resolve(OPTIONS["aa"], params, site)).double().eval()
        differences[position] = (module(x.flip(2)) - module(x).flip(2)).abs().max()
    assert differences["none"] < 1e-10
    assert differences["relative"] > 1e-3


def test_a_smaller_map_sees_the_middle_of_the_tables() -> None:
    site = Site("conv", 8, 8, size=6)
    params = {"kappa": 1.0, "upsilon": 1.0, "heads": 2, "min_key_width": 2}
    large = OPERATORS["aa"].build(site, resolve(OPTIONS["aa"], params, site)).double().eval()
    small_site = Site("conv", 8, 8, size=4)
    small = OPERATORS["aa"].build(small_site, resolve(OPTIONS["aa"], params, small_site)).double().eval()
    state = large.state_dict()
    small.load_state_dict(state | {name: state[name][2:-2] for name in ("rel_h", "rel_w")})
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(large(x), small(x), rtol=1e-12, atol=1e-12)


def test_autocast_does_not_reach_inside() -> None:
    # The kernel computes in float32. Products in half precision would lose the logits' last digits.
    qkv, rel_h, rel_w = (leaf.detach().bfloat16() for leaf in inputs(6, 5))
    args = qkv, torch.cat([rel_w, rel_h]).float(), HEADS, D_K
    alone = torch.ops.attention_nas.attention(*args)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.ops.attention_nas.attention(*args)
    assert all(map(torch.equal, inside, alone))
    gradient = torch.ones_like(alone[0])
    alone = torch.ops.attention_nas.attention_backward(gradient, *args[:2], *alone, HEADS, D_K)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.ops.attention_nas.attention_backward(gradient, *args[:2], *inside, HEADS, D_K)
    assert all(map(torch.equal, inside, alone))


def test_memory_does_not_depend_on_values() -> None:
    # The pass without data (nas.costs) runs the kernel on uninitialised memory.
    peaks = set()
    for scale in (1.0, 30.0):
        qkv, rel_h, rel_w = (leaf.detach() for leaf in inputs(6, 5, scale=scale, dtype=torch.float32))
        peaks.add(allocator_peak(lambda q=qkv, h=rel_h, w=rel_w: attend(q, HEADS, D_K, (h, w))))
    assert len(peaks) == 1
