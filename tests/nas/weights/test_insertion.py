"""Operators inserted into a trained network leave its logits as they were."""

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas import build_model
from nas.operators import OPERATORS
from nas.weights import Loaded, Weights, load_weights
from search_spaces import OPTIONS, Architecture
from search_spaces.grammar import Choice, choose
from search_spaces.sites import SLOTS, Slot
from search_spaces.skeletons import FAMILIES, Skeleton

SKELETONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "basic": ("resnet", {"depth": 14, "width": 8, "image_size": 16}),
    "bottlenecks": ("resnet", {"depth": 20, "width": 8, "image_size": 16, "stride_on": "first"}),
    "pooled shortcuts": ("resnet", {"depth": 14, "width": 8, "image_size": 15, "shortcut": "pool"}),
    "resnet18": ("resnet", {"depth": 18, "width": 8, "image_size": 32}),
    "resnext": ("resnet", {"depth": 29, "width": 8, "groups": 2, "width_per_group": 32, "image_size": 16}),
    "wide_resnet": ("wide_resnet", {"depth": 16, "widen": 1, "image_size": 16}),
    "wide_resnet, pooled": (
        "wide_resnet",
        {"depth": 10, "widen": 2, "image_size": 16, "shortcut": "pool"},
    ),
    "preresnet": ("preresnet", {"depth": 20, "image_size": 16}),
    "mnasnet": ("mnasnet", {"image_size": 32, "widen": 0.5}),
    "mobilenet_v1": ("mobilenet_v1", {"image_size": 32, "widen": 0.25}),
    "vgg16": ("vgg16", {"image_size": 32, "hidden": 16}),
    "bn_inception": ("bn_inception", {"image_size": 32}),
    "inception_resnet_v2": ("inception_resnet_v2", {"image_size": 75}),
}
"""A small one of every family, and of every kind of shortcut."""

EXACT: Mapping[str, tuple[dict[str, Any], ...]] = {
    "se": ({"reduction": 4}, {"reduction": 4, "bias": False}),
    "no_squeeze": ({"reduction": 4},),
    "ge": ({"variant": "theta"}, {"variant": "theta_plus", "reduction": 4}),
    "bam": ({"reduction": 4}, {"reduction": 4, "form": "code"}),
    "cbam": ({"reduction": 4}, {"reduction": 4, "variant": "max_pool"}, {"reduction": 4, "variant": "spatial"}),
    "gala": ({"reduction": 4},),
    "gc": ({"reduction": 4},),
    "snl": ({},),
    "non_local": ({}, {"pairwise": "gaussian"}, {"pairwise": "concatenation"}),
    "aw": ({"reduction": 4},),
}
"""Operators, in their forms, that start without a change."""
AA = {"heads": 2, "min_key_width": 4, "multiple": 4, "upsilon": 0.25}
CHANGING: Mapping[str, dict[str, Any]] = {"aa": AA, "ge": {"variant": "theta_minus"}}
"""AA cannot be a convolution; theta_minus has no parameters, so its factor depends on the input from the start."""


def skeleton_of(name: str) -> Skeleton:
    family, fields = SKELETONS[name]
    return FAMILIES[family](num_classes=5, **fields)


def inserted(skeleton: Skeleton, slot: Slot) -> Iterator[Architecture]:
    """Networks in which every block has an operator in the slot: together, each of those that fit it."""
    kinds = [
        choose(option, params) for option, forms in EXACT.items() for params in forms if slot in OPTIONS[option].slots
    ]
    blocks = [block.name for block in skeleton.blocks() if slot in block.sites]
    for first in range(0, len(kinds), max(1, len(blocks))):
        placements = {
            block: {slot: choice}
            for block, choice in zip(blocks, islice(cycle(kinds), first, None), strict=False)
            if fits(skeleton, block, slot, choice)
        }
        if placements:
            yield Architecture(skeleton, placements)


def fits(skeleton: Skeleton, block: str, slot: Slot, choice: Choice) -> bool:
    try:
        Architecture(skeleton, {block: {slot: choice}})
    except ValueError:
        return False
    return True


def started(architecture: Architecture, plain: nn.Module, **more: Any) -> tuple[nn.Module, Loaded]:
    torch.manual_seed(1)
    network = build_model(architecture)
    told = load_weights(network, architecture, Weights("plain.pth", plain.state_dict()), **more)
    return network.eval(), told


def change(network: nn.Module, plain: nn.Module, images: Tensor) -> float:
    """Largest change of a logit, over the largest logit."""
    with torch.inference_mode():
        before = plain(images)
        return ((network(images) - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("name", SKELETONS)
def test_no_operator_changes_a_logit(name: str, slot: Slot, randomised: Callable[[nn.Module], nn.Module]) -> None:
    skeleton = skeleton_of(name)
    plain = randomised(build_model(Architecture(skeleton)))
    images = torch.rand(2, 3, skeleton.image_size, skeleton.image_size)
    for architecture in inserted(skeleton, slot):
        network, told = started(architecture, plain)
        assert len(told.inserted) == len(architecture.placements)
        assert told.changing == ()
        assert change(network, plain, images) <= 1e-5


def test_in_all_slots_at_once(randomised: Callable[[nn.Module], nn.Module]) -> None:
    skeleton = skeleton_of("basic")
    plain = randomised(build_model(Architecture(skeleton)))
    options: Mapping[Slot, str] = {"conv": "aw", "conv2": "aw", "refine": "cbam", "after": "bam"}
    everywhere = {slot: choose(option, {"reduction": 4}) for slot, option in options.items()}
    architecture = Architecture(skeleton, {block.name: everywhere for block in skeleton.blocks()})
    network, told = started(architecture, plain)
    assert told.changing == ()
    assert change(network, plain, torch.rand(2, 3, 16, 16)) <= 1e-5


@pytest.mark.parametrize(("option", "params"), CHANGING.items())
def test_what_cannot_be_exact_is_told(
    option: str, params: dict[str, Any], randomised: Callable[[nn.Module], nn.Module]
) -> None:
    skeleton, slot = skeleton_of("basic"), SLOTS[0] if option == "aa" else SLOTS[2]
    plain = randomised(build_model(Architecture(skeleton)))
    _, told = started(Architecture(skeleton, {"layer2.0": {slot: choose(option, params)}}), plain)
    assert told.changing == (f"layer2.0.{slot} ({option})",)
    assert list(told.lines())[-1] == f"these change the logits: layer2.0.{slot} ({option})"


def test_a_constant_is_not_carried_through_trained_operators(
    randomised: Callable[[nn.Module], nn.Module],
) -> None:
    skeleton, se = skeleton_of("basic"), choose("se", {"reduction": 4})
    theirs = Architecture(skeleton, {"layer1.1": {"refine": se}})
    trained = randomised(build_model(theirs))
    ours = Architecture(skeleton, {"layer1.0": {"refine": se, "after": se}, "layer1.1": {"refine": se, "after": se}})
    network, told = started(ours, trained)
    assert set(told.inserted) == {"layer1.0.refine (se)", "layer1.0.after (se)", "layer1.1.after (se)"}
    assert told.changing == ("layer1.0.after (se)",)
    images = torch.rand(2, 3, 16, 16)
    within = Architecture(skeleton, {"layer1.0": {"refine": se}, "layer1.1": {"refine": se, "after": se}})
    network, told = started(within, trained)
    assert told.changing == ()
    assert change(network, trained, images) <= 1e-5


def test_aa_is_fitted_to_the_filters_that_it_replaces(randomised: Callable[[nn.Module], nn.Module]) -> None:
    skeleton = skeleton_of("basic")
    plain = randomised(build_model(Architecture(skeleton)))
    architecture = Architecture(skeleton, {"layer3.1": {"conv": choose("aa", AA)}})
    pictures = torch.rand(64, 3, 16, 16)
    unfitted, _ = started(architecture, plain)
    fitted, told = started(architecture, plain, pictures=lambda: pictures.split(32))
    kept = "stages.layer3.1.branch.0"
    weights = plain.state_dict()[f"{kept}.weight"]
    assert torch.equal(fitted.state_dict()[f"{kept}.conv.weight"], weights[: len(weights) - 8])
    others = torch.rand(64, 3, 16, 16)
    assert change(fitted, plain, others) < 0.7 * change(unfitted, plain, others)
    assert "of the pictures keep their class" in told.notes[-1]


def test_every_operator_and_every_family_is_tested() -> None:
    assert {*EXACT, *CHANGING} == OPERATORS.keys() - {"plain", "none"}
    assert {family for family, _ in SKELETONS.values()} == set(FAMILIES)
