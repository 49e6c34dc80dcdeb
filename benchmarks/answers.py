"""Holds the answer of a run (`nas.analysis.answer`) against known truths.

    python benchmarks/answers.py --runs 500 --workers 2 --to answers.jsonl
    python benchmarks/answers.py --runs 100 --trials 24 --kinds null --spaces small

`--to` keeps each run's figures in a file. A command with the same file does only the runs that it lacks.

The real engine searches, with early stopping and repetitions; only the training is simulated. Every run has a truth of
its own, drawn from its number. A network's accuracy is the sum of the effects of its placements, of effects of pairs,
and of a part of its own. Seeds move all networks alike and each by itself; a tenth of the networks is unstable, with
twenty times the noise. Learning curves differ in speed by option, so that early ranks mislead.

Spaces: small, that of `make search`, 11 placements; large, nine blocks that are empty or have SE or CBAM.

Kinds of truth:

effects  three in ten placements change the accuracy by about 2 points, the others by about .1; pairs by .5
odds     the same, but effects add on the scale of log-odds, near 95 %
null     no placement changes anything

Figures, each over all runs:

each         share of the true effects that are within their own 95 % interval
together     share of runs in which all true effects are within the intervals that hold together
false        share of runs with an effect whose interval excludes 0 on the wrong side (null: on either side)
signs        share of the effects larger than three of their standard errors whose sign is right
half width   median of half the width of an interval (together), in points
known        the same by least squares over the trainings in full, if all variances were known: of effects, of pairs, of
             each network's own part and noise, and of seeds
means        share of the networks whose true mean is within its interval
told         share of runs that tell the network to take from the plain one, where it is truly a point better
before       the same share under the former rule: two new seeds for the four best networks and for the plain one,
             Student's intervals over these alone, one variance for all networks, Tukey's correction
decided      share of runs whose answer is decided at its end
regret       mean points by which the network to take is worse than the best of the run's networks
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import combinations, product
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TypeAlias

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import studentized_range

from nas.analysis import most_telling
from nas.analysis.answer import Answer, gains_of, stated
from nas.analysis.evidence import Place, Reading, read
from nas.analysis.model import posterior
from nas.costs import CostEstimate
from nas.search import Engine, EpochRecord, Journal, Objective, Outcome, SearchConfig, TrialRecord
from nas.search.records import read_trials
from search_spaces import Architecture, SearchSpace, load_space, parse_space
from search_spaces.sites import EMPTY

Array: TypeAlias = NDArray[np.float64]

KINDS = ("effects", "odds", "null")
SPACES = ("small", "large")
EPOCHS, ETA, WORKERS = 9, 3, 4
_METRIC, _COST = Objective("top1", "maximize"), Objective("params", "minimize")
_NOISE, _SHIFT, _OWN = 0.0023, 0.001, 0.002
_MAIN, _LARGE_SHARE, _PAIR, _PAIR_SHARE = 0.02, 0.3, 0.005, 0.15
"""Standard deviations and shares of large effects and of pairs, on the scale of accuracies."""
_UNSTABLE, _TIMES = 0.1, 20
_LARGE = """
schema: 1
name: large
skeleton: {family: resnet, depth: 20, width: 16, image_size: 32, num_classes: 10}
placements:
  "*": {refine: [none, {se: {reduction: 4}}, {cbam: {reduction: 16}}]}
"""


@cache
def space_of(name: str) -> SearchSpace:
    return load_space("shapes") if name == "small" else parse_space(_LARGE)


class Truth:
    """What every training of a made problem gives; also the engine's cost model."""

    def __init__(self, kind: str, space: SearchSpace, number: int) -> None:
        self._kind, self._number = kind, number
        self._units = {(b, group.slot): group.label for group in space.groups for b in group.blocks}
        self.main, self.pair = cache(self._main), cache(self._pair)

    def _rng(self, *name: object) -> Random:
        return Random(f"{self._number} {name}")

    @cached_property
    def _scale(self) -> float:
        """Of effects; .01 of accuracy is about .2 of log-odds near 95 %."""
        return {"effects": 1.0, "odds": 20.0, "null": 0.0}[self._kind]

    def _main(self, name: str) -> float:
        rng = self._rng("main", name)
        return self._scale * (rng.gauss(0, _MAIN) if rng.random() < _LARGE_SHARE else rng.gauss(0, 0.001))

    def _pair(self, a: str, b: str) -> float:
        rng = self._rng("pair", *sorted((a, b)))
        return self._scale * (rng.gauss(0, _PAIR) if rng.random() < _PAIR_SHARE else 0.0)

    def share(self, score: float) -> float:
        if self._kind == "odds":
            return 1 / (1 + math.exp(-(2.9 + score)))
        return min(max(0.8 + score, 0.3), 0.999)

    def expected(self, names: Sequence[str]) -> float:
        """The score of a network with placements, without the part of its own."""
        return sum(map(self.main, names)) + sum(self.pair(a, b) for a, b in combinations(sorted(names), 2))

    def mean(self, architecture: Architecture) -> float:
        """The accuracy over seeds."""
        own = self._rng("own", architecture.fingerprint).gauss(0, _OWN if self._scale else 0.0)
        return min(self.share(self.expected(self.names(architecture))) + own, 0.999)

    def noise(self, architecture: Architecture) -> float:
        rng = self._rng("noise", architecture.fingerprint)
        usual = _NOISE * math.exp(rng.gauss(0, 0.3))
        return usual * (_TIMES if rng.random() < _UNSTABLE else 1)

    def end(self, architecture: Architecture, seed: int) -> float:
        """The accuracy of one training in full."""
        shift = self._rng("shift", seed).gauss(0, _SHIFT)
        error = self._rng("error", architecture.fingerprint, seed).gauss(0, self.noise(architecture))
        return self.mean(architecture) + shift + error

    def curve(self, architecture: Architecture, epoch: int, seed: int) -> float:
        end = self.end(architecture, seed)
        options = {name.rpartition("=")[2] for name in self.names(architecture)}
        delay = sum(self._rng("delay", option).gauss(0, 0.5) for option in options)
        slowness = 1.5 * math.exp(0.3 * delay + 0.1 * self._rng("speed", architecture.fingerprint).gauss(0, 1))
        left = 0.0 if epoch == EPOCHS else (end - 0.3) * (math.exp(-epoch / slowness) - math.exp(-EPOCHS / slowness))
        wobble = 0.0 if epoch == EPOCHS else self._rng("wobble", architecture.fingerprint, seed, epoch).gauss(0, 0.005)
        return min(max(end - left + wobble, 0.0), 1.0)

    def names(self, architecture: Architecture) -> list[str]:
        """The placements, once for each group of blocks."""
        return sorted(
            {
                f"{self._units.get((block, slot), block)}/{slot}={choice.option}"
                for block, slots in architecture.placements.items()
                for slot, choice in slots.items()
                if choice.option != EMPTY[slot]
            }
        )

    def estimate(self, architecture: Architecture, measure: str) -> CostEstimate:
        assert measure == _COST.metric
        cost = 100 + sum(1 + 9 * self._rng("cost", name).random() for name in self.names(architecture))
        return CostEstimate(cost, cost, cost, "", "analytic")

    def must_measure(self, architecture: Architecture, measure: str) -> bool:
        del architecture, measure
        return False

    def record(self, architecture: Architecture, measure: str, value: float) -> CostEstimate:
        del value
        return self.estimate(architecture, measure)


def search(truth: Truth, space: SearchSpace, trials: int, seed: int) -> list[TrialRecord]:
    """One search, to its end."""
    config = SearchConfig.model_validate({"trials": trials, "seed": 1000 * seed, "eta": ETA, "min_epochs": 3})
    objectives = (_METRIC, _COST)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        with Journal.create(run, [o.direction for o in objectives], [o.metric for o in objectives], {}) as journal:
            decider = partial(most_telling, objectives=objectives, epochs=EPOCHS, space=space)
            engine = Engine(journal, space, config, objectives=objectives, epochs=EPOCHS, costs=truth, decide=decider)
            while not engine.done:
                job = engine.next()
                if job is None:
                    continue
                for epoch in range(job.start_epoch + 1, job.stop_epoch + 1):
                    top1 = truth.curve(job.architecture, epoch, job.seed)
                    engine.report(job, EpochRecord(epoch, {"top1": top1}, 0.1, 1.0))
                engine.finish(job, Outcome("reached"))
            return read_trials(journal.study)


Run: TypeAlias = tuple[str, str, int, int]
"""Kind, space, trials, number."""
_ARRAYS = ("each", "signs", "widths", "known", "means")


@dataclass(frozen=True)
class Held:
    """What one run's answer said that is true."""

    each: Array
    together: bool
    false: bool
    signs: Array
    widths: Array
    known: Array
    means: Array
    told: tuple[bool, bool] | None
    decided: bool
    regret: float


def true_gains(truth: Truth, reading: Reading) -> Array:
    """[places] the true effects, averaged as in `gains_of`."""

    def name(place: Place) -> str:
        return f"{place.label}/{place.slot}={place.option}"

    names = [name(place) for place in reading.places]
    groups = [name.rpartition("=")[0] for name in names]
    found = np.zeros(len(names))
    for row in reading.evidence.placed:
        held = [names[j] for j in np.flatnonzero(row)]
        for j, added in enumerate(names):
            without = [other for other in held if other.rpartition("=")[0] != groups[j]]
            found[j] += truth.share(truth.expected([*without, added])) - truth.share(truth.expected(without))
    return np.asarray(found / len(reading.networks))


def held(kind: str, space_name: str, trials: int, number: int) -> Held:
    """One run."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = space_of(space_name)
    truth = Truth(kind, space, number)
    found = search(truth, space, trials, number)
    reading = read(found, (_METRIC, _COST), EPOCHS, space)
    assert reading is not None
    draws = posterior(reading.evidence)
    answer = stated(reading, draws, (_METRIC, _COST))
    gains, true = gains_of(reading, draws), true_gains(truth, reading)
    low, high = np.quantile(gains, [0.025, 0.975], axis=0)
    stated_low, stated_high = (np.array([getattr(e.gain, side) for e in answer.effects]) for side in ("low", "high"))
    tolerance = 1e-9  # a true effect of exactly 0
    wrong = (stated_low > np.maximum(true, 0) + tolerance) & (true <= tolerance)
    wrong |= (stated_high < np.minimum(true, 0) - tolerance) & (true >= -tolerance)
    large = np.abs(true) > 3 * gains.std(axis=0)
    means = [
        standing.mean.low <= truth.mean(standing.trial.architecture) <= standing.mean.high
        for standing in answer.standings
    ]
    return Held(
        each=np.asarray((low <= true) & (true <= high), dtype=float),
        together=bool(((stated_low <= true) & (true <= stated_high)).all()),
        false=bool(wrong.any()),
        signs=np.asarray(np.sign(gains.mean(axis=0)) == np.sign(true), dtype=float)[large],
        widths=50 * (stated_high - stated_low),
        known=known_widths(truth, reading),
        means=np.asarray(means, dtype=float),
        told=told(truth, space, answer),
        decided=answer.rival is None,
        regret=regret(truth, answer),
    )


def known_widths(truth: Truth, reading: Reading) -> Array:
    """[places] half the width of intervals that hold together, in points, if all variances were known.

    Effects and pairs have normal priors with the truth's variances. On the scale of accuracies, so not for `odds`.
    """
    x, groups = reading.evidence.placed, reading.evidence.groups
    places = len(groups)
    first, second = np.nonzero(np.triu(groups[:, None] != groups))
    prior = np.concatenate(
        [[1.0], np.full(places, _MAIN**2 * _LARGE_SHARE), np.full(len(first), _PAIR**2 * _PAIR_SHARE)]
    )
    full = np.isfinite(reading.evidence.values[:, -1])
    network, seed = reading.evidence.network[full], reading.evidence.seed[full]
    noise = np.array([truth.noise(one.architecture) for one in reading.networks])
    features = np.column_stack([np.ones(len(x)), x, x[:, first] * x[:, second]])[network]
    covariance = np.diag(noise[network] ** 2) + _OWN**2 * (network[:, None] == network)
    covariance += _SHIFT**2 * (seed[:, None] == seed) + (features * prior) @ features.T
    # A gain is the effect, and those of its pairs for the share of networks that have the other place.
    gain = np.concatenate([np.zeros((places, 1)), np.eye(places), np.zeros((places, len(first)))], axis=1)
    at = 1 + places + np.arange(len(first))
    gain[first, at], gain[second, at] = x.mean(axis=0)[second], x.mean(axis=0)[first]
    told = gain * prior @ features.T
    posterior_of = gain * prior @ gain.T - told @ np.linalg.solve(covariance, told.T)
    deviations = np.sqrt(np.diag(posterior_of))
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(places), posterior_of, 2000)
    reach = np.quantile(np.abs(draws / deviations).max(axis=1), 0.95)
    return np.asarray(100 * reach * deviations)


def told(truth: Truth, space: SearchSpace, answer: Answer) -> tuple[bool, bool] | None:
    """Whether the network to take is told from the plain one, by the answer and by the former rule; None if it is not
    truly a point better.
    """
    plain = space.plain()
    standings = {one.trial.architecture.fingerprint: one for one in answer.standings}
    taken = next(one for one in answer.standings if one.trial.number == answer.take)
    better = truth.mean(taken.trial.architecture) - truth.mean(plain)
    if plain.fingerprint not in standings or better < 0.01:
        return None
    now = (
        plain.fingerprint != taken.trial.fingerprint
        and standings[plain.fingerprint].trial.number not in taken.level_with
    )
    chosen = [one.trial.architecture for one in answer.standings[:4]]
    chosen += [plain] * (plain.fingerprint not in {one.fingerprint for one in chosen})
    values = np.array([[truth.end(one, seed) for seed in (-1, -2)] for one in chosen])
    variance = float(values.var(axis=1, ddof=1).mean())
    reach = float(studentized_range.ppf(0.95, len(chosen), len(chosen))) * math.sqrt(variance / 2)
    means = values.mean(axis=1)
    at = [one.fingerprint for one in chosen].index(plain.fingerprint)
    return now, bool(means.max() - means[at] > reach)


def regret(truth: Truth, answer: Answer) -> float:
    """In points."""
    true = {one.trial.number: truth.mean(one.trial.architecture) for one in answer.standings}
    return 100 * (max(true.values()) - true[answer.take])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="of each kind, space and length")
    parser.add_argument("--trials", type=int, nargs="+", default=[24, 60])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--to", type=Path, help="a file of the runs' figures, one a line; its runs are not done again")
    arguments = parser.parse_args()
    heads = ["kind", "space", "trials", "runs", "each", "together", "false", "signs", "half width", "known", "means"]
    heads += ["told", "before", "decided", "regret"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    done = stored(arguments.to)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for case in product(arguments.kinds, arguments.spaces, arguments.trials):
            left = [number for number in range(arguments.runs) if (*case, number) not in done]
            jobs = {pool.submit(held, *case, number): number for number in left}
            for job in as_completed(jobs):
                done[*case, jobs[job]] = job.result()
                if arguments.to:
                    store(arguments.to, (*case, jobs[job]), job.result())
            print(row(*case, [done[*case, number] for number in range(arguments.runs)]), flush=True)


def stored(path: Path | None) -> dict[Run, Held]:
    """The runs of a file."""
    lines = path.read_text().splitlines() if path and path.exists() else []
    found: dict[Run, Held] = {}
    for line in lines:
        run, figures = json.loads(line)
        arrays = {name: np.array(value) for name, value in figures.items() if name in _ARRAYS}
        found[tuple(run)] = Held(**{**figures, **arrays})
    return found


def store(path: Path, run: Run, figures: Held) -> None:
    """Adds a run to a file."""
    found = {name: value.tolist() if name in _ARRAYS else value for name, value in vars(figures).items()}
    with path.open("a") as file:
        file.write(json.dumps([run, found]) + "\n")


def row(kind: str, space: str, trials: int, found: Sequence[Held]) -> str:
    def share(values: Sequence[Array]) -> str:
        joined = np.concatenate([np.zeros(0), *values])
        return f"{100 * joined.mean():.1f}" if len(joined) else "-"

    cells = [
        kind,
        space,
        str(trials),
        str(len(found)),
        share([one.each for one in found]),
        f"{100 * np.mean([one.together for one in found]):.1f}",
        f"{100 * np.mean([one.false for one in found]):.1f}",
        share([one.signs for one in found]),
        f"{np.median(np.concatenate([one.widths for one in found])):.2f}",
        f"{np.median(np.concatenate([one.known for one in found])):.2f}" if kind == "effects" else "-",
        share([one.means for one in found]),
        share([np.array([one.told[0]], dtype=float) for one in found if one.told]),
        share([np.array([one.told[1]], dtype=float) for one in found if one.told]),
        f"{100 * np.mean([one.decided for one in found]):.0f}",
        f"{np.mean([one.regret for one in found]):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
