"""All forms of the convolution with one kernel per image agree, and they keep little memory."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nas.operators import OPERATORS, aw
from nas.operators.aw import AWConv2d, scaled_conv
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site


def one_by_one(x: Tensor, weight: Tensor, scale: Tensor, stride: int) -> Tensor:
    kernels, padding = weight * scale.unsqueeze(2), weight.shape[-1] // 2
    convolved = [F.conv2d(x[i : i + 1], kernels[i], stride=stride, padding=padding) for i in range(len(x))]
    return torch.cat(convolved)


def inputs(c_in: int, c_out: int, h: int, w: int, kernel: int) -> list[Tensor]:
    torch.manual_seed(c_in + h)
    shapes = (5, c_in, h, w), (c_out, c_in, kernel, kernel), (5, c_out, kernel, kernel)
    x, weight, scale = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return [tensor.requires_grad_() for tensor in (x, weight, 1 + scale.sigmoid())]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("c_in", "c_out", "h", "w", "kernel", "stride"),
    [
        (4, 6, 7, 5, 3, 1),  # kernels
        (16, 6, 3, 4, 3, 1),  # maps
        (30, 5, 1, 2, 3, 1),  # maps, kept; taps that never meet the image
        (30, 5, 2, 3, 3, 1),
        (40, 3, 5, 6, 5, 1),
        (4, 6, 7, 5, 3, 2),
        (16, 3, 3, 3, 3, 2),
        (8, 4, 5, 5, 1, 1),
    ],
)
def test_every_form_equals_a_convolution_for_each_image(
    c_in: int,
    c_out: int,
    h: int,
    w: int,
    kernel: int,
    stride: int,
    channels_last: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, weight, scale = inputs(c_in, c_out, h, w, kernel)
    monkeypatch.setattr(aw, "_WEIGHTS", 2 * weight.numel())  # groups of two images and an odd one
    monkeypatch.setattr(aw, "_ROWS", 2 * h * w)
    images = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    out, expected = scaled_conv(images, weight, scale, stride), one_by_one(x, weight, scale, stride)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)
    grad = torch.randn_like(expected)
    leaves = [x, weight, scale]
    ours, theirs = torch.autograd.grad(out, leaves, grad), torch.autograd.grad(expected, leaves, grad)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(scaled_conv(images, weight, scale, stride), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck itself
@pytest.mark.parametrize("c_in", [4, 48], ids=["kernels", "maps"])
def test_the_operator_is_registered_as_pytorch_asks(c_in: int) -> None:
    torch.library.opcheck(torch.ops.attention_nas.aw_conv.default, (*inputs(c_in, 3, 4, 3, 3), 1, True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("c_in", [4, 48], ids=["kernels", "maps"])
def test_counters_see_one_convolution_and_its_gradients(c_in: int, stride: int) -> None:
    x, weight, scale = inputs(c_in, 3, 5, 3, 3)
    with FlopCounterMode(display=False) as counter:
        out = scaled_conv(x, weight, scale, stride)
    with FlopCounterMode(display=False) as plain:
        F.conv2d(x, weight, stride=stride, padding=1)
    assert counter.get_total_flops() == plain.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        out.sum().backward()
    assert counter.get_total_flops() == 2 * plain.get_total_flops()


@pytest.mark.parametrize("c_in", [4, 48], ids=["kernels", "maps"])
def test_zero_attention_is_the_plain_convolution(c_in: int) -> None:
    site = Site("conv", c_in, 6, size=5, kernel_size=3)
    module = OPERATORS["aw"].build(site, resolve(OPTIONS["aw"], {"reduction": 2}, site)).double().eval()
    assert isinstance(module, AWConv2d)
    with torch.no_grad():
        module.expand_norm.bias.fill_(-100)  # sigmoid(-100) is zero in float64 but for 1e-44
        module.expand_norm.weight.zero_()
    x = torch.randn(3, c_in, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), module.conv(x), rtol=1e-12, atol=1e-12)


def test_full_attention_doubles_it() -> None:
    site = Site("conv", 4, 6, size=5, kernel_size=3)
    module = OPERATORS["aw"].build(site, resolve(OPTIONS["aw"], {"reduction": 2}, site)).double().eval()
    assert isinstance(module, AWConv2d)
    with torch.no_grad():
        module.expand_norm.bias.fill_(100)
        module.expand_norm.weight.zero_()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(module(x), 2 * module.conv(x), rtol=1e-12, atol=1e-12)


def test_maps_are_kept_only_for_a_gradient() -> None:
    x, weight, scale = inputs(48, 3, 4, 3, 3)
    kept = torch.ops.attention_nas.aw_conv(x, weight, scale, 1, True)[1]
    dropped = torch.ops.attention_nas.aw_conv(x, weight, scale, 1, False)[1]
    assert kept.numel() == 9 * 5 * 4 * 3 * 3
    assert dropped.numel() == 0
