"""Tests the check whether any architecture keeps a budget."""

import pytest

from nas.costs import Conditions, CostModel, cheapest, count, unkept
from search_spaces import parse_space

SPACE = parse_space(
    "schema: 1\nskeleton: {family: resnet, depth: 8, width: 8, image_size: 8, num_classes: 4}\n"
    "placements:\n"
    "  '*':\n"
    "    conv: [plain, {aa: {upsilon: 1.0, heads: 2, min_key_width: 1}}]\n"
    "    refine: [{se: {reduction: [2, 4]}}, {gc: {reduction: 2}}]\n"
    "  'layer3.*': {after: {se: {reduction: 2}}}\n"
)


@pytest.fixture
def costs() -> CostModel:
    return CostModel(Conditions(batch_size=2, train_batch_size=2))


@pytest.mark.parametrize("measure", ["params", "macs"])
def test_cheapest_has_the_lowest_cost_of_the_space(measure: str) -> None:
    least = min(getattr(count(architecture), measure) for architecture in SPACE.architectures())
    assert getattr(count(cheapest(SPACE, measure)), measure) == least


def test_an_unkept_limit_comes_with_the_cheapest_figures(costs: CostModel) -> None:
    (found,) = unkept({"params": 1}, SPACE, costs)
    assert (found.measure, found.limit, found.relative_would_do) == ("params", 1, True)
    assert found.figures["plain"] == count(SPACE.plain()).params
    assert found.figures["the cheapest of the space"] == count(cheapest(SPACE, "params")).params
    assert set(found.figures) == {*SPACE.baselines(), "the cheapest of the space"}


def test_a_limit_meant_as_a_multiple_is_recognised(costs: CostModel) -> None:
    found = {
        written: [one.relative_would_do for one in unkept({"peak_memory_train": written}, SPACE, costs)]
        for written in (1.25, "1.25", "0.01", "2 KiB", "1.25x", "1 GiB")
    }
    assert found == {1.25: [True], "1.25": [True], "0.01": [False], "2 KiB": [False], "1.25x": [], "1 GiB": []}


def test_a_limit_that_one_network_keeps_is_not_reported(costs: CostModel) -> None:
    (found,) = unkept({"params": 1}, SPACE, costs)
    least = min(found.figures.values())
    assert least < found.figures["plain"]
    assert not list(unkept({"params": least}, SPACE, costs))
    assert [one.measure for one in unkept({"params": least - 1, "macs": "0.01x"}, SPACE, costs)] == ["params", "macs"]
