"""The network of every family agrees with its declaration and its cost."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas import build_model
from nas.costs.counting import count
from nas.operators import OPERATORS
from nas.skeletons import SKELETONS
from search_spaces import EMPTY, FAMILIES, OPTIONS, Architecture, Choice, Slot, choose

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet basic": {"family": "resnet", "depth": 8},
    "resnet basic, pool": {"family": "resnet", "depth": 8, "shortcut": "pool"},
    "resnet basic, stage": {"family": "resnet", "depth": 18, "shortcut": "stage", "width": 16, "stem": "cifar"},
    "resnet bottleneck, first": {"family": "resnet", "depth": 11, "stride_on": "first"},
    "resnet bottleneck, 3x3": {"family": "resnet", "depth": 50, "width": 16},
    "resnet grouped": {"family": "resnet", "depth": 11, "width": 32, "groups": 2, "width_per_group": 16},
    "resnet widened": {"family": "resnet", "depth": 18, "width": 16, "widen": 1.5},
    "wide_resnet": {"family": "wide_resnet", "depth": 10, "widen": 2},
    "wide_resnet, pool": {"family": "wide_resnet", "depth": 16, "widen": 2, "shortcut": "pool"},
    "wide_resnet, bias": {"family": "wide_resnet", "depth": 10, "widen": 2, "bias": True},
    "preresnet, first": {"family": "preresnet", "depth": 11, "stride_on": "first"},
    "preresnet, 3x3": {"family": "preresnet", "depth": 20},
    "mnasnet": {"family": "mnasnet", "widen": 0.5},
    "mnasnet, none": {"family": "mnasnet", "widen": 0.5, "se": "none"},
    "mnasnet, every": {"family": "mnasnet", "widen": 0.5, "se": "every"},
    "mobilenet_v1": {"family": "mobilenet_v1", "widen": 0.5},
    "vgg16": {"family": "vgg16", "hidden": 64},
    "bn_inception": {"family": "bn_inception"},
    "inception_resnet_v2": {"family": "inception_resnet_v2"},
}
"""One of every branch in the families' code; small, for most are built with every option."""

PARAMS: dict[str, dict[str, Any]] = {"aa": {"heads": 2, "min_key_width": 2, "multiple": 2}}
"""Where an option's defaults are too large for small networks."""

SMALLEST = [
    "resnet basic",
    "resnet bottleneck, first",
    "wide_resnet",
    "preresnet, first",
    "mnasnet",
    "mobilenet_v1",
    "vgg16",
    "bn_inception",
    "inception_resnet_v2",
]
"""At least one of every family."""


def size_of(name: str, image_size: int) -> int:
    """Inception-ResNet-v2 has no maps below 75 pixels."""
    return image_size + 48 if name == "inception_resnet_v2" else image_size


def network(name: str, image_size: int = 32) -> Architecture:
    fields = {"image_size": size_of(name, image_size), "num_classes": 10, **NETWORKS[name]}
    return Architecture(FAMILIES[fields["family"]].model_validate(fields))


def mixtures(name: str) -> Iterator[Architecture]:
    """Architectures with alternating options, until every option was in every slot that allows it."""
    plain = network(name)
    wanted = {(slot, option) for option in OPTIONS for slot in OPTIONS[option].slots if option != EMPTY[slot]}
    while wanted:
        placements: dict[str, dict[Slot, Choice]] = {}
        for block in plain.blocks:
            for slot, option in sorted(wanted):
                if slot not in block.sites or slot in placements.get(block.name, {}):
                    continue
                choice = choose(option, PARAMS.get(option, {}))
                try:
                    Architecture(plain.skeleton, {block.name: {slot: choice}})
                except ValueError:
                    continue  # not allowed here; try a later block
                placements.setdefault(block.name, {})[slot] = choice
                wanted.remove((slot, option))
        if not placements:
            return  # this family has no slot for the remaining options
        yield Architecture(plain.skeleton, placements)


def flops(model: nn.Module, architecture: Architecture) -> int:
    skeleton = architecture.skeleton
    images = torch.zeros(1, skeleton.in_channels, skeleton.image_size, skeleton.image_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        model.eval()(images)
    return int(counter.get_total_flops())


def test_both_tables_have_the_same_families() -> None:
    assert list(SKELETONS) == list(FAMILIES)
    assert {fields["family"] for fields in NETWORKS.values()} == set(FAMILIES)


@pytest.mark.parametrize("image_size", [32, 45])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_count_is_exact(name: str, image_size: int) -> None:
    architecture = network(name, image_size)
    model = build_model(architecture, device="meta")
    counted = count(architecture)
    assert counted.params == sum(parameter.numel() for parameter in model.parameters())
    assert 2 * counted.macs == flops(model, architecture)


@pytest.mark.parametrize("name", SMALLEST)
def test_the_count_is_exact_with_every_option(name: str) -> None:
    for architecture in mixtures(name):
        model = build_model(architecture, device="meta")
        counted = count(architecture)
        assert counted.params == sum(parameter.numel() for parameter in model.parameters())
        assert 2 * counted.macs == flops(model, architecture)


@pytest.mark.parametrize("image_size", [32, 45])
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_have_the_declared_channels_and_sizes(name: str, image_size: int) -> None:
    """The input and output of every operator have the channels and the size that its site declares."""
    architecture = network(name, image_size)
    sites = {block.name: block.sites for block in architecture.blocks}
    seen = []

    class Spy(nn.Module):
        def __init__(self, block: str, slot: Slot) -> None:
            super().__init__()
            self.site = sites[block][slot]
            self.inner = OPERATORS[EMPTY[slot]].build(self.site, {})
            seen.append((block, slot))

        def forward(self, x: Tensor) -> Tensor:
            y = self.inner(x)
            assert tuple(x.shape[1:]) == (self.site.in_channels, self.site.size, self.site.size)
            assert tuple(y.shape[1:]) == (self.site.out_channels, self.site.out_size, self.site.out_size)
            seen.remove((block_of[self], self.site.slot))
            return y

    block_of: dict[Spy, str] = {}

    def place(block: str, slot: Slot) -> Spy:
        spy = Spy(block, slot)
        block_of[spy] = block
        return spy

    skeleton = architecture.skeleton
    with torch.device("meta"):
        model = SKELETONS[skeleton.family].build(skeleton, place)
        assert sorted(seen) == sorted((block, slot) for block in sites for slot in sites[block])
        assert model.eval()(torch.zeros(1, 3, *[skeleton.image_size] * 2)).shape == (1, 10)
    assert seen == []  # each was called once


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(network(name))
    for module in model.modules():  # a branch with scale 0 passes no gradient on
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    model(torch.randn(2, 3, *[size_of(name, 32)] * 2)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    # A scale after a zero map would get no gradient; these networks have none.
    assert all(parameter.grad.abs().sum() > 0 for key, parameter in model.named_parameters() if key.endswith("weight"))


@pytest.mark.parametrize("name", NETWORKS)
def test_other_sizes_than_declared(name: str) -> None:
    model = build_model(network(name)).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, size_of(name, 40), size_of(name, 52))).shape == (1, 10)


def test_residual_blocks_begin_as_the_identity() -> None:
    model = build_model(network("resnet basic"))
    x = torch.rand(2, 16, 32, 32)
    torch.testing.assert_close(model.get_submodule("stages.layer1.0")(x), x)


@pytest.mark.parametrize("name", ["resnet basic, pool", "wide_resnet"])
def test_no_graph_breaks(name: str) -> None:
    model = build_model(network(name)).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(images), model(images))


def _copy(source: nn.Module, target: nn.Module) -> None:
    """Copies tensors in order: both networks list their layers in the order of the forward pass."""
    values, names = list(source.state_dict().values()), list(target.state_dict())
    assert len(values) == len(names)
    target.load_state_dict(OrderedDict(zip(names, values, strict=True)))


@pytest.mark.parametrize(
    ("theirs", "fields"),
    [
        ("resnet34", {"depth": 34}),
        ("resnet50", {"depth": 50}),
        ("resnext50_32x4d", {"depth": 50, "groups": 32, "width_per_group": 4}),
    ],
)
def test_resnets_are_torchvisions(theirs: str, fields: dict[str, Any]) -> None:
    import torchvision.models

    torch.manual_seed(0)
    reference = getattr(torchvision.models, theirs)(weights=None, num_classes=7).eval()
    skeleton = FAMILIES["resnet"].model_validate({"image_size": 64, "num_classes": 7, **fields})
    model = build_model(Architecture(skeleton)).eval()
    _copy(reference, model)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images))


@pytest.mark.parametrize(
    ("theirs", "options", "family"),
    [
        ("semnasnet_100", {}, "mnasnet"),
        ("inception_resnet_v2", {"norm_eps": 1e-5}, "inception_resnet_v2"),
    ],
)
def test_networks_are_timms(theirs: str, options: dict[str, Any], family: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    reference = timm.create_model(theirs, num_classes=7, **options).eval()
    skeleton = FAMILIES[family].model_validate({"image_size": 96, "num_classes": 7})
    model = build_model(Architecture(skeleton)).eval()
    _copy(reference, model)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(images))
