"""Gradients of whole networks with every operator equal those of plain formulas, down to maps of one pixel."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from nas import build_model
from nas.operators import OPERATORS
from search_spaces import EMPTY, FAMILIES, OPTIONS, Architecture, choose

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 18, "width": 8, "image_size": 32},
    "wide_resnet": {"depth": 10, "widen": 1, "image_size": 4},
    "preresnet": {"depth": 11, "width": 8, "image_size": 4},
    "mobilenet_v1": {"widen": 0.125, "image_size": 32},
}
"""Their last maps are 1x1."""

PARAMS: dict[str, dict[str, Any]] = {"aa": {"heads": 2, "min_key_width": 2, "multiple": 2}}


def everywhere(family: str, option: str) -> Architecture:
    skeleton = FAMILIES[family].model_validate({"family": family, "num_classes": 3, **NETWORKS[family]})
    choice = choose(option, PARAMS.get(option, {}))
    placements: dict[str, dict[Any, Any]] = {}
    for block in Architecture(skeleton).blocks:
        for slot in block.sites:
            if slot in OPTIONS[option].slots:
                try:
                    Architecture(skeleton, {block.name: {slot: choice}})
                except ValueError:
                    continue  # it has no place here: a convolution that is grouped, a map that cannot be halved
                placements.setdefault(block.name, {})[slot] = choice
    assert placements, f"{option} stands nowhere in {family}"
    return Architecture(skeleton, placements)


def gradients(model: nn.Module, images: Tensor) -> list[Tensor]:
    labels = torch.arange(len(images)) % 3
    return list(torch.autograd.grad(F.cross_entropy(model(images), labels), [*model.parameters()]))


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("option", [name for name in OPERATORS if name not in EMPTY.values()])
def test_network_gradients_equal_those_of_the_formulas(option: str, family: str) -> None:
    torch.manual_seed(0)
    model = build_model(everywhere(family, option)).double()
    for parameter in model.parameters():  # no zeros, which would hide the gradients of earlier layers
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    size = NETWORKS[family]["image_size"]
    images = torch.randn(4, 3, size, size, dtype=torch.float64)
    by_hand = gradients(model, images)
    with forward_ad.dual_level():  # where operators run their formulas
        plain = gradients(model, images)
    scale = max(float(gradient.abs().max()) for gradient in plain)
    assert scale > 0
    torch.testing.assert_close(by_hand, plain, rtol=1e-7, atol=1e-9 * scale)
