"""Compares the surrogate with its formulas, and tests it on a typical problem."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.search.parameters import CLOSED
from nas.search.surrogate import Likeness, fit

SIZES = np.array([3, 2, 4, 2, 3])


def drawn(count: int, seed: int) -> NDArray[np.int64]:
    """Random levels; the second axis is open where the first has level 1."""
    levels = (np.random.default_rng(seed).random((count, len(SIZES))) * SIZES).astype(np.int64)
    levels[levels[:, 0] != 1, 1] = CLOSED
    return levels


def test_likeness_counts_axes() -> None:
    rows, columns = drawn(7, 0), drawn(9, 1)
    like = Likeness.of(rows, columns, SIZES)
    for i, row in enumerate(rows):
        assert like.open[i] == sum(level != CLOSED for level in row)
        for j, column in enumerate(columns):
            both = [(a, b) for a, b in zip(row, column, strict=True) if not a == b == CLOSED]
            assert like.same[i, j] == sum(a == b for a, b in both)
            assert like.apart[i, j] == sum(0.5 if CLOSED in (a, b) else 1.0 for a, b in both if a != b)
    part = like.part(np.array([1, 3]), np.array([0, 8, 2]))
    np.testing.assert_array_equal(part.same, like.same[[1, 3]][:, [0, 8, 2]])


def test_it_is_the_posterior_of_its_process() -> None:
    """Rasmussen & Williams, equations 2.25, 2.26 and 2.43 to 2.45, with the kernel of main effects and pairs."""
    levels, candidates = drawn(20, 0), drawn(6, 2)
    rng = np.random.default_rng(3)
    y, variance = rng.normal(size=20), rng.random(20)
    model = fit(Likeness.of(levels, levels, SIZES), np.arange(20), y, variance, additive=True)

    def kernel(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
        same, d = float(((a == b) & (a != CLOSED)).sum()), len(SIZES)
        return (same / d + 0.3 * same * (same - 1) / (d * (d - 1))) / 1.3

    spread = y.std()
    z = (y - y.mean()) / spread
    inverse = np.linalg.inv(
        [[kernel(a, b) for b in levels] for a in levels] + np.diag(1e-5 + 1e-6 + variance / spread**2)
    )
    mean = inverse.sum(axis=0) @ z / inverse.sum()
    cross = np.array([[kernel(a, b) for b in levels] for a in candidates])
    expected = mean + cross @ inverse @ (z - mean)
    scale = (z - mean) @ inverse @ (z - mean) / 20
    prior = np.array([kernel(a, a) for a in candidates])
    deviation = np.sqrt(scale * (prior - np.einsum("ij,jk,ik->i", cross, inverse, cross)))
    likeness = Likeness.of(candidates, levels, SIZES)
    np.testing.assert_allclose(model.expect(likeness), y.mean() + spread * expected, rtol=1e-6)
    np.testing.assert_allclose(model.expect(likeness, 2.0), y.mean() + spread * (expected - 2 * deviation), rtol=1e-6)
    below = model.probability_below(likeness, float(y.mean() + spread * (expected + deviation)[0]))
    assert below[0] == pytest.approx(0.8413, abs=1e-4)


def test_predictions_transfer_between_architectures() -> None:
    levels = drawn(120, 0)
    effects = np.random.default_rng(5).normal(size=(len(SIZES), 5))
    y = effects[np.arange(len(SIZES)), levels].sum(axis=1)
    known, others = np.arange(60), np.arange(60, 120)
    likeness = Likeness.of(levels, levels, SIZES)
    model = fit(likeness, known, y[known])
    predicted = model.expect(likeness.part(others, np.arange(120)))
    assert np.corrcoef(predicted, y[others])[0, 1] > 0.98
