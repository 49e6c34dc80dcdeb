"""Predicts an objective from levels, with a Gaussian process that is a sum of main effects, pair effects and a rest.

The kernel depends on the number of axes on which two candidates agree. For s agreements on d axes it is the weighted
mean of three terms:

* s / d: every level of every axis has its own effect (69 % of the variance of NAS-Bench-Macro),
* s (s - 1) / (d (d - 1)): every pair of levels has its own effect,
* 2^-(d - s): all other effects; similar candidates have similar values.

The weights and the noise's variance maximise the likelihood (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2006, equations 2.43 to 2.45 with a constant mean). The additive kernel is from Duvenaud et al., Additive
Gaussian Processes, 2011, arXiv:1112.4394. Ridge regression on one-hot levels and their products is a special case.

Many accuracies are near the best and few are far below it. So an objective may be transformed to a logarithmic scale of
its distance to the best. The likelihood also decides whether it is transformed, and how strongly.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas.search.parameters import CLOSED
from nas.search.threads import one_thread

Levels = NDArray[np.int64]
Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

_WEIGHTS = ((0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (0.0, 0.3), (0.3, 0.3), (1.0, 1.0))
"""Candidate weights of (pairs, rest); main effects have weight 1."""
_NOISES = (1e-5, 1e-3, 1e-2, 5e-2, 0.2)
"""Candidate variances of the noise, relative to the kernel."""
_BENDS = (None, 0.02, 0.1, 0.5)
_ADDITIVE: tuple[tuple[float, float], float, float | None] = ((0.3, 0.0), 1e-5, None)
_JITTER = 1e-6
_LARGE = 1e15
_MOST_FOR_WEIGHTS = 96


@dataclass(frozen=True)
class _Scale:
    """Maps y to a standardised scale. With `bend` b, y is first replaced by log((y - low) / span + b): a smaller b
    stretches the low end more."""

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
        # At most a factor e beyond the worst known value, because the exponential would extrapolate too far.
        return np.asarray(self.low + self.span * (np.exp(np.minimum(bent, np.log(1 + self.bend) + 1)) - self.bend))

    def slope(self, y: Vector) -> Vector:
        """d forward / dy."""
        if self.bend is None:
            return np.full(len(y), 1 / self.spread)
        return np.asarray(1 / ((np.maximum(y - self.low, 0) + self.bend * self.span) * self.spread))


@dataclass(frozen=True)
class Likeness:
    """The numbers of axes on which rows [n, d] and columns [m, d] agree. Kernels depend only on these.

    ``same`` [n, m]: axes that are open and equal. ``apart`` [n, m]: axes that differ; an axis that is open in only one
    of the two counts half. ``open`` [n]: open axes of each row. ``d``: number of axes.
    """

    same: Vector
    apart: Vector
    open: Vector
    d: int
    _kernels: dict[tuple[float, float], Vector] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    @one_thread
    def of(cls, rows: Levels, columns: Levels, sizes: Levels) -> "Likeness":
        """The likeness of levels [n, d] and [m, d]; ``sizes`` [d]: number of levels of each axis."""
        a = _one_hot(rows, sizes)
        b = a if rows is columns else _one_hot(columns, sizes)
        same = (a @ b.T).astype(np.float64)
        open_ = a.sum(axis=1, dtype=np.float64)
        return cls(same, (open_[:, None] + b.sum(axis=1)) / 2 - same, open_, len(sizes))

    def part(self, rows: Indices, columns: Indices) -> "Likeness":
        """The likeness of a subset of rows and of columns."""
        chosen = np.ix_(rows, columns)
        return Likeness(self.same[chosen], self.apart[chosen], self.open[rows], self.d)

    def kernel(self, weights: tuple[float, float]) -> Vector:
        """The kernel matrix [n, m], cached because fitting and prediction use the same one."""
        if weights not in self._kernels:
            self._kernels[weights] = _mix(self.same, self.apart, self.d, weights)
            self._kernels[weights].setflags(write=False)
        return self._kernels[weights]

    def prior(self, weights: tuple[float, float]) -> Vector:
        """The kernel of each row with itself, [n]."""
        return _mix(self.open, np.zeros(len(self.open)), self.d, weights)


@dataclass(frozen=True)
class Surrogate:
    """A fitted model of a minimised objective. It was fitted to the columns `known` of a likeness."""

    known: Indices
    _weights: tuple[float, float]
    _covariance: Vector
    _solved: Vector
    _mean: float
    _variance: float
    _scale: _Scale

    @one_thread
    def expect(self, likeness: Likeness, optimism: float = 0.0) -> Vector:
        """The predicted objective [n] at the rows of a likeness: the median minus `optimism` standard deviations."""
        if optimism:
            mean, deviation = self._predict(likeness)
            return self._scale.backward(mean - optimism * deviation)
        # Computing the deviation takes many times as long as the mean.
        return self._scale.backward(self._mean + self._cross(likeness) @ self._solved)

    @one_thread
    def probability_below(self, likeness: Likeness, threshold: float) -> Vector:
        """The probability [n] that the objective is at most `threshold`."""
        mean, deviation = self._predict(likeness)
        distance = (self._scale.forward(np.array([threshold])) - mean) / (deviation * math.sqrt(2))
        return np.array([(1 + math.erf(value)) / 2 for value in distance.tolist()])

    def _cross(self, likeness: Likeness) -> Vector:
        kernel = likeness.kernel(self._weights)
        return kernel if len(self.known) == kernel.shape[1] else kernel[:, self.known]

    def _predict(self, likeness: Likeness) -> tuple[Vector, Vector]:
        """Mean and standard deviation [n] on the model's own scale."""
        cross = self._cross(likeness)
        explained = (cross * np.linalg.solve(self._covariance, cross.T).T).sum(axis=1)
        left = np.maximum(likeness.prior(self._weights) - explained, 1e-12)
        return self._mean + cross @ self._solved, np.sqrt(self._variance * left)


@one_thread
def fit(
    likeness: Likeness, known: Indices, y: Vector, variance: Vector | None = None, *, additive: bool = False
) -> Surrogate:
    """Fits a surrogate of a minimised objective.

    Args:
        likeness: Of all trials with themselves, [m, m].
        known: Indices of the trials with a known value, [n], n at least 2.
        y: Their values, [n].
        variance: Variance of each value's error, [n]; None: zero.
        additive: Use main effects and pairs, without noise, instead of maximising the likelihood, which takes longest.
    """
    if additive:
        weights, noise, bend = _ADDITIVE
    else:
        few = np.linspace(0, len(y) - 1, min(len(y), _MOST_FOR_WEIGHTS)).astype(int)
        weights, noise, bend = _most_likely(likeness.part(known[few], known[few]), y[few])
    scale = _Scale.of(y, bend)
    z = scale.forward(y)
    covariance = likeness.kernel(weights)[np.ix_(known, known)]
    diagonal = np.arange(len(y))
    covariance[diagonal, diagonal] += noise + _JITTER
    if variance is not None:
        covariance[diagonal, diagonal] += variance * scale.slope(y) ** 2
    of_ones, of_z = np.linalg.solve(covariance, np.stack([np.ones(len(y)), z], axis=1)).T
    mean = float(of_z.sum() / of_ones.sum())
    solved = of_z - mean * of_ones
    variance_of_process = float((z - mean) @ solved / len(y))
    return Surrogate(known, weights, covariance, solved, mean, variance_of_process, scale)


def _most_likely(likeness: Likeness, y: Vector) -> tuple[tuple[float, float], float, float | None]:
    """Kernel weights, noise and bend with the highest likelihood; the best scale and mean have a closed form."""
    n = len(y)
    scales = [_Scale.of(y, bend) for bend in _BENDS]
    jacobians = np.array([np.log(scale.slope(y)).sum() for scale in scales])
    given = np.stack([np.ones(n), *(scale.forward(y) for scale in scales)])  # [1 + bends, n]
    # For covariances L L', the Cholesky factor of [[L L', given'], [given, corner]] has given L'^-1 below L. Both give
    # the likelihood. The corner does not affect them; it only has to be large.
    whole = np.arange(n + len(given))
    bordered = np.zeros((len(_NOISES), len(whole), len(whole)))
    bordered[:, n:, :n] = given
    bordered[:, whole[n:], whole[n:]] = _LARGE
    noises = np.array(_NOISES)[:, None] + _JITTER
    likelihood = np.empty((len(_WEIGHTS), len(_NOISES), len(_BENDS)))
    for index, weights in enumerate(_WEIGHTS):
        bordered[:, :n, :n] = likeness.kernel(weights)
        bordered[:, whole[:n], whole[:n]] += noises
        factors = np.linalg.cholesky(bordered)
        log_determinants = 2 * np.log(factors[:, whole[:n], whole[:n]]).sum(axis=1, keepdims=True)
        ones, z = factors[:, n : n + 1, :n], factors[:, n + 1 :, :n]
        precisions = (ones**2).sum(axis=2)
        means = (ones * z).sum(axis=2) / precisions  # [noises, bends]
        # The sum of (z - mean * ones)^2, simplified with the formula of the mean.
        variances = np.maximum(((z**2).sum(axis=2) - means**2 * precisions) / n, 1e-12)
        likelihood[index] = jacobians - 0.5 * n * np.log(variances) - 0.5 * log_determinants
    best, noise, bend = np.unravel_index(int(np.argmax(likelihood)), likelihood.shape)
    return _WEIGHTS[best], _NOISES[noise], _BENDS[bend]


def _one_hot(levels: Levels, sizes: Levels) -> NDArray[np.float32]:
    """One-hot levels [n, sum of sizes]; a closed axis has only zeros. float32 products are exact and twice as fast."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    hot = np.zeros((len(levels), offsets[-1]), np.float32)
    rows, axes = np.nonzero(levels != CLOSED)
    hot[rows, offsets[axes] + levels[rows, axes]] = 1.0
    return hot


def _mix(same: Vector, apart: Vector, d: int, weights: tuple[float, float]) -> Vector:
    pairs, rest = weights
    total = 1 + pairs + rest
    per_pair = pairs / (d * (d - 1) * total) if d > 1 else 0.0
    # same / d + pairs * same * (same - 1) / (d * (d - 1)), in few passes over the matrix.
    mixed: Vector = same * (1 / (d * total) - per_pair)
    if per_pair:
        mixed += per_pair * same**2
    if rest:
        mixed += (rest / total) * np.exp2(-apart)
    return mixed
