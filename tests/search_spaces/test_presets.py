"""Tests the presets and the zoo."""

import random

import pytest

from search_spaces import SearchSpace, load_architecture, load_space, parse_space, preset_names, zoo_names

PRESETS = ("cifar-resnet", "fashion-mnist", "mnasnet", "resnet50-imagenet", "shapes", "wide-resnet")


def test_all_are_found() -> None:
    assert preset_names() == PRESETS


@pytest.fixture(params=PRESETS)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return load_space(request.param)


def test_a_preset_is_a_space_worth_searching(space: SearchSpace) -> None:
    assert space.name in PRESETS
    assert space.size > 500
    # The space offers the option of every baseline somewhere.
    baselines = space.baselines()
    assert list(baselines) == ["plain", "se", "cbam", "aa", "aw"]
    assert len(set(baselines.values())) == 5
    offered = {choice.option for group in space.groups for choice in group.alternatives}
    assert offered >= {"plain", "none", "se", "cbam", "aa", "aw"}
    assert space.contains(baselines["plain"])
    assert space.contains(baselines["aa"])


def test_a_preset_can_be_sampled_and_mutated(space: SearchSpace) -> None:
    rng = random.Random(0)
    architecture = space.sample(rng)
    for _ in range(20):
        architecture = space.mutate(architecture, rng)
        assert space.decode(space.encode(architecture)) == architecture
    assert parse_space(space.dump()) == space


def test_the_mnasnet_preset_baselines_is_aa_mnasnet() -> None:
    # Bello et al. 2019, section 4.2: the last 13 blocks.
    assert len(load_space("mnasnet").baselines()["aa"].placements) == 13


@pytest.mark.parametrize("name", zoo_names())
def test_the_zoo_has_no_open_choices(name: str) -> None:
    architecture = load_architecture(name)
    space = load_space(name)
    assert space.size == 1
    assert space.contains(architecture)
    assert space.sample(random.Random(0)) == architecture
