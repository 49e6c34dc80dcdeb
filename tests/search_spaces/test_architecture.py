import copy
import json
import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Architecture, Choice, Slot, choose, load_space, parse_architecture
from search_spaces.skeletons.resnet import ResNet

NET = ResNet(depth=8, image_size=32, num_classes=4)
HEAD = "schema: 1\nskeleton: {family: resnet, depth: 8, image_size: 32, num_classes: 4}\n"
PRESETS = ("shapes", "resnet50-imagenet", "cifar-resnet", "mnasnet")


def of(placements: str, head: str = HEAD) -> Architecture:
    return parse_architecture(f"{head}placements: {placements}")


def test_empty_slots_are_pruned_and_order_does_not_matter() -> None:
    a = Architecture(
        NET, {"layer3.0": {"refine": choose("se"), "conv": choose("aw")}, "layer1.0": {"conv": choose("aw")}}
    )
    b = Architecture(
        NET,
        {
            "layer1.0": {"refine": choose("none"), "conv": choose("aw"), "after": choose("none")},
            "layer2.0": {"conv": choose("plain")},
            "layer3.0": {"conv": choose("aw"), "refine": choose("se")},
        },
    )
    assert a == b
    assert hash(a) == hash(b)
    assert list(b.placements) == ["layer1.0", "layer3.0"]
    assert [list(slots) for slots in a.placements.values()] == [["conv"], ["conv", "refine"]]
    assert a.resolved["layer3.0"]["refine"] == ("se", {"hidden": 4, "bias": True})


def test_parameters_are_completed() -> None:
    architecture = Architecture(NET, {"layer3.0": {"refine": Choice("se", {"reduction": 8})}})
    assert architecture.placements["layer3.0"]["refine"] == choose("se", {"reduction": 8})
    assert architecture.placements["layer3.0"]["refine"].params == {"reduction": 8, "bias": True}


def test_the_name_does_not_count() -> None:
    assert Architecture(NET, {}, "a") == Architecture(NET, {}, "b")
    assert Architecture(NET, {}, "a").to_dict() != Architecture(NET, {}, "b").to_dict()


def test_equal_resolved_values_are_equal_networks() -> None:
    same = [of(f"{{'layer1.0': {{refine: {{se: {{reduction: {r}}}}}}}}}") for r in (9, 15, 16)]  # 16 channels: hidden 1
    assert len(set(same)) == 1
    assert len({a.fingerprint for a in same}) == 1
    assert of("{'layer1.0': {refine: {se: {reduction: 8}}}}") not in same


@pytest.mark.parametrize(
    "text",
    [
        "{'*': {refine: se}, 'layer1.*': {refine: none}}",
        "{'layer1.0': {refine: none}, 'layer[23].*': {refine: se}}",
        "{'layer3.0': {refine: {se: {}}}, 'layer2.0': {refine: [se]}}",
        "{'layer[23].0': {refine: {se: {bias: true, reduction: 16}}, conv: plain}}",
        "{'*': {refine: cbam}, '*.0': {refine: se}, 'layer1.0': {refine: none, after: none}}",
    ],
)
def test_one_network_written_in_many_ways(text: str) -> None:
    skeleton = "{num_classes: 4, in_channels: 3, image_size: 32, depth: 8, family: resnet}"
    architecture = of(text, f"tie: stage\nname: other\nskeleton: {skeleton}\nschema: 1\n")
    reference = Architecture(NET, {"layer2.0": {"refine": choose("se")}, "layer3.0": {"refine": choose("se")}}, "other")
    assert architecture == reference
    assert architecture.dump() == reference.dump()
    assert architecture.to_dict() == reference.to_dict()


def test_the_fingerprint_does_not_change_between_versions() -> None:
    # Journals store fingerprints. If this one changes, old runs train known networks again.
    architecture = of("{'layer3.0': {conv: aw, refine: {se: {reduction: 8}}}}")
    assert architecture.fingerprint == "4fc35a678e923c5889239c0ff07f6cd5d11f2aeafc60540a22a891f73544e528"


def test_a_skeleton_is_part_of_the_network() -> None:
    others = [
        ResNet(depth=8, image_size=32, num_classes=5),
        ResNet(depth=8, image_size=28, num_classes=4),
        ResNet(depth=8, image_size=32, num_classes=4, width=8),
        ResNet(depth=8, image_size=32, num_classes=4, in_channels=1),
    ]
    assert len({Architecture(skeleton).fingerprint for skeleton in [NET, *others]}) == 5


def test_dump_is_the_grammar() -> None:
    architecture = of("{'*': {refine: se}, 'layer3.0': {conv: {aw: {reduction: 8}}}}", "name: net\n" + HEAD)
    assert architecture.dump() == (
        "schema: 1\n"
        "name: net\n"
        "skeleton: {family: resnet, image_size: 32, num_classes: 4, depth: 8}\n"
        "placements:\n"
        "  '*': {refine: se}\n"
        "  layer3.*:\n"
        "    conv:\n"
        "      aw: {reduction: 8}\n"
    )


@pytest.mark.parametrize(
    "fields",
    [
        "depth: 8",
        "depth: 8, width: 64",
        "depth: 8, width: 16, stem: imagenet",
        "depth: 50",
        "depth: 50, width: 16, stem: cifar, in_channels: 1",
    ],
)
def test_fields_that_follow_from_others_need_not_be_written(fields: str) -> None:
    architecture = of("{}", f"schema: 1\nskeleton: {{family: resnet, {fields}, image_size: 32, num_classes: 4}}\n")
    again = parse_architecture(architecture.dump())
    assert again.skeleton == architecture.skeleton
    assert again == architecture


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=15, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_round_trips(preset: str, rng: random.Random) -> None:
    space = load_space(preset)
    architecture, other = space.sample(rng), space.sample(rng)
    again = parse_architecture(architecture.dump())
    assert again == architecture
    assert again.placements == architecture.placements
    assert again.name == architecture.name
    stored: dict[str, Any] = json.loads(json.dumps(architecture.to_dict()))
    restored = Architecture.from_dict(stored)
    assert restored == architecture
    assert restored.placements == architecture.placements
    assert restored.to_dict() == stored
    for double in (pickle.loads(pickle.dumps(architecture)), copy.deepcopy(architecture)):
        assert double == architecture
        assert double.name == architecture.name
    same = architecture.resolved == other.resolved
    assert (architecture.fingerprint == other.fingerprint) == (architecture == other) == same


@pytest.mark.parametrize(
    ("placements", "message"),
    [
        ({"layer4.0": {"conv": Choice("aw")}}, "unknown block 'layer4.0' (did you mean 'layer3.0'?); "
         "allowed: layer1.0, layer2.0, layer3.0"),
        ({"layer1.0": {"refin": Choice("se")}}, "unknown slot of layer1.0 'refin' (did you mean 'refine'?); "
         "allowed: conv, conv2, refine, after"),
        ({"layer1.0": {"conv": Choice("se", {"reduction": 16, "bias": True})}}, "layer1.0.conv: se does not fit slot"),
        ({"layer1.0": {"refine": Choice("see")}}, "layer1.0.refine: unknown option 'see' (did you mean 'se'?)"),
        ({"layer1.0": {"refine": Choice("se", {"reduction": 0})}}, "layer1.0.refine: se.reduction must be an integer"),
        ({"layer1.0": {"refine": Choice("se", {"r": 1})}}, "layer1.0.refine: unknown parameter of se 'r'"),
        ({"layer1.0": {"refine": choose("se", {"reduction": 17})}}, "layer1.0.refine: reduction 17 is larger than"),
    ],
)  # fmt: skip
def test_invalid_architectures(placements: dict[str, dict[Slot, Choice]], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the start of the text is compared
        Architecture(NET, placements)
    assert str(error.value).startswith(message)


def test_heads_that_do_not_divide_are_found_without_building_anything() -> None:
    with pytest.raises(ValueError, match=r"placements\.layer3\.0\.conv\.aa: at layer3\.0: 3 heads do not divide d_"):
        of("{'layer3.0': {conv: {aa: {heads: 3}}}}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2; this version reads schema 1"),
        ({"skeleton": {"family": "resnets"}}, r"unknown family 'resnets' \(did you mean 'resnet'\?\)"),
        ({"placements": {"layer1.0": {"refine": {"se": {"reduction": "8"}}}}}, "se.reduction must be an integer"),
        ({"placements": {"layer1.0": {"refine": {"se": {"bias": 1}}}}}, "se.bias must be true or false"),
        ({"placements": {"layer1.0": {"refine": "sa"}}}, "unknown option 'sa'"),
        ({"placements": {"layer1.1": {"refine": "se"}}}, "unknown block 'layer1.1'"),
        ({"placements": {"layer1.0": {"refine": {"se": {}, "cbam": {}}}}}, "too many values to unpack"),
        ({"placements": {"layer1.0": "se"}}, "not the dictionary of an architecture: AttributeError"),
        ({"placements": {"layer1.0": {"refine": {"se": {"reduction": [8]}}}}}, "not the dictionary of an architecture"),
        ({"name": "../x"}, r"must be letters, digits and \. _ \+ - \(files are named after it\), not '../x'"),
        ({"skeleton": None}, "not the dictionary of an architecture"),
    ],
)
def test_a_journal_that_was_tampered_with(change: dict[str, Any], message: str) -> None:
    stored = {**of("{'*': {refine: se}}").to_dict(), **change}
    with pytest.raises(ValueError, match=f"(?m){message}"):
        Architecture.from_dict(stored)


def test_a_dictionary_without_a_key() -> None:
    with pytest.raises(ValueError, match="not the dictionary of an architecture: KeyError"):
        Architecture.from_dict({"schema": 1})


def test_nothing_can_be_changed() -> None:
    architecture = of("{'*': {refine: se}}")
    with pytest.raises(TypeError):
        architecture.placements["layer1.0"]["refine"] = choose("cbam")  # type: ignore[index]
    with pytest.raises(TypeError):
        architecture.placements["layer1.0"]["refine"].params["reduction"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        architecture.resolved["layer1.0"]["refine"][1]["hidden"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        architecture.skeleton = NET  # type: ignore[misc]
