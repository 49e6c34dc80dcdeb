"""Weights and tables get weight decay, whatever their shape."""

from typing import Any

import pytest
from torch import nn

from nas import build_model, split_by_decay
from nas.operators import OPERATORS
from search_spaces import FAMILIES, OPTIONS, Architecture
from search_spaces.options import resolve
from search_spaces.sites import Site

SCALES = {"BAM": {"weight", "bias"}, "GALA": {"alpha", "beta"}}
"""Parameters that a module of ours multiplies or adds channel by channel."""

TABLES = {"AAConv2d": {"rel_h", "rel_w"}}

SKELETONS: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 8},
    "wide_resnet": {"depth": 10, "widen": 1, "bias": True},
    "preresnet": {"depth": 11},
    "mnasnet": {},
    "mobilenet_v1": {},
    "vgg16": {},
    "bn_inception": {},
    "inception_resnet_v2": {"image_size": 80},
}


def assert_roles(module: nn.Module) -> None:
    decayed, spared = (set(map(id, part)) for part in split_by_decay(module))
    for path, owner in module.named_modules():
        kind = type(owner).__name__
        for name, parameter in owner.named_parameters(recurse=False):
            is_norm = isinstance(owner, nn.BatchNorm2d | nn.LayerNorm)
            is_weight = isinstance(owner, nn.Conv2d | nn.Linear) and name == "weight"
            if is_weight or name in TABLES.get(kind, ()):
                assert id(parameter) in decayed, f"{path}.{name}"
            else:
                assert is_norm or name == "bias" or name in SCALES[kind], f"{path}.{name} has no known role"
                assert id(parameter) in spared, f"{path}.{name}"
    assert len(decayed) + len(spared) == len(list(module.parameters()))
    assert not decayed & spared


@pytest.mark.parametrize("name", OPERATORS)
def test_of_every_operator(name: str) -> None:
    is_conv = "conv" in OPTIONS[name].slots
    site = Site("conv", 32, 32, size=4, kernel_size=3, bias=True) if is_conv else Site("refine", 32, 32, size=1)
    params: dict[str, dict[str, Any]] = {"aa": {"heads": 2, "min_key_width": 2, "multiple": 2}}
    assert_roles(OPERATORS[name].build(site, resolve(OPTIONS[name], params.get(name, {}), site)))


@pytest.mark.parametrize("family", FAMILIES)
def test_of_every_family(family: str) -> None:
    fields = {"family": family, "image_size": 32, "num_classes": 10, **SKELETONS[family]}
    assert_roles(build_model(Architecture(FAMILIES[family].model_validate(fields)), device="meta"))


def test_lists_keep_the_order_and_what_is_shared_counts_once() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.bias = first.bias
    decayed, spared = split_by_decay(nn.Sequential(first, nn.LayerNorm(2), second))
    assert [id(p) for p in decayed] == [id(first.weight), id(second.weight)]
    assert len(spared) == 3
