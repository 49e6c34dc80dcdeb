"""Foretelling how many more trainings decide which network is best."""

import numpy as np
import pytest

from nas.analysis.foretell import trainings_to_decide


def draws(means: list[float], deviation: float) -> np.ndarray:
    return np.array(means) + deviation * np.random.default_rng(0).normal(size=(600, len(means)))


def noise(size: float, networks: int) -> np.ndarray:
    return np.full((600, networks), size)


def test_what_is_decided_needs_nothing() -> None:
    assert trainings_to_decide(draws([0.0, 9.0, 1.0], 1.0), noise(1.0, 3)) == 0
    assert trainings_to_decide(draws([0.0], 1.0), noise(1.0, 1)) == 0


def test_what_trainings_hardly_tell_is_not_decided() -> None:
    assert trainings_to_decide(draws([0.0, 0.1], 1.0), noise(1e3, 2)) is None


def test_two_networks_need_as_many_as_a_simulation_says() -> None:
    """The median over worlds of a plain simulation: two networks whose means are trained in turn."""
    deviation, error = 1.0, 1.5
    rng = np.random.default_rng(1)
    needed = []
    for _ in range(2_000):
        truth = np.array([0.0, 1.0]) + deviation * rng.normal(size=2)
        mean, precision = np.array([0.0, 1.0]), np.full(2, deviation**-2)
        count = 0
        while abs(mean[0] - mean[1]) < 1.96 * np.sqrt((1 / precision).sum()) and count < 1_000:
            count += 1
            i = int(precision.argmin())
            told = truth[i] + error * rng.normal()
            mean[i] = (precision[i] * mean[i] + told / error**2) / (precision[i] + error**-2)
            precision[i] += error**-2
        needed.append(count)
    found = trainings_to_decide(draws([0.0, 1.0], deviation), noise(error, 2))
    assert found == pytest.approx(np.median(needed), rel=0.35)


def test_more_rivals_need_more_trainings() -> None:
    two = trainings_to_decide(draws([0.0, 0.0], 1.0), noise(1.0, 2))
    many = trainings_to_decide(draws([0.0] * 8, 1.0), noise(1.0, 8))
    assert two is not None
    assert many is None or many > two
