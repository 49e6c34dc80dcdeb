"""The statistical model of a run: effects of placements and the noise of seeds, as draws from their posterior.

Everything happens on a scale on which effects add (the log-odds of the metric's share of its range). The value at the
end of a training of network a with seed s is

    y = f_a + r_s + e,    f_a = mean + sum of x_aj (o_j + d_j) + sum over pairs of x_aj x_ak c_jk + u_a

x_aj is 1 where the network has placement j. o is the effect of its option anywhere, d that of the place (Student's t:
few are large), c that of a pair, u what these do not explain, r the shift that a seed gives all networks (they see the
same pictures in the same order), and e the noise of one training. Its variance differs between networks: sigma^2
lambda_a, lambda_a from an inverse gamma distribution, so that one unstable network does not widen all intervals.

A training that was stopped has values at earlier epochs only. The value at a rung, given the next rung's v, is

    z = alpha + gamma v + sum over options of delta n_a + noise

and missing values are drawn with everything else. A rung tells of the end of its own training alone: what a network
repeats in its early values may as well be its speed. Which trainings were stopped depends on their values alone, which
are all in the model, so stopping biases nothing (Rubin, Inference and missing data, Biometrika 63, 1976). delta allows
that options learn slower or faster.

Method: Gibbs sampling (Gelman et al., Bayesian Data Analysis, 3rd edition, 2013, chapters 11, 15 and 17). The standard
deviations have half-Cauchy priors. They are drawn by random-walk Metropolis steps with all effects integrated out; the
steps' covariance is that of the draws thrown away at first. The two that are multiplied by variances drawn per network
or per place are drawn a second time with these products fixed (Yu and Meng, To center or not to center, Journal of
Computational and Graphical Statistics 20, 2011). Several chains run side by side as one array: a run's matrices are so
small that Python would take longer than the arithmetic.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nas.search.threads import one_thread

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_SWEEPS, _KEPT = 960, 600
_CHAINS, _FIRST = 8, 60
"""Chains, and sweeps of each that are thrown away."""
_MANY = 100
"""With so many networks a sweep takes long, so there are half as many chains, and half as many sweeps of each."""
_AT_ONCE = 1 << 15
"""Numbers in the matrices that are factored at once: these stay in the processor's cache."""
_FREEDOM_NOISE = 2.0
_FREEDOM_EFFECTS = 3.0
"""Degrees of freedom: of the noise's variance between networks, and of the effects of places."""
_WANTED = 0.3
"""Share of the Metropolis steps that should be accepted."""
_SMALLEST, _LARGEST = 1e-3, 30.0
"""Bounds of standard deviations, relative to that of the data. Beyond them, covariance matrices lose their digits."""
_FLAT = 100.0
"""Variance of the mean of all networks before anything is known."""
_FAINT = 1e-6
"""Smallest precision with which a network's values tell its mean."""
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
        sweeps: Of the sampler, over all chains, after `_FIRST` of each that are thrown away. With many networks, a
            quarter of them.
        kept: Number of draws, evenly spread over the sweeps.
    """
    fewer = 1 if len(evidence.placed) < _MANY else 2
    number, kept = _CHAINS // fewer, kept or _KEPT
    each = max((sweeps or _SWEEPS) // (_CHAINS * fewer), 1)
    rounds = math.ceil(kept / number)
    chains = _Chains(evidence, number, np.random.default_rng(seed))
    for sweep in range(_FIRST):
        chains.sweep(adapt=sweep)
    draws: list[tuple[Array, ...]] = []
    for sweep in range(each):
        chains.sweep()
        if (sweep + 1) * rounds // each > len(draws):
            draws.append(chains.state())
    return Posterior(*(np.concatenate(found)[-kept:] for found in zip(*draws, strict=True)))


class _Chains:
    """The states of the sampler's chains; the first axis of all that changes is the chain."""

    def __init__(self, evidence: Evidence, chains: int, rng: np.random.Generator) -> None:
        self._rng, self._chains = rng, chains
        self._x = x = evidence.placed
        networks, places = x.shape
        options = int(evidence.options.max(initial=-1)) + 1
        self._of_option = np.eye(options)[evidence.options] if places else np.zeros((0, 0))
        self._z = x @ self._of_option
        self._features = np.concatenate([np.ones((networks, 1)), self._z, x], axis=1)
        self._pairs_of = np.nonzero(np.triu(evidence.groups[:, None] != evidence.groups))
        self._xx = x[:, self._pairs_of[0]] * x[:, self._pairs_of[1]]
        self._pairs_kernel = self._xx @ self._xx.T
        order = np.argsort(evidence.network, kind="stable")
        self._network, self._seed = evidence.network[order], evidence.seed[order]
        self._starts = np.searchsorted(self._network, np.arange(networks))
        self._counts = np.bincount(self._network, minlength=networks).astype(float)
        seeds = int(self._seed.max(initial=0)) + 1
        self._of_seed = np.eye(seeds)[self._seed]

        values = evidence.values[order]
        self._missing = np.isnan(values).T
        ends = values[:, -1][~self._missing[-1]]
        self._centre = float(np.median(ends))
        spread = float(np.median(np.abs(ends - self._centre))) * 1.5
        self._scale = spread or float(ends.std()) or 1.0
        values = (values - self._centre) / self._scale
        self._reached = np.array([row[np.isfinite(row)][-1] for row in values])
        self._impute_first(values)
        self._values = np.repeat(values.T[None], self._chains, axis=0)

        self._theta = np.log(np.array([0.3, 0.3, 0.1, 0.2, 0.3])) + 0.5 * rng.normal(size=(self._chains, 5))
        self._local = np.ones((self._chains, places))
        self._spread_of = np.ones((self._chains, networks))
        self._shifts = np.zeros((self._chains, seeds))
        self._shift = np.full(self._chains, 0.1)
        self._seen: list[Array] = []
        self._step = 0.3 * np.eye(5)
        self._factor = 1.0
        self._levels = [_Level(options, chains) for _ in range(values.shape[1] - 1)]
        self._at_once = max(_AT_ONCE // (networks + 1) ** 2, 1)
        self._bordered = np.zeros((2, self._chains, networks + 1, networks + 1))
        self._bordered[..., networks, networks] = 1e12

    def _impute_first(self, values: Array) -> None:
        """Missing values begin at the value before, moved by what the others gained."""
        for level in range(1, values.shape[1]):
            missing = self._missing[level]
            before, after = values[:, level - 1], values[:, level]
            gain = np.median((after - before)[~missing]) if (~missing).any() else 0.0
            after[missing] = before[missing] + gain

    # --- one sweep

    def sweep(self, adapt: int | None = None) -> None:
        self._draw_scales(adapt)
        self._draw_effects()
        self._draw_missing()
        self._draw_noise()
        self._draw_local()
        self._draw_shifts()
        self._draw_levels()

    def _sums(self, values: Array) -> Array:
        """[..., networks]: the sum of values of trainings, for each network."""
        return np.asarray(np.add.reduceat(values, self._starts, axis=-1))

    def _noise(self, theta: Array) -> Array:
        """[..., chains, trainings]: the variance of a training's end around its network's mean and its seed's shift."""
        return np.asarray(np.exp(2 * theta[..., [_NOISE]]) * self._spread_of[:, self._network])

    def _foretold(self, theta: Array) -> list[tuple[Array, Array, Array]]:
        """What the networks' means f foretell of the last value that each training reached and, before it in the list,
        of each level's value where it is missing, the last level first: c + s f with variance v, each
        [..., chains, trainings].
        """
        shape = (*theta.shape[:-1], len(self._network))
        c, s, v = np.broadcast_to(self._shifts[:, self._seed], shape), np.ones(shape), self._noise(theta)
        found = [(c, s, v)]
        for level, missing in zip(self._levels[::-1], self._missing[:0:-1], strict=True):
            c = np.where(missing, level.expect(c, self._z[self._network]), c)
            s = np.where(missing, level.slope * s, s)
            v = np.where(missing, level.variance + level.slope**2 * v, v)
            found.append((c, s, v))
        return found

    def _told(self, theta: Array) -> tuple[Array, Array, Array]:
        """What the values tell of the networks' means f: the mean and the variance of a normal distribution for each
        network [..., networks], and the logarithm of the factor besides it [...].
        """
        c, s, v = self._foretold(theta)[-1]
        missed = self._reached - c
        precision = np.maximum(self._sums(s**2 / v), _FAINT)
        mean = self._sums(s * missed / v) / precision
        factor = (precision * mean**2 - np.log(precision)).sum(axis=-1) - (np.log(v) + missed**2 / v).sum(axis=-1)
        return mean, 1 / precision, factor / 2

    def _covariance(self, theta: Array, chains: slice) -> Array:
        """[chains, networks, networks]: of the networks' means, for the `theta` [chains, 5] of some chains."""
        variances = np.exp(2 * theta)
        options = self._z.shape[1]
        weights = np.empty((len(theta), 1, self._features.shape[1]))
        weights[:, 0, 0] = _FLAT
        weights[:, 0, 1 : 1 + options] = variances[:, [_OPTION]]
        weights[:, 0, 1 + options :] = variances[:, [_PLACE]] * self._local[chains]
        found = (self._features * weights) @ self._features.T
        found += variances[:, _PAIR, None, None] * self._pairs_kernel
        diagonal = np.arange(len(self._x))
        found[:, diagonal, diagonal] += variances[:, [_REST]]
        return np.asarray(found)

    def _likelihood(self, theta: Array) -> Array:
        """[2, chains]: log posterior density of log standard deviations [2, chains, 5], with effects and missing values
        integrated out. Leaves what it took for that in `_means`, `_errors` and `_bordered`.
        """
        n = len(self._x)
        self._means, self._errors, found = self._told(theta)
        diagonal = np.arange(n)
        for proposal, start in product(range(2), range(0, self._chains, self._at_once)):
            part = slice(start, start + self._at_once)
            matrices = self._bordered[proposal, part]
            matrices[:, :n, :n] = self._covariance(theta[proposal, part], part)
            matrices[:, diagonal, diagonal] += self._errors[proposal, part]
            matrices[:, n, :n] = self._means[proposal, part]
            factor = np.linalg.cholesky(matrices)
            found[proposal, part] -= np.log(np.diagonal(factor, axis1=1, axis2=2)[:, :n]).sum(axis=1)
            found[proposal, part] -= 0.5 * (factor[:, n, :n] ** 2).sum(axis=1)
        return np.asarray(found + _log_prior(theta).sum(axis=-1))

    def _draw_scales(self, adapt: int | None) -> None:
        rng = self._rng
        moved = self._theta + self._factor * rng.normal(size=(self._chains, 5)) @ self._step.T
        allowed = _allowed(moved).all(axis=1)
        moved[~allowed] = self._theta[~allowed]
        now, then = self._likelihood(np.stack([self._theta, moved]))
        accepted = (np.log(rng.random(self._chains)) < then - now) & allowed
        self._chosen = accepted.astype(int), np.arange(self._chains)
        self._theta = np.where(accepted[:, None], moved, self._theta)
        if adapt is not None:
            self._adapt(adapt, float(accepted.mean()))
        self._spread_of *= self._rescaled(_NOISE, _FREEDOM_NOISE, self._spread_of)
        if self._local.shape[1]:
            self._local *= self._rescaled(_PLACE, _FREEDOM_EFFECTS, self._local)

    def _rescaled(self, which: int, freedom: float, shares: Array) -> Array:
        """Draws a standard deviation while its square's product with variances `shares` [chains, n] is fixed.

        Returns: [chains, 1], what the shares are multiplied by.
        """
        theta = self._theta[:, which].copy()
        number = shares.shape[1]
        # Given the products, the square's distribution is a gamma distribution but for the prior.
        rate = freedom / 2 * np.exp(-2 * theta) * (1 / shares).sum(axis=1)
        moved = np.log(self._rng.standard_gamma(freedom * number / 2, size=self._chains) / rate) / 2
        accepted = (np.log(self._rng.random(self._chains)) < _log_prior(moved) - _log_prior(theta)) & _allowed(moved)
        after = np.where(accepted, moved, theta)
        self._theta[:, which] = after
        return np.asarray(np.exp(2 * (theta - after))[:, None])

    def _adapt(self, sweep: int, accepted: float) -> None:
        """Fits the size and the directions of the steps to the draws so far."""
        self._factor *= math.exp((accepted - _WANTED) / math.sqrt(sweep + 1))
        self._seen.append(self._theta)
        if sweep % 10 == 9:
            seen = np.concatenate(self._seen[len(self._seen) // 2 :])
            self._step = np.asarray(np.linalg.cholesky(np.cov(seen.T) + 1e-4 * np.eye(5)), dtype=np.float64)

    def _draw_effects(self) -> None:
        """All effects, given the data: a draw from the prior, corrected by what it misses (Matheron's rule)."""
        rng, x, z = self._rng, self._x, self._z
        networks, places = x.shape
        option, place, pair, rest, _ = np.exp(self._theta).T[..., None]
        mean = math.sqrt(_FLAT) * rng.normal(size=(self._chains, 1))
        options = option * rng.normal(size=(self._chains, z.shape[1]))
        own = place * np.sqrt(self._local) * rng.normal(size=(self._chains, places))
        pairs = pair * rng.normal(size=(self._chains, self._xx.shape[1]))
        u = rest * rng.normal(size=(self._chains, networks))
        given = mean + options @ z.T + own @ x.T + pairs @ self._xx.T + u
        means, errors = self._means[self._chosen], self._errors[self._chosen]
        missed = means - given - np.sqrt(errors) * rng.normal(size=(self._chains, networks))
        weights = np.linalg.solve(self._bordered[self._chosen][:, :networks, :networks], missed[..., None])[..., 0]
        mean += _FLAT * weights.sum(axis=1, keepdims=True)
        options += option**2 * (weights @ z)
        own += place**2 * self._local * (weights @ x)
        pairs += pair**2 * (weights @ self._xx)
        u += rest**2 * weights
        self._mean, self._own, self._pairs = mean, own, pairs
        self._mains = options @ self._of_option.T + own
        self._f = mean + options @ z.T + own @ x.T + pairs @ self._xx.T + u

    def _draw_missing(self) -> None:
        """The values that were not reached, from the first on."""
        f, z = self._f[:, self._network], self._z[self._network]
        for level, foretold in zip(range(1, len(self._missing)), self._foretold(self._theta)[-2::-1], strict=True):
            at, before = np.flatnonzero(self._missing[level]), self._levels[level - 1]
            c, s, v = (found[:, at] for found in foretold)
            told = self._values[:, level - 1, at] - before.expect(0.0, z[at])
            precision = 1 / v + before.slope**2 / before.variance
            centre = ((c + s * f[:, at]) / v + before.slope * told / before.variance) / precision
            self._values[:, level, at] = centre + self._rng.normal(size=centre.shape) / np.sqrt(precision)

    def _draw_noise(self) -> None:
        missed = self._values[:, -1] - self._shifts[:, self._seed] - self._f[:, self._network]
        rate = (_FREEDOM_NOISE + self._sums(missed**2) * np.exp(-2 * self._theta[:, [_NOISE]])) / 2
        shape = (_FREEDOM_NOISE + self._counts) / 2
        self._spread_of = rate / self._rng.standard_gamma(shape, size=rate.shape)

    def _draw_local(self) -> None:
        rate = (_FREEDOM_EFFECTS + self._own**2 * np.exp(-2 * self._theta[:, [_PLACE]])) / 2
        self._local = rate / self._rng.standard_gamma((_FREEDOM_EFFECTS + 1) / 2, size=rate.shape)

    def _draw_shifts(self) -> None:
        seeds = self._shifts.shape[1]
        if seeds < 2:
            return
        precisions = 1 / self._noise(self._theta)
        missed = self._values[:, -1] - self._f[:, self._network]
        precision = 1 / self._shift[:, None] ** 2 + precisions @ self._of_seed
        self._shifts = (missed * precisions) @ self._of_seed / precision
        self._shifts += self._rng.normal(size=self._shifts.shape) / np.sqrt(precision)
        self._draw_common_shift()
        # A half-Cauchy prior with the noise's scale, on a grid.
        grid = np.exp(self._theta[:, [_NOISE]]) * _GRID
        log = -(seeds - 1) * np.log(grid) - (self._shifts**2).sum(axis=1, keepdims=True) / (2 * grid**2)
        log -= np.log1p(_GRID**2)
        share = np.cumsum(np.exp(log - log.max(axis=1, keepdims=True)), axis=1)
        at = (share < self._rng.random((self._chains, 1)) * share[:, -1:]).sum(axis=1)
        self._shift = grid[np.arange(self._chains), at]

    def _draw_common_shift(self) -> None:
        """Moves a part from the networks' means to the seeds' shifts. No value says what part, so draws that fix one of
        both would hardly move.
        """
        precision = self._shifts.shape[1] / self._shift**2 + 1 / _FLAT
        linear = self._mean[:, 0] / _FLAT - self._shifts.sum(axis=1) / self._shift**2
        moved = (linear / precision + self._rng.normal(size=self._chains) / np.sqrt(precision))[:, None]
        self._mean -= moved
        self._f -= moved
        self._shifts += moved

    def _draw_levels(self) -> None:
        z = self._z[self._network]
        for level, found in enumerate(self._levels):
            found.draw(self._values[:, level], self._values[:, level + 1], z, self._rng)

    def state(self) -> tuple[Array, ...]:
        """A draw of each chain, in the order of `Posterior`'s fields, on the scale of the evidence."""
        scale, places = self._scale, self._x.shape[1]
        option, place, pair, rest, noise = scale * np.exp(self._theta.T)
        first, second = self._pairs_of
        pairs = np.zeros((self._chains, places, places))
        pairs[:, first, second] = pairs[:, second, first] = scale * self._pairs
        return (
            self._centre + scale * self._f,
            scale * self._mains,
            pairs,
            noise[:, None] * np.sqrt(self._spread_of),
            noise,
            rest,
            option,
            place,
            pair,
            scale * self._shift,
        )


def _log_prior(theta: Array) -> Array:
    """Of the logarithm of a standard deviation with a half-Cauchy prior."""
    return np.asarray(theta - np.log1p(np.exp(2 * theta)))


def _allowed(theta: Array) -> NDArray[np.bool_]:
    """Whether standard deviations, by their logarithms, are within the bounds."""
    return (theta > math.log(_SMALLEST)) & (theta < math.log(_LARGEST))


class _Level:
    """The regression of the values at a rung on the next rung's and on the options.

    ``slope``: on the next values; ``variance``: of the noise; both [chains, 1].
    """

    def __init__(self, options: int, chains: int) -> None:
        self._expected = np.array([0.0, 1.0, *[0.0] * options])
        self._prior = np.array([0.01, 1.0, *[10.0] * options])
        """Precisions: of the constant, of the slope, of the options."""
        self._keep(np.tile(self._expected, (chains, 1)))
        self.variance = np.full((chains, 1), 0.1)

    def _keep(self, coefficients: Array) -> None:
        self._constant, self.slope, self._of_options = np.split(coefficients, [1, 2], axis=1)

    def draw(self, values: Array, after: Array, z: Array, rng: np.random.Generator) -> None:
        """Draws coefficients and variance; values [chains, trainings], z [trainings, options]."""
        x = np.empty((*values.shape, len(self._prior)))
        x[..., 0], x[..., 1], x[..., 2:] = 1.0, after, z
        transposed = np.swapaxes(x, 1, 2)
        variance = self.variance[..., None]
        precision = np.diag(self._prior) + transposed @ x / variance
        factor = np.linalg.inv(np.linalg.cholesky(precision))
        told = (self._prior * self._expected)[:, None] + transposed @ values[..., None] / variance
        found = np.swapaxes(factor, 1, 2) @ (factor @ told + rng.normal(size=told.shape))
        self._keep(found[..., 0])
        missed = values - (x @ found)[..., 0]
        gamma = rng.standard_gamma(1 + values.shape[1] / 2, size=(len(values), 1))
        self.variance = (0.02 + (missed**2).sum(axis=1, keepdims=True)) / (2 * gamma)

    def expect(self, after: Array | float, z: Array) -> Array:
        """The expected values; the next ones [..., chains, trainings]."""
        return np.asarray(self._constant + self.slope * after + self._of_options @ z.T)
