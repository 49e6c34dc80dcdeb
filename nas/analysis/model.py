"""The statistical model of a run: effects of placements and the noise of seeds, as draws from their posterior.

Everything happens on a scale on which effects add (the log-odds of the metric's share of its range). The value at the
end of a training of network a with seed s is

    y = f_a + r_s + e,    f_a = mean + sum of x_aj (o_j + d_j) + sum over pairs of x_aj x_ak c_jk + u_a

x_aj is 1 where the network has placement j. o is the effect of its option anywhere, d that of the place (Student's t:
few are large), c that of a pair, u what these do not explain, r the shift that a seed gives all networks (they see the
same pictures in the same order), and e the noise of one training. Its variance differs between networks: sigma^2
lambda_a, lambda_a from an inverse gamma distribution, so that one unstable network does not widen all intervals.

A training that was stopped has values at earlier epochs only. The value at a rung, given the next rung's v, is

    z = alpha + beta f_a + gamma v + sum over options of delta n_a + noise

and missing values are drawn with everything else. Which trainings were stopped depends on their values alone, which are
all in the model, so stopping biases nothing (Rubin, Inference and missing data, Biometrika 63, 1976). delta allows that
options learn slower or faster.

Method: Gibbs sampling (Gelman et al., Bayesian Data Analysis, 3rd edition, 2013, chapters 11, 15 and 17). The standard
deviations are drawn by random-walk Metropolis steps with all effects integrated out, and have half-Cauchy priors.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.threads import one_thread

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_SWEEPS, _KEPT = 2_400, 600
_MANY = 100
_FREEDOM_NOISE = 4.0
_FREEDOM_EFFECTS = 3.0
"""Degrees of freedom: of the noise's variance between networks, and of the effects of places."""
_STEP = 0.5
_WANTED = 0.25
"""First step size of the Metropolis steps, and the share of accepted ones to which it is adapted."""
_FLOOR = 1e-4
"""Smallest standard deviation, relative to that of the data."""
_OPTION, _PLACE, _PAIR, _REST, _NOISE = range(5)
_GRID = np.exp(np.linspace(math.log(1e-2), math.log(10), 40))


@dataclass(frozen=True)
class Evidence:
    """The trainings of a run.

    ``placed`` [networks, places]: share of a place's blocks that have its option, 0 or 1 but for placements by hand.
    ``options`` [places]: index of each place's option. ``groups`` [places]: places of one group exclude one another.
    ``network``, ``seed`` [trainings]: indices. ``values`` [trainings, levels]: the value at each rung, the last one at
    the end of training; NaN where it was not reached.
    """

    placed: Array
    options: Indices
    groups: Indices
    network: Indices
    seed: Indices
    values: Array


@dataclass(frozen=True)
class Posterior:
    """Draws, on the scale of the evidence.

    ``networks`` [draws, networks]: the mean over seeds. ``mains`` [draws, places]: effect of each placement beside no
    other one. ``pairs`` [draws, places, places]: symmetric, 0 on the diagonal and within a group. ``noise``
    [draws, networks]: standard deviation between trainings of a network. ``usual`` [draws]: that of a usual network.
    ``unexplained``, ``option``, ``place``, ``pair``, ``shift`` [draws]: standard deviations of u, o, d, c and r.
    """

    networks: Array
    mains: Array
    pairs: Array
    noise: Array
    usual: Array
    unexplained: Array
    option: Array
    place: Array
    pair: Array
    shift: Array


@one_thread
def posterior(evidence: Evidence, seed: int = 0, sweeps: int | None = None, kept: int | None = None) -> Posterior:
    """Draws from the posterior of a run's model.

    Args:
        evidence: With at least two trainings in full.
        seed: Of the draws.
        sweeps: Of the sampler, after a quarter more that are thrown away. By default fewer with many networks, where
            a sweep takes longer and the standard deviations are better known.
        kept: Number of draws, evenly spread over the sweeps.
    """
    sweeps = sweeps or (_SWEEPS if len(evidence.placed) < _MANY else _SWEEPS // 3)
    kept = kept or _KEPT
    chain = _Chain(evidence, np.random.default_rng(seed))
    for sweep in range(sweeps // 4):
        chain.sweep(adapt=sweep)
    draws: list[tuple[Array, ...]] = []
    for sweep in range(sweeps):
        chain.sweep()
        if (sweep + 1) * kept // sweeps > len(draws):
            draws.append(chain.state())
    return Posterior(*(np.stack(found) for found in zip(*draws, strict=True)))


class _Chain:
    """The state of the sampler."""

    def __init__(self, evidence: Evidence, rng: np.random.Generator) -> None:
        self._rng = rng
        self._x = evidence.placed
        networks, places = self._x.shape
        options = int(evidence.options.max(initial=-1)) + 1
        self._of_option = np.eye(options)[evidence.options] if places else np.zeros((0, 0))
        self._z = self._x @ self._of_option
        apart = evidence.groups[:, None] != evidence.groups
        self._upper = np.triu(apart)
        self._pairs_kernel = ((self._x @ self._x.T) ** 2 - (self._x**2) @ (self._x**2).T) / 2
        self._option_kernel = self._z @ self._z.T
        self._network, self._seed = evidence.network, evidence.seed
        self._counts = np.bincount(self._network, minlength=networks).astype(float)

        self._values = evidence.values.copy()
        self._missing = np.isnan(self._values)
        ends = self._values[:, -1][~self._missing[:, -1]]
        self._centre = float(np.median(ends))
        spread = float(np.median(np.abs(ends - self._centre))) * 1.5
        self._scale = spread or float(ends.std()) or 1.0
        self._values = (self._values - self._centre) / self._scale
        self._impute_first()

        self._theta = np.log(np.array([0.3, 0.3, 0.1, 0.2, 0.3]))
        self._local = np.ones(places)
        self._spread_of = np.ones(networks)
        self._shifts = np.zeros(int(self._seed.max(initial=0)) + 1)
        self._shift = 0.1
        self._step = _STEP
        self._levels = [_Level(options) for _ in range(self._values.shape[1] - 1)]
        self._f = np.zeros(networks)
        self._mains = np.zeros(places)
        self._pairs = np.zeros((places, places))

    def _impute_first(self) -> None:
        """Missing values begin at the value before, moved by what the others gained."""
        for level in range(1, self._values.shape[1]):
            missing = self._missing[:, level]
            before, after = self._values[:, level - 1], self._values[:, level]
            gain = np.median((after - before)[~missing]) if (~missing).any() else 0.0
            after[missing] = before[missing] + gain

    # --- one sweep

    def sweep(self, adapt: int | None = None) -> None:
        ends = self._values[:, -1] - self._shifts[self._seed]
        means = self._sums(ends) / self._counts
        within = self._sums((ends - means[self._network]) ** 2)
        self._draw_scales(means, within, adapt)
        self._draw_effects(means)
        self._draw_noise(ends)
        self._draw_local()
        self._draw_shifts()
        self._draw_levels()

    def _sums(self, values: Array) -> Array:
        """The sum of values of trainings, for each network."""
        return np.asarray(np.bincount(self._network, values, minlength=len(self._counts)), dtype=np.float64)

    def _covariance(self, theta: Array) -> Array:
        option, place, pair = np.exp(2 * theta[:_REST])
        found = option * self._option_kernel + place * self._place_kernel + pair * self._pairs_kernel
        found += 100.0
        return np.asarray(found)

    def _likelihood(self, theta: Array, means: Array, within: Array) -> float:
        """Log posterior density of the log standard deviations, with the effects integrated out."""
        scales = np.exp(theta)
        if scales.min() < _FLOOR or scales.max() > 1e3:
            return -math.inf
        noise = scales[_NOISE] ** 2 * self._spread_of
        n = len(means)
        bordered = np.empty((n + 1, n + 1))
        bordered[:n, :n] = self._covariance(theta)
        bordered[np.arange(n), np.arange(n)] += scales[_REST] ** 2 + noise / self._counts
        bordered[n, :n] = bordered[:n, n] = means
        bordered[n, n] = 1e12
        factor = np.linalg.cholesky(bordered)
        fit = -np.log(np.diagonal(factor)[:n]).sum() - 0.5 * (factor[n, :n] ** 2).sum()
        inside = -0.5 * ((self._counts - 1) * np.log(noise) + within / noise).sum()
        prior = (theta - np.log1p(scales**2)).sum()
        return float(fit + inside + prior)

    def _draw_scales(self, means: Array, within: Array, adapt: int | None) -> None:
        self._place_kernel = (self._x * self._local) @ self._x.T
        now = self._likelihood(self._theta, means, within)
        proposal = self._theta + self._step * self._rng.normal(size=5) * (self._rng.random(5) < 0.5)
        then = self._likelihood(proposal, means, within)
        accepted = math.log(self._rng.random()) < then - now
        if accepted:
            self._theta = proposal
        if adapt is not None:
            self._step *= math.exp((accepted - _WANTED) / math.sqrt(adapt + 1))

    def _draw_effects(self, means: Array) -> None:
        """All effects, given the data: a draw from the prior, corrected by what it misses (Matheron's rule)."""
        option, place, pair, rest, noise = np.exp(self._theta)
        rng, x = self._rng, self._x
        networks, places = x.shape
        error = noise * np.sqrt(self._spread_of / self._counts)
        mean = 10.0 * rng.normal()
        options = option * rng.normal(size=self._z.shape[1])
        own = place * np.sqrt(self._local) * rng.normal(size=places)
        pairs = pair * rng.normal(size=(places, places)) * self._upper
        u = rest * rng.normal(size=networks)
        given = mean + self._z @ options + x @ own + ((x @ pairs) * x).sum(axis=1) + u
        covariance = self._covariance(self._theta)
        covariance[np.arange(networks), np.arange(networks)] += rest**2 + error**2
        weights = np.linalg.solve(covariance, means - given - error * rng.normal(size=networks))
        mean += 100.0 * weights.sum()
        options += option**2 * (self._z.T @ weights)
        own += place**2 * self._local * (x.T @ weights)
        pairs += pair**2 * ((x.T * weights) @ x) * self._upper
        u += rest**2 * weights
        self._own = own
        self._mains = self._of_option @ options + own
        self._pairs = pairs + pairs.T
        self._f = mean + self._z @ options + x @ own + ((x @ pairs) * x).sum(axis=1) + u

    def _draw_noise(self, ends: Array) -> None:
        squares = self._sums((ends - self._f[self._network]) ** 2)
        rate = (_FREEDOM_NOISE + squares * math.exp(-2 * self._theta[_NOISE])) / 2
        self._spread_of = rate / self._rng.standard_gamma((_FREEDOM_NOISE + self._counts) / 2)

    def _draw_local(self) -> None:
        rate = (_FREEDOM_EFFECTS + self._own**2 * math.exp(-2 * self._theta[_PLACE])) / 2
        self._local = rate / self._rng.standard_gamma((_FREEDOM_EFFECTS + 1) / 2, size=len(rate))

    def _draw_shifts(self) -> None:
        seeds = len(self._shifts)
        if seeds < 2:
            return
        noise = math.exp(2 * self._theta[_NOISE]) * self._spread_of[self._network]
        missed = self._values[:, -1] - self._f[self._network]
        precision = 1 / self._shift**2 + np.bincount(self._seed, 1 / noise, minlength=seeds)
        self._shifts = np.bincount(self._seed, missed / noise, minlength=seeds) / precision
        self._shifts += self._rng.normal(size=seeds) / np.sqrt(precision)
        scale = math.exp(self._theta[_NOISE])
        # A half-Cauchy prior with the noise's scale, on a grid.
        grid = scale * _GRID
        log = -(seeds - 1) * np.log(grid) - (self._shifts**2).sum() / (2 * grid**2) - np.log1p(_GRID**2)
        share = np.cumsum(np.exp(log - log.max()))
        self._shift = float(grid[np.searchsorted(share, self._rng.random() * share[-1])])

    def _draw_levels(self) -> None:
        if not self._levels:
            return
        f, z = self._f[self._network], self._z[self._network]
        for level, found in enumerate(self._levels):
            found.draw(self._values[:, level], f, self._values[:, level + 1], z, self._rng)
        noise = math.exp(2 * self._theta[_NOISE]) * self._spread_of[self._network]
        last = len(self._levels)
        for level in range(1, last + 1):
            rows = np.flatnonzero(self._missing[:, level])
            if not len(rows):
                continue
            if level == last:
                mean, variance = f[rows] + self._shifts[self._seed[rows]], noise[rows]
            else:
                after = self._levels[level]
                mean = after.expect(f[rows], self._values[rows, level + 1], z[rows])
                variance = np.full(len(rows), after.variance)
            before = self._levels[level - 1]
            slope = before.slope
            told = self._values[rows, level - 1] - before.expect(f[rows], np.zeros(len(rows)), z[rows])
            precision = 1 / variance + slope**2 / before.variance
            centre = (mean / variance + slope * told / before.variance) / precision
            self._values[rows, level] = centre + self._rng.normal(size=len(rows)) / np.sqrt(precision)

    def state(self) -> tuple[Array, ...]:
        """A draw in the order of `Posterior`'s fields, on the scale of the evidence."""
        scale = self._scale
        option, place, pair, rest, noise = scale * np.exp(self._theta)
        return (
            self._centre + scale * self._f,
            scale * self._mains,
            scale * self._pairs,
            noise * np.sqrt(self._spread_of),
            np.array(noise),
            np.array(rest),
            np.array(option),
            np.array(place),
            np.array(pair),
            np.array(scale * self._shift),
        )


class _Level:
    """The regression of the values at a rung on the network, on the next rung's values and on the options."""

    def __init__(self, options: int) -> None:
        self._coefficients = np.array([0.0, 0.5, 0.5, *[0.0] * options])
        self._prior = np.array([0.01, 1.0, 1.0, *[10.0] * options])
        """Precisions: of the constant, of the network's mean, of the next value, of the options."""
        self._expected = self._coefficients.copy()
        self.variance = 0.1

    def draw(self, values: Array, f: Array, after: Array, z: Array, rng: np.random.Generator) -> None:
        """Draws coefficients and variance."""
        x = np.column_stack([np.ones(len(values)), f, after, z])
        precision = np.diag(self._prior) + x.T @ x / self.variance
        factor = np.linalg.inv(np.linalg.cholesky(precision))
        mean = factor.T @ (factor @ (self._prior * self._expected + x.T @ values / self.variance))
        self._coefficients = mean + factor.T @ rng.normal(size=len(mean))
        missed = values - x @ self._coefficients
        self.variance = (0.02 + (missed**2).sum()) / (2 * rng.standard_gamma(1 + len(values) / 2))

    @property
    def slope(self) -> float:
        """The coefficient of the next value."""
        return float(self._coefficients[2])

    def expect(self, f: Array, after: Array, z: Array) -> Array:
        """The expected values."""
        c = self._coefficients
        return np.asarray(c[0] + c[1] * f + c[2] * after + z @ c[3:])
