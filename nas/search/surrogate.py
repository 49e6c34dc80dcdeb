"""Predicts an objective from levels: a Gaussian process whose draws are main effects, plus pairs, plus a rest.

The kernel counts the axes on which two candidates agree. With s agreements of d axes it is the mean of

* s / d: every level of every axis has an effect of its own (69 % of the variance of NAS-Bench-Macro),
* s (s - 1) / d (d - 1): every pair of levels has one,
* 2^-(d - s): anything else, near candidates alike,

with weights, and the variance of the noise, that make the data most likely (Rasmussen & Williams, Gaussian Processes
for Machine Learning, 2006, equations 2.43 to 2.45 with a constant mean; the additive kernel: Duvenaud et al., Additive
Gaussian Processes, 2011, arXiv:1112.4394). Ridge regression on one-hot levels and their products is its special case.

Accuracies are crowded near the best and thin below. So an objective may be taken on a logarithmic scale of its
distance to the best; whether, and how strongly, is decided by likelihood too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.parameters import CLOSED

Levels = NDArray[np.int64]
Vector = NDArray[np.float64]

_WEIGHTS = ((0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.0, 0.3), (0.3, 0.3), (1.0, 1.0))
"""Of pairs and rest, against 1 for main effects."""
_NOISES = (1e-5, 1e-3, 1e-2, 5e-2, 0.2)
"""Variances against the kernel's scale."""
_BENDS = (None, 0.02, 0.1, 0.5)
_ADDITIVE: tuple[tuple[float, float], float, float | None] = ((0.3, 0.0), 1e-5, None)
_JITTER = 1e-6
_MOST_FOR_WEIGHTS = 96


@dataclass(frozen=True)
class _Scale:
    """y -> a standardised scale; with `bend` b, log((y - low) / span + b) first: the smaller, the more the low end
    counts."""

    low: float
    span: float
    bend: float | None
    centre: float
    spread: float

    @classmethod
    def of(cls, y: Vector, bend: float | None) -> "_Scale":
        scale = cls(float(y.min()), float(np.ptp(y)) or 1.0, bend, 0.0, 1.0)
        bent = scale.forward(y)
        return cls(scale.low, scale.span, bend, float(bent.mean()), float(bent.std()) or 1.0)

    def forward(self, y: Vector) -> Vector:
        bent = y if self.bend is None else np.log(np.maximum((y - self.low) / self.span, 0) + self.bend)
        scaled: Vector = (bent - self.centre) / self.spread
        return scaled

    def backward(self, z: Vector) -> Vector:
        bent = z * self.spread + self.centre
        if self.bend is None:
            return np.asarray(bent)
        # Beyond the worst seen by a factor of e at most: the exponential is no forecast.
        return np.asarray(self.low + self.span * (np.exp(np.minimum(bent, np.log(1 + self.bend) + 1)) - self.bend))

    def slope(self, y: Vector) -> Vector:
        """d forward / dy."""
        if self.bend is None:
            return np.full(len(y), 1 / self.spread)
        return np.asarray(1 / ((np.maximum(y - self.low, 0) + self.bend * self.span) * self.spread))


@dataclass(frozen=True)
class Surrogate:
    """A fitted model of an objective that is to be made small."""

    _onehot: Vector
    _sizes: Levels
    _weights: tuple[float, float]
    _covariance: Vector
    _solved: Vector
    _mean: float
    _variance: float
    _scale: _Scale

    def expect(self, levels: Levels, optimism: float = 0.0) -> Vector:
        """The objective [n] at levels [n, d]: the median, less so many standard deviations."""
        if optimism:
            mean, deviation = self._predict(levels)
            return self._scale.backward(mean - optimism * deviation)
        # The deviation costs many times what the mean does.
        cross = _kernel(_one_hot(levels, self._sizes), self._onehot, len(self._sizes), self._weights)
        return self._scale.backward(self._mean + cross @ self._solved)

    def probability_below(self, levels: Levels, threshold: float) -> Vector:
        """The probability [n] that the objective is at most `threshold`."""
        mean, deviation = self._predict(levels)
        distance = (self._scale.forward(np.array([threshold])) - mean) / (deviation * math.sqrt(2))
        return np.array([(1 + math.erf(value)) / 2 for value in distance.tolist()])

    def _predict(self, levels: Levels) -> tuple[Vector, Vector]:
        """Mean and standard deviation [n] on the model's own scale."""
        other = _one_hot(levels, self._sizes)
        cross = _kernel(other, self._onehot, len(self._sizes), self._weights)
        prior = _prior(other, len(self._sizes), self._weights)
        left = np.maximum(prior - (cross * np.linalg.solve(self._covariance, cross.T).T).sum(axis=1), 1e-12)
        return self._mean + cross @ self._solved, np.sqrt(self._variance * left)


def fit(
    levels: Levels, sizes: Levels, y: Vector, variance: Vector | None = None, *, additive: bool = False
) -> Surrogate:
    """The surrogate of an objective to be made small.

    Args:
        levels: Of what was tried, [n, d], n at least 2.
        sizes: Number of levels of each axis, [d].
        y: Its values, [n].
        variance: What is known of each value's own error, [n], in the unit of y squared. None: nothing.
        additive: Take main effects and pairs, without noise; do not look for what is most likely, the longest part.
    """
    onehot = _one_hot(levels, sizes)
    if additive:
        weights, noise, bend = _ADDITIVE
    else:
        few = np.linspace(0, len(y) - 1, min(len(y), _MOST_FOR_WEIGHTS)).astype(int)
        weights, noise, bend = _most_likely(onehot[few], len(sizes), y[few])
    scale = _Scale.of(y, bend)
    z = scale.forward(y)
    own = np.zeros(len(y)) if variance is None else variance * scale.slope(y) ** 2
    gram = _kernel(onehot, onehot, len(sizes), weights)
    covariance = gram + np.diag(noise + _JITTER + own)
    of_ones, of_z = np.linalg.solve(covariance, np.stack([np.ones(len(y)), z], axis=1)).T
    mean = float(of_z.sum() / of_ones.sum())
    solved = of_z - mean * of_ones
    variance_of_process = float((z - mean) @ solved / len(y))
    return Surrogate(onehot, sizes, weights, covariance, solved, mean, variance_of_process, scale)


def _most_likely(onehot: Vector, d: int, y: Vector) -> tuple[tuple[float, float], float, float | None]:
    """Kernel weights, noise and bend of the highest likelihood; scale and mean of the process are solved for."""
    n = len(y)
    scales = [_Scale.of(y, bend) for bend in _BENDS]
    targets = np.stack([scale.forward(y) for scale in scales], axis=1)
    jacobians = np.array([np.log(scale.slope(y)).sum() for scale in scales])
    best = -np.inf
    found: tuple[tuple[float, float], float, float | None] = (_WEIGHTS[0], _NOISES[0], None)
    for weights in _WEIGHTS:
        values, vectors = np.linalg.eigh(_kernel(onehot, onehot, d, weights))
        ones = vectors.T @ np.ones(n)
        rotated = vectors.T @ targets
        for noise in _NOISES:
            spectrum = np.maximum(values, 0) + noise + _JITTER
            means = (ones / spectrum) @ rotated / (ones**2 / spectrum).sum()
            rest = rotated - np.outer(ones, means)
            variances = np.maximum((rest**2 / spectrum[:, None]).mean(axis=0), 1e-12)
            likelihood = jacobians - 0.5 * n * np.log(variances) - 0.5 * np.log(spectrum).sum()
            index = int(np.argmax(likelihood))
            if likelihood[index] > best:
                best, found = float(likelihood[index]), (weights, noise, _BENDS[index])
    return found


def _one_hot(levels: Levels, sizes: Levels) -> Vector:
    """[n, sum of sizes]; an axis that is closed has no column set."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    hot = np.zeros((len(levels), offsets[-1]))
    rows, axes = np.nonzero(levels != CLOSED)
    hot[rows, offsets[axes] + levels[rows, axes]] = 1.0
    return hot


def _kernel(a: Vector, b: Vector, d: int, weights: Sequence[float]) -> Vector:
    """[n, m] between one-hot rows."""
    same = a @ b.T
    apart = (a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :]) / 2 - same
    return _mix(same, apart, d, weights)


def _prior(a: Vector, d: int, weights: Sequence[float]) -> Vector:
    """The kernel of each row with itself, [n]."""
    return _mix(a.sum(axis=1), np.zeros(len(a)), d, weights)


def _mix(same: Vector, apart: Vector, d: int, weights: Sequence[float]) -> Vector:
    pairs, rest = weights
    mixed: Vector = same / d
    if pairs and d > 1:
        mixed = mixed + pairs * same * (same - 1) / (d * (d - 1))
    if rest:
        mixed = mixed + rest * np.exp2(-apart)
    return np.asarray(mixed / (1 + pairs + rest))
