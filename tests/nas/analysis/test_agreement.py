"""Tests the figures of `nas proxy` on values with a known signal, and the advice on known agreements."""

import numpy as np
import pytest

from nas.analysis.agreement import Agreement, advise, agreement
from nas.analysis.intervals import Interval

SEEDS, NETWORKS = 3, 40


def values(between: float, within: float, seed: int = 0) -> np.ndarray:
    """Accuracies [seeds, networks]: a network's own level, and noise of each training."""
    rng = np.random.default_rng(seed)
    levels = rng.normal(size=NETWORKS)
    return 0.7 + between * levels / levels.std() + within * rng.normal(size=(SEEDS, NETWORKS))


def test_an_epoch_with_the_order_of_the_end_agrees_with_it() -> None:
    ends = values(0.02, 0.0)
    found = agreement(ends - 0.1, ends)
    assert found.own_end == Interval(pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert found.other_end.value == pytest.approx(1)
    assert found.spread == pytest.approx(0, abs=1e-12)


def test_an_epoch_of_noise_agrees_with_nothing() -> None:
    found = agreement(values(0.0, 0.01, seed=1), values(0.02, 0.001))
    for interval in (found.own_end, found.other_end):
        assert interval.low < 0 < interval.high
    assert found.signal.low == 0


def test_signal_and_spread_are_those_of_the_trainings() -> None:
    found = agreement(values(0.02, 0.01), values(0.02, 0.01))
    assert found.spread == pytest.approx(0.01, rel=0.15)
    assert found.signal.low < 2 < found.signal.high
    assert found.signal.value == pytest.approx(2, rel=0.3)


def test_the_agreement_of_two_seeds_is_below_that_of_one() -> None:
    ends = values(0.02, 0.02)
    found = agreement(ends, ends)
    assert found.own_end.value == pytest.approx(1)
    assert found.other_end.high < 0.9


def test_a_correlation_that_cannot_be_computed_is_nan() -> None:
    found = agreement(np.full((2, 4), 0.1), np.full((2, 4), 0.1))
    assert np.isnan([found.own_end.value, found.own_end.low, found.signal.value]).all()


@pytest.mark.parametrize("shapes", [((2, 4), (2, 5)), ((2, 2), (2, 2))])
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="both need the same seeds, and 3 networks"):
        agreement(*(np.zeros(shape) for shape in shapes))


def epochs_of(*correlations: float) -> list[Agreement]:
    """One epoch per correlation with another seed's end, each known exactly to 0.05."""
    exact = Interval(1, 1, 1)
    return [Agreement(exact, Interval(value, value - 0.05, value + 0.05), 0.01, exact) for value in correlations]


@pytest.mark.parametrize(
    ("correlations", "rung"),
    [
        ((0.1, 0.8, 0.8, 0.8, 0.8, 0.85), (2, 3)),  # a third of six epochs
        ((0.8, 0.8, 0.8, 0.8, 0.8, 0.85, 0.8, 0.8, 0.85), (1, 3)),
        ((0.1, 0.2, 0.8, 0.8, 0.8, 0.85), (3, 2)),  # only the half is enough
        ((0.1, 0.2, 0.3, 0.8, 0.8, 0.85), None),
        ((0.1,), None),
    ],
)
def test_the_first_rung_that_is_enough_is_advised(
    correlations: tuple[float, ...], rung: tuple[int, int] | None
) -> None:
    assert advise(epochs_of(*correlations)).rung == rung


def test_no_epoch_that_is_enough_is_told_with_the_best() -> None:
    assert "0.20 (0.15 to 0.25) at best" in advise(epochs_of(0.1, 0.2, 0.1, 0.5, 0.5, 0.9)).why


@pytest.mark.parametrize("end", [0.3, float("nan")])
def test_an_end_that_does_not_tell_networks_apart_is_told(end: float) -> None:
    advice = advise(epochs_of(0.3, 0.3, end))
    assert advice.rung is None
    assert "does not tell these networks apart" in advice.why
