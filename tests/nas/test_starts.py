"""In a quick start gates are near the identity and no norm is at zero; all else starts as ever."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas import build_model, quick_start
from nas.operators import OPERATORS
from search_spaces import FAMILIES, OPTIONS, Architecture
from search_spaces.grammar import Choice
from search_spaces.options import resolve
from search_spaces.sites import Site

SITES = {slot: Site(slot, 16, 16, size=8, kernel_size=3) for slot in ("conv", "refine")}
OPENED = [
    ("se", {}),
    ("no_squeeze", {}),
    ("cbam", {}),
    ("cbam", {"variant": "max_pool"}),
    ("cbam", {"variant": "spatial"}),
    ("ge", {"variant": "theta"}),
    ("ge", {"variant": "theta_plus"}),
    ("gala", {}),
]
"""Options, and parameters, whose factors are below 1 and have a bias."""
AS_EVER = [
    ("se", {"bias": False}),
    ("ge", {"variant": "theta_minus"}),
    ("bam", {}),
    ("aa", {"heads": 2, "min_key_width": 2, "multiple": 2}),
    ("aw", {}),
]


def built(option: str, params: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    site = SITES["conv" if "conv" in OPTIONS[option].slots else "refine"]
    return OPERATORS[option].build(site, resolve(OPTIONS[option], params, site))


def images() -> Tensor:
    return torch.rand(8, 16, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.mark.parametrize(("option", "params"), OPENED, ids=str)
def test_an_opened_gate_starts_near_the_identity(option: str, params: dict[str, Any]) -> None:
    module, x = built(option, params), images()
    before = (module(x) / x).mean()
    quick_start(module)
    factor = module(x) / x
    assert before < 0.75
    assert before + 0.15 < factor.mean()
    assert factor.mean() > 0.7
    assert (factor < 1).all()


@pytest.mark.parametrize(("option", "params"), OPENED, ids=str)
def test_every_parameter_of_an_opened_gate_learns_within_two_steps(option: str, params: dict[str, Any]) -> None:
    module, x = built(option, params), images()
    quick_start(module)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    learns = set[str]()
    for _ in range(2):
        optimizer.zero_grad()
        (module(x) * torch.linspace(-1, 1, 8)).square().mean().backward()
        learns |= {
            name for name, parameter in module.named_parameters() if parameter.grad is not None and parameter.grad.any()
        }
        optimizer.step()
    assert learns == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize(("option", "params"), AS_EVER, ids=str)
def test_other_operators_start_as_ever(option: str, params: dict[str, Any]) -> None:
    module, same = built(option, params), built(option, params)
    quick_start(module)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), same.parameters(), strict=True))


def test_a_whole_network_starts_quickly() -> None:
    skeleton = FAMILIES["resnet"].model_validate({"family": "resnet", "depth": 8, "image_size": 16, "num_classes": 4})
    se = {block: {"refine": Choice("se", {})} for block in ("layer1.0", "layer3.0")}
    network = build_model(Architecture(skeleton, se))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(not norm.weight.any() for norm in norms) == 3
    quick_start(network)
    biases = [parameter for name, parameter in network.named_parameters() if name.endswith("expand.bias")]
    assert len(biases) == 2
    assert all((bias == 3).all() for bias in biases)
    assert all((norm.weight == 1).all() for norm in norms)
