"""Memory formats: no network gets one in which oneDNN's gradients are wrong."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from nas import build_model, memory_format
from search_spaces import FAMILIES, Architecture


def resnet(width: int, **fields: object) -> torch.nn.Module:
    given = {"depth": 8, "image_size": 16, "num_classes": 5, "width": width, **fields}
    return build_model(Architecture(FAMILIES["resnet"].model_validate(given), {}))


@pytest.mark.parametrize(
    ("width", "device", "asked", "given"),
    [
        (8, "cpu", True, True),
        (8, "cpu", False, False),
        (7, "cpu", True, False),  # the shortcut of the second stage is a strided 1x1 convolution of 7 channels
        (7, "cuda", True, True),
    ],
)
def test_narrow_networks_are_not_channels_last_on_the_cpu(width: int, device: str, asked: bool, given: bool) -> None:
    layout = torch.channels_last if given else torch.contiguous_format
    assert memory_format(resnet(width), device, channels_last=asked) == layout


def test_narrow_networks_have_right_gradients() -> None:
    """In the other format oneDNN's gradient is wrong, or ends the process, on CPUs that have only AVX2."""
    torch.manual_seed(0)
    network = resnet(4)
    exact = copy.deepcopy(network).double()
    layout = memory_format(network, "cpu", channels_last=True)
    images, labels = torch.randn(32, 3, 16, 16), torch.arange(32) % 5
    cross_entropy(network.to(memory_format=layout)(images.contiguous(memory_format=layout)), labels).backward()
    cross_entropy(exact(images.double()), labels).backward()
    for (name, found), right in zip(network.named_parameters(), exact.parameters(), strict=True):
        assert found.grad is not None
        assert right.grad is not None
        torch.testing.assert_close(found.grad.double(), right.grad, rtol=1e-3, atol=1e-5, msg=name)
