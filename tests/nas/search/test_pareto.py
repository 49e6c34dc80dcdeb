"""Compares fronts and volumes with slow code that follows their definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.pareto import Front, hypervolume, is_front, knee, layers, minimised, ranking, spread_order

COORDINATE = st.integers(0, 6).map(float)


def clouds(dimensions: int | None = None, max_size: int = 12) -> st.SearchStrategy[list[list[float]]]:
    sizes = st.just(dimensions) if dimensions else st.integers(1, 4)
    return sizes.flatmap(
        lambda m: st.lists(st.lists(COORDINATE, min_size=m, max_size=m), min_size=1, max_size=max_size)
    )


def dominates(a: list[float], b: list[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(clouds())
def test_the_front_is_what_nothing_dominates(points: list[list[float]]) -> None:
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert is_front(points).tolist() == expected


@given(clouds())
def test_a_front_that_grows_point_by_point_is_the_front_of_all(points: list[list[float]]) -> None:
    front = Front(len(points[0]))
    grew = [front.add(np.array(point)) for point in points]
    members = [point for point, member in zip(points, is_front(points), strict=True) if member]
    assert sorted(front.members.tolist()) == sorted(members)
    assert grew == [bool(is_front(points[: index + 1])[-1]) for index in range(len(points))]


@given(clouds())
def test_layers_are_fronts_peeled_off(points: list[list[float]]) -> None:
    left = dict(enumerate(points))
    expected = {}
    for layer in itertools.count():
        if not left:
            break
        front = [i for i, p in left.items() if not any(dominates(other, p) for other in left.values())]
        for index in front:
            expected[index] = layer
            del left[index]
    assert dict(enumerate(layers(points).tolist())) == expected


@settings(deadline=None)
@given(clouds(max_size=7))
def test_the_volume_is_the_number_of_unit_cells_below(points: list[list[float]]) -> None:
    corner = [6.0] * len(points[0])
    cells = itertools.product(range(6), repeat=len(corner))
    expected = sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)
    assert hypervolume(points, corner) == pytest.approx(expected)


@given(clouds(2), st.lists(COORDINATE, min_size=2, max_size=2))
def test_the_volume_grows_exactly_with_what_is_not_dominated(points: list[list[float]], new: list[float]) -> None:
    corner = [7.0, 7.0]
    grows = hypervolume([*points, new], corner) > hypervolume(points, corner)
    assert grows == (not any(dominates(other, new) or other == new for other in points))


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([[2.0, 0.5], [0.5, 1.0]], [1.0, 1.0]) == 0.0
    assert hypervolume([], [1.0, 1.0]) == 0.0


def test_the_volume_of_a_sphere_octant_approaches_its_closed_form() -> None:
    angles = np.linspace(0, np.pi / 2, 41)
    theta, phi = (grid.ravel() for grid in np.meshgrid(angles, angles))
    points = 1 - np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    assert hypervolume(points, [1.0, 1.0, 1.0]) == pytest.approx(math.pi / 6, rel=0.06)


@given(clouds())
def test_ranking_is_a_permutation_that_never_puts_a_layer_before_a_better_one(points: list[list[float]]) -> None:
    order = ranking(points)
    assert sorted(order) == list(range(len(points)))
    ranks = layers(points)[order].tolist()
    assert ranks == sorted(ranks)


@given(clouds(2, max_size=20))
def test_every_prefix_of_the_spread_is_a_net(points: list[list[float]]) -> None:
    """Gonzalez: the first k points are farther apart than any other point is from them."""
    order = spread_order(points)
    array = np.array(points)
    span = np.ptp(array, axis=0)
    scaled = array / np.where(span > 0, span, 1)
    for k in range(2, len(order)):
        chosen = scaled[order[:k]]
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(chosen, 2)]
        radius = max(np.linalg.norm(chosen - scaled[i], axis=1).min() for i in order[k:])
        assert min(gaps) >= radius - 1e-12


def test_the_spread_begins_with_the_best_of_the_first_objective() -> None:
    assert spread_order([[3.0, 0.0], [0.0, 9.0], [1.0, 1.0]])[0] == 1


def test_the_knee_is_the_best_compromise() -> None:
    assert knee([[0.0, 10.0], [1.0, 1.0], [10.0, 0.0], [5.0, 5.0]]) == 1
    with pytest.raises(ValueError, match="no points"):
        knee([])


def test_maximised_objectives_change_sign() -> None:
    assert minimised([[0.9, 5.0]], ["maximize", "minimize"]).tolist() == [[-0.9, 5.0]]
    assert minimised([], ["maximize", "minimize"]).shape == (0, 2)
    assert minimised([[], [], []], []).shape == (3, 0)


@pytest.mark.parametrize("function", [is_front, layers, ranking, lambda p: hypervolume(p, [1.0, 1.0])])
def test_nan_is_refused(function: object) -> None:
    with pytest.raises(ValueError, match="point 1 has a NaN"):
        function([[0.0, 1.0], [math.nan, 0.0]])  # type: ignore[operator]
