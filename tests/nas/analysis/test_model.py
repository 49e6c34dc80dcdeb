"""The model of a run: known answers on data that is simple enough for closed forms, or made with known effects."""

import numpy as np
import pytest

from nas.analysis.model import Evidence, Posterior, posterior


def evidence(placed: np.ndarray, network: list[int], values: np.ndarray, seed: list[int] | None = None) -> Evidence:
    """Trainings of networks whose places are all of one option and in groups of their own."""
    places = placed.shape[1]
    return Evidence(
        placed=placed.astype(float),
        options=np.zeros(places, dtype=np.int64),
        groups=np.arange(places),
        network=np.array(network),
        seed=np.zeros(len(network), dtype=np.int64) if seed is None else np.array(seed),
        values=values.reshape(len(network), -1),
    )


def interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def test_means_and_intervals_are_those_of_a_one_way_layout() -> None:
    """Networks far apart, with many seeds each: the classical mean, and the pooled deviation over sqrt(seeds)."""
    rng = np.random.default_rng(0)
    networks, seeds = 6, 12
    true = 5.0 * np.arange(networks)
    values = true.repeat(seeds) + rng.normal(size=networks * seeds)
    found = posterior(evidence(np.zeros((networks, 0)), [i for i in range(networks) for _ in range(seeds)], values))
    by_network = values.reshape(networks, seeds)
    pooled = np.sqrt(by_network.var(axis=1, ddof=1).mean())
    assert found.networks.mean(axis=0) == pytest.approx(by_network.mean(axis=1), abs=0.15)
    assert found.networks.std(axis=0).mean() == pytest.approx(pooled / np.sqrt(seeds), rel=0.15)


def factorial(noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All 32 networks of five places: places, values, and the true effects."""
    placed = np.array([[int(bit) for bit in f"{i:05b}"] for i in range(32)], dtype=float)
    effects = np.array([3.0, 0.0, -2.0, 0.0, 0.0])
    return placed, placed @ effects + noise * rng.normal(size=32), effects


def test_effects_have_the_size_and_the_interval_of_least_squares() -> None:
    """In a full factorial of 32 trainings the standard error of an effect is 2 sigma / sqrt(32)."""
    placed, values, effects = factorial(0.5, np.random.default_rng(1))
    found = posterior(evidence(placed, list(range(32)), values))
    averaged = found.mains + np.einsum("j,djk->dk", placed.mean(axis=0), found.pairs)
    assert averaged.mean(axis=0) == pytest.approx(effects, abs=0.5)
    assert averaged.std(axis=0).mean() == pytest.approx(2 * 0.5 / np.sqrt(32), rel=0.4)
    for j in (0, 2):
        low, high = interval(averaged[:, j])
        assert low < effects[j] < high
        assert low * high > 0


def test_a_pair_is_told_from_its_parts() -> None:
    placed, values, _ = factorial(0.2, np.random.default_rng(2))
    values += 4 * placed[:, 0] * placed[:, 1]
    found = posterior(evidence(placed, list(range(32)), values))
    low, high = interval(found.pairs[:, 0, 1])
    assert 2 < low < 4.5 < high + 1
    others = np.triu(found.pairs.mean(axis=0), 1)
    others[0, 1] = 0
    assert np.abs(others).max() < 1


def widths(found: Posterior, networks: slice) -> float:
    return float(found.networks[:, networks].std(axis=0).mean())


def test_an_unstable_network_does_not_widen_the_others_intervals() -> None:
    rng = np.random.default_rng(3)
    values = np.repeat(np.arange(8.0), 4) + 0.1 * rng.normal(size=32)
    network = [i for i in range(8) for _ in range(4)]
    calm = posterior(evidence(np.zeros((8, 0)), network, values))
    wild_values = values.copy()
    wild_values[28:] += [-9, 9, -6, 6]
    wild = posterior(evidence(np.zeros((8, 0)), network, wild_values))
    assert widths(wild, slice(7)) < 1.5 * widths(calm, slice(7))
    assert (wild.noise[:, 7] > 3 * wild.usual).mean() > 0.95
    assert (wild.noise[:, :7] > 3 * wild.usual[:, None]).mean() < 0.05


def test_stopping_by_early_values_biases_nothing() -> None:
    """Networks with a low first value are stopped. The mean of the others is too high; that of the model is not.

    Twenty of the others are trained again, so that noise can be told from differences of networks.
    """
    rng = np.random.default_rng(4)
    true = rng.normal(size=120)
    network = np.arange(120)
    ends = true + 0.2 * rng.normal(size=120)
    early = 0.8 * ends + 0.5 * rng.normal(size=120)
    stopped = early < np.median(early)
    again = np.flatnonzero(~stopped)[:20]
    ends_again = true[again] + 0.2 * rng.normal(size=20)
    first = np.stack([early, np.where(stopped, np.nan, ends)], axis=1)
    second = np.stack([0.8 * ends_again + 0.5 * rng.normal(size=20), ends_again], axis=1)
    found = posterior(evidence(np.zeros((120, 0)), [*network, *again], np.concatenate([first, second])))
    assert ends[~stopped].mean() > true.mean() + 0.4
    low, high = interval(found.networks.mean(axis=1))
    assert low < true.mean() < high
    low, high = np.quantile(found.networks[:, stopped], [0.025, 0.975], axis=0)
    assert ((low <= true[stopped]) & (true[stopped] <= high)).mean() > 0.85


def test_what_a_seed_does_to_all_networks_is_no_noise_of_their_differences() -> None:
    rng = np.random.default_rng(5)
    true = np.arange(8.0)
    shifts = np.array([-3.0, 0.0, 3.0])
    values = (true[:, None] + shifts + 0.1 * rng.normal(size=(8, 3))).ravel()
    network, seed = [i for i in range(8) for _ in range(3)], [0, 1, 2] * 8
    found = posterior(evidence(np.zeros((8, 0)), network, values, seed))
    differences = found.networks[:, 7] - found.networks[:, 6]
    assert differences.std() < 0.3
    assert found.usual.mean() < 0.3


def test_the_same_evidence_gives_the_same_draws() -> None:
    placed, values, _ = factorial(0.5, np.random.default_rng(6))
    given = evidence(placed, list(range(32)), values)
    first, second = (posterior(given, sweeps=40, kept=10) for _ in range(2))
    assert np.array_equal(first.networks, second.networks)
    assert first.networks.shape == (10, 32)


def test_equal_values_are_no_error() -> None:
    found = posterior(evidence(np.zeros((4, 0)), [0, 1, 2, 3], np.full(4, 0.7)), sweeps=40, kept=10)
    assert np.isfinite(found.networks).all()
