import itertools
import math
import pickle
import random
from collections.abc import Iterable, Sequence
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import OPTIONS, Architecture, Choice, SearchSpace, Slot, Value, choose, load_space, parse_space
from search_spaces.grammar import Offers, all_choices

# --- small random spaces ----------------------------------------------------------------------------------------------

_CONV = (
    "plain",
    "{aa: {heads: 1, min_key_width: 1, kappa: [0.1, 0.2, 1]}}",  # at 16 filters 0.1 and 0.2 come to the same d_k
    "{aa: {heads: [1, 2], min_key_width: 2, upsilon: [0.25, 0.5]}}",
    "{aa: {heads: 2, min_key_width: 2, downsample: [false, true], downsample_steps: [1, 2]}}",  # 3 networks of 4
    "{aw: {reduction: [4, 16]}}",
)
_MAP = ("none", "se", "{se: {reduction: [4, 5]}}", "{se: {bias: [true, false]}}", "{cbam: {variant: [full, spatial]}}")


def _slot(items: Sequence[str]) -> st.SearchStrategy[str]:
    lists = st.lists(st.sampled_from(items), min_size=1, max_size=3, unique_by=lambda item: item.strip("{")[:2])
    return st.sampled_from(items) | lists.map(lambda chosen: f"[{', '.join(chosen)}]")


_SLOTS = st.fixed_dictionaries(
    {}, optional={"conv": _slot(_CONV), "conv2": _slot(_CONV), "refine": _slot(_MAP), "after": _slot(_MAP)}
).map(lambda slots: "{" + ", ".join(f"{slot}: {written}" for slot, written in slots.items()) + "}")
_GLOBS = ("*", "layer[12].*", "layer2.*", "layer3.0", "layer[!2].*")


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Spaces of a ResNet-8 (or -14, in which a stage has two blocks)."""
    depth = draw(st.sampled_from([8, 14]))
    globs = draw(st.lists(st.sampled_from(_GLOBS), unique=True, max_size=2))
    placements = ", ".join(f"'{glob}': {draw(_SLOTS)}" for glob in globs)
    tie = draw(st.sampled_from(["none", "stage", "network"]))
    return parse_space(
        f"schema: 1\nskeleton: {{family: resnet, depth: {depth}, image_size: 16, num_classes: 2}}\n"
        f"placements: {{{placements}}}\ntie: {tie}\n"
    )


def alternatives(space: SearchSpace) -> list[tuple[list[tuple[str, Slot]], tuple[Choice, ...]]]:
    """The decisions of a space by definition: slots with the same unit, name and offers decide together."""
    stages = {block.name: block.stage for block in space.blocks}
    tied: dict[tuple[str, Slot, Offers], list[tuple[str, Slot]]] = {}
    for (block, slot), offers in space.offers.items():
        unit = {"none": block, "stage": stages[block], "network": ""}[space.tie]
        tied.setdefault((unit, slot, offers), []).append((block, slot))
    return [(places, tuple(all_choices(offers))) for (_, _, offers), places in tied.items()]


def enumerate_all(space: SearchSpace) -> Iterable[Architecture]:
    decisions = alternatives(space)
    for choices in itertools.product(*(choices for _, choices in decisions)):
        placements: dict[str, dict[Slot, Choice]] = {}
        for (places, _), choice in zip(decisions, choices, strict=True):
            for block, slot in places:
                placements.setdefault(block, {})[slot] = choice
        yield Architecture(space.skeleton, placements)


def written_size(space: SearchSpace) -> int:
    return math.prod(len(choices) for _, choices in alternatives(space))


class Recorder:
    """A trial that returns random values and records the parameters that it was asked for."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.asked: dict[str, tuple[Any, ...]] = {}
        self.answers: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - Optuna's own
        assert name not in self.asked
        self.asked[name] = tuple(choices)
        self.answers[name] = self.rng.choice(choices)
        return self.answers[name]


@settings(max_examples=60, deadline=None)
@given(spaces().filter(lambda space: written_size(space) <= 300), st.randoms(use_true_random=False))
def test_against_the_enumeration(space: SearchSpace, rng: random.Random) -> None:
    everything = list(enumerate_all(space))
    distinct = {architecture.fingerprint for architecture in everything}
    assert space.size == len(distinct)
    assert sorted(architecture.fingerprint for architecture in space.architectures()) == sorted(distinct)
    for architecture in everything:
        assert space.contains(architecture)
        assert space.decode(space.encode(architecture)) == architecture
    for _ in range(5):
        assert space.sample(rng).fingerprint in distinct
    # Every decision has a neighbour, so mutation can reach the whole space.
    if space.size > 1:
        assert space.mutate(rng.choice(everything), rng).fingerprint in distinct


@settings(max_examples=60, deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_sampling_and_mutation_in_random_spaces(space: SearchSpace, rng: random.Random) -> None:
    parent = space.sample(rng)
    assert space.contains(parent)
    params = space.encode(parent)
    assert space.decode(params) == parent
    assert space.suggest(optuna.trial.FixedTrial(params)) == parent
    if space.size > 1:
        child = space.mutate(parent, rng)
        assert child != parent
        assert space.contains(child)
        changed = {
            (block.name, slot)
            for block in space.blocks
            for slot in block.sites
            if parent.resolved.get(block.name, {}).get(slot) != child.resolved.get(block.name, {}).get(slot)
        }
        assert sum(bool(changed & {(block, group.slot) for block in group.blocks}) for group in space.groups) == 1
    else:
        with pytest.raises(ValueError, match="single architecture"):
            space.mutate(parent, rng)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_suggest_asks_for_open_parameters_only(space: SearchSpace, rng: random.Random) -> None:
    trial = Recorder(rng)
    architecture = space.suggest(trial)
    assert space.contains(architecture)
    assert space.decode(trial.answers) == architecture
    for name, parameter in space.parameters.items():
        is_open = parameter.parent is None or trial.answers.get(parameter.parent[0]) == parameter.parent[1]
        assert (name in trial.asked) == is_open
        assert len(parameter.choices) > 1
        if is_open:
            assert trial.asked[name] == parameter.choices
    assert set(trial.asked) <= set(space.parameters)


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_a_space_written_is_the_same_space(space: SearchSpace) -> None:
    again = parse_space(space.dump())
    assert again == space
    assert hash(again) == hash(space)
    assert again.parameters == space.parameters
    assert pickle.loads(pickle.dumps(space)) == space


# --- by example -------------------------------------------------------------------------------------------------------

HEAD = "schema: 1\nskeleton: {family: resnet, depth: 14, image_size: 32, num_classes: 4}\n"
LISTS = "'*': {refine: [none, {se: {reduction: [4, 8]}}], conv: {aw: {reduction: [4, 8]}}}"


def test_parameters_of_blocks_that_are_not_tied() -> None:
    space = parse_space(f"{HEAD}placements: {{'layer1.0': {{refine: [none, {{se: {{reduction: [4, 8]}}}}]}}}}")
    assert {name: (parameter.choices, parameter.parent) for name, parameter in space.parameters.items()} == {
        "layer1.0/refine": (("none", "se"), None),
        "layer1.0/refine/se.reduction": ((4, 8), ("layer1.0/refine", "se")),
    }
    assert space.size == 3


@pytest.mark.parametrize(
    ("tie", "labels", "size"),
    [
        ("none", [f"layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1)], 3**6 * 2**6),
        ("stage", ["layer1", "layer2", "layer3"], 3**3 * 2**3),
        ("network", ["*"], 3 * 2),
    ],
)
def test_ties(tie: str, labels: list[str], size: int) -> None:
    space = parse_space(f"{HEAD}placements: {{{LISTS}}}\ntie: {tie}")
    assert [group.label for group in space.groups if group.slot == "refine"] == labels
    assert f"{labels[0]}/refine/se.reduction" in space.parameters
    # A decided option is not asked for; its list of values always is.
    assert f"{labels[0]}/conv" not in space.parameters
    assert space.parameters[f"{labels[0]}/conv/aw.reduction"].parent is None
    assert space.size == size


def test_a_stage_with_several_groups_labels_them_by_their_blocks() -> None:
    space = parse_space(
        f"{HEAD}placements: {{'*': {{refine: [none, se]}}, '*.1': {{refine: [none, cbam]}}}}\ntie: stage\n"
    )
    assert [group.label for group in space.groups] == [
        f"layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1)
    ]
    network = parse_space(space.dump().replace("tie: stage", "tie: network"))
    assert [group.label for group in network.groups] == ["layer1.0+layer2.0+layer3.0", "layer1.1+layer2.1+layer3.1"]


def test_blocks_tie_by_their_offers_not_by_their_spelling() -> None:
    space = parse_space(
        f"{HEAD}placements: {{'*': {{refine: [none, se]}}, '*.1': {{refine: [none, {{se: {{reduction: 16}}}}]}}}}\n"
        "tie: network\n"
    )
    assert [group.label for group in space.groups] == ["*"]


def test_huge_spaces_are_counted_exactly_and_fast() -> None:
    space = parse_space(
        "schema: 1\nskeleton: {family: resnet, depth: 152, image_size: 224, num_classes: 1000}\n"
        f"placements: {{{LISTS}}}"
    )
    assert space.size == 3**50 * 2**50


def test_alternatives_that_come_to_the_same_network_count_once() -> None:
    # d_k = max(heads * min_key_width, kappa * 16 rounded down to 8): 8 for both kappas.
    placements = "'layer1.0': {conv: [plain, {aa: {kappa: [0.5, 0.6], heads: 1, min_key_width: 1}}]}"
    space = parse_space(f"{HEAD}placements: {{{placements}}}")
    assert len(space.groups[0].alternatives) == 3
    assert space.size == 2
    a, b = (
        Architecture(
            space.skeleton, {"layer1.0": {"conv": choose("aa", {"kappa": kappa, "heads": 1, "min_key_width": 1})}}
        )
        for kappa in (0.5, 0.6)
    )
    assert a == b
    # Each is dumped in its own form, although they are equal.
    assert [space.encode(x)["layer1.0/conv/aa.kappa"] for x in (a, b)] == [0.5, 0.6]
    rng = random.Random(0)
    assert {space.mutate(a, rng) for _ in range(20)} == {space.plain()}


def test_equal_networks_of_other_parameters_are_contained() -> None:
    space = parse_space(f"{HEAD}placements: {{'layer1.0': {{refine: [none, {{se: {{reduction: 16}}}}]}}}}")
    other = Architecture(space.skeleton, {"layer1.0": {"refine": choose("se", {"reduction": 15})}})
    assert space.contains(other)
    assert space.encode(other) == {"layer1.0/refine": "se"}


def test_sampling_is_uniform_over_options_and_repeats_with_the_seed() -> None:
    space = load_space("shapes")
    rng = random.Random(7)
    options = [space.sample(rng).placements.get("layer2.0", {}).get("conv") for _ in range(600)]
    names = [choice.option if choice else "plain" for choice in options]
    assert all(140 < names.count(name) < 260 for name in ("plain", "aa", "aw"))
    assert [space.sample(random.Random(3)) for _ in range(3)] == [space.sample(random.Random(3))] * 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "parameter layer1.0/refine is missing; choices: none, se"),
        ({"layer1.0/refine": "cbam"}, "parameter layer1.0/refine is 'cbam'; choices: none, se"),
        ({"layer1.0/refine": "se"}, "parameter layer1.0/refine/se.reduction is missing; choices: 4, 8"),
        (
            {"layer1.0/refine": "none", "layer1.0/refine/se.reduction": 4},
            "parameter layer1.0/refine/se.reduction is not open here",
        ),
        (
            {"layer1.0/refine": "none", "layer1.0/refin": "se"},
            r"parameter layer1.0/refin is not in this space \(did you mean 'layer1.0/refine'\?\)",
        ),
    ],
)
def test_invalid_assignments(params: dict[str, Value], message: str) -> None:
    space = parse_space(f"{HEAD}placements: {{'layer1.0': {{refine: [none, {{se: {{reduction: [4, 8]}}}}]}}}}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        space.decode(params)


@pytest.mark.parametrize(
    ("placements", "message"),
    [
        ({"layer1.0": {"refine": "cbam"}}, "refine of layer1.0, layer1.1 holds none of the space's alternatives"),
        ({"layer1.0": {"refine": "se"}}, "refine of layer1.0, layer1.1 holds none of the space's alternatives"),
        ({"layer2.0": {"refine": "none"}}, "refine of layer2.0 is none; the space has se there"),
        ({"layer3.0": {"conv": "aw"}}, "conv of layer3.0 is aw; the space has plain there"),
    ],
)
def test_architectures_outside_the_space(placements: dict[str, dict[Slot, str]], message: str) -> None:
    space = parse_space(
        f"{HEAD}placements: {{'layer1.*': {{refine: [none, se]}}, 'layer2.0': {{refine: se}}}}\ntie: stage"
    )
    chosen = {block: {slot: choose(name) for slot, name in slots.items()} for block, slots in placements.items()}
    architecture = Architecture(space.skeleton, {"layer2.0": {"refine": choose("se")}, **chosen})
    assert not space.contains(architecture)
    for method in (space.encode, lambda a: space.mutate(a, random.Random(0))):
        with pytest.raises(ValueError, match=f"^the architecture is not in the space: {message}$"):
            method(architecture)


def test_another_skeleton_is_outside() -> None:
    space = parse_space(HEAD)
    other = parse_space(HEAD.replace("depth: 14", "depth: 20"))
    with pytest.raises(ValueError, match="the skeletons differ"):
        space.encode(other.plain())


# --- baselines --------------------------------------------------------------------------------------------------------


def _where(architecture: Architecture, slot: Slot) -> list[str]:
    return [block for block, slots in architecture.placements.items() if set(slots) == {slot}]


def test_baselines_stand_where_the_papers_put_them() -> None:
    space = load_space("resnet50-imagenet")
    baselines = space.baselines()
    blocks = [block.name for block in space.blocks]
    assert list(baselines) == ["plain", "se", "cbam", "aa", "aw"]
    assert baselines["plain"] == space.plain()
    assert baselines["plain"].placements == {}
    assert _where(baselines["se"], "refine") == _where(baselines["cbam"], "refine") == blocks
    assert _where(baselines["aw"], "conv") == blocks
    assert _where(baselines["aa"], "conv") == [name for name in blocks if not name.startswith("layer1.")]
    assert baselines["aa"].placements["layer2.0"]["conv"].params["position"] == "relative"


def test_baselines_take_their_parameters_from_the_space() -> None:
    space = parse_space(
        f"{HEAD}placements: {{'layer3.0': {{conv: [plain, {{aa: {{heads: [2, 1], min_key_width: 4}}}}], "
        "refine: [none, {se: {reduction: [4, 8]}}]}}"
    )
    baselines = space.baselines()
    assert baselines["aa"].placements["layer2.1"]["conv"] == choose("aa", {"heads": 2, "min_key_width": 4})
    assert baselines["se"].placements["layer1.0"]["refine"] == choose("se", {"reduction": 4})
    assert baselines["cbam"].placements["layer1.0"]["refine"] == choose("cbam")
    assert not space.contains(baselines["se"])


def test_baselines_leave_out_impossible_sites() -> None:
    # 4 channels: no reduction of 16 in layer1 and layer2, and no 8 value filters of attention in layer1.
    space = parse_space("schema: 1\nskeleton: {family: resnet, depth: 8, width: 4, image_size: 32, num_classes: 4}\n")
    baselines = space.baselines()
    assert _where(baselines["se"], "refine") == ["layer3.0"]
    assert _where(baselines["aa"], "conv") == ["layer2.0", "layer3.0"]
    tiny = parse_space("schema: 1\nskeleton: {family: resnet, depth: 8, width: 1, image_size: 32, num_classes: 4}\n")
    assert list(tiny.baselines()) == ["plain"]


def test_every_option_can_be_placed_by_an_architecture_of_its_own() -> None:
    space = load_space("resnet50-imagenet")
    for option in OPTIONS.values():
        for slot in option.slots & {"conv", "refine", "after"}:
            architecture = Architecture(space.skeleton, {"layer4.2": {slot: choose(option.name)}})
            assert (architecture == space.plain()) == (option.name in ("plain", "none"))
