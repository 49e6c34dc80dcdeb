"""Compares early stopping with training every trial in full: epochs spent, and hypervolume found.

    python benchmarks/fidelity.py --seeds 20
    python benchmarks/fidelity.py --sampler random --schemes mo_asha --trials 60 --keep runs.json
    python benchmarks/fidelity.py --runs runs/none runs/mo_asha      # compares real runs instead

Protocol: the real engine searches, with the default sampler, four workers, and the baselines trained in full; only the
training is simulated. Without stopping, `--trials` architectures are trained for 27 epochs each. With stopping, the
same number is launched. The figures are the epochs spent, and the hypervolume of the trials that were trained in full,
at their true final accuracies; both are shares of the values without stopping. The last column is the hypervolume found
without stopping after the same number of epochs.

A problem is a table of final accuracies and costs, a kind, and a seed. Tables:

made   nine blocks, each empty, with SE of one of two reductions, or with CBAM: 262,144 architectures. Accuracies are
       main effects and pairs, drawn anew for every seed; networks that cost more tend to be better
macro  NAS-Bench-Macro (see samplers.py): 6,561 trained architectures; accuracies are means of three trainings

A learning curve is a stretched exponential that rises to the final accuracy, with noise in every epoch. Its speed
depends on the architecture, so that early ranks differ from the final ones; the rank correlation is printed with the
figures. Kinds differ in which architectures learn slowly:

effects  decided by main effects and pairs of their own
chance   random: a sampler cannot learn it
best     in part the architectures with high final accuracy, in part decided by effects
alike    none: all learn at the same speed, and early ranks differ from the final ones only by noise
late     none, but the first third of the epochs shows another architecture's accuracy: early ranks are chance
"""

import argparse
import json
import math
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import combinations, product
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Protocol, TypedDict

import numpy as np
import optuna
from _side_by_side import write_between
from numpy.typing import NDArray
from samplers import MACRO, macro

from launch.rundir.run import Run, open_run
from nas.analysis import account, progress, searched
from nas.costs import CostEstimate
from nas.ranks import rank_correlation
from nas.search import Engine, EpochRecord, Job, Journal, Objective, Outcome, SearchConfig, TrialRecord
from nas.search.pareto import hypervolume
from search_spaces import Architecture, SearchSpace, parse_space

SCHEMES = ("mo_asha", "hyperband", "median")
EPOCHS, ETA, WORKERS = 27, 3, 4
TRIALS = (60, 200)
RUNGS = (1, 3, 9)
KINDS = ("effects", "chance", "best", "alike", "late")

_NONE = "none"
_COST = "params"
_SAMPLED = 1_000
_HIDDEN = 1 / 3
"""Share of the epochs that say nothing, if the kind is `late`."""
_SPACE = """
schema: 1
name: curves
skeleton: {{family: resnet, depth: {depth}, width: 16, image_size: 32, num_classes: 10}}
placements:
  "*": {{refine: [none, {{se: {{reduction: {se_reductions}}}}}, {{cbam: {{reduction: 16}}}}]}}
"""


Vector = NDArray[np.float64]


class Found(TypedDict):
    """A search: hypervolume after each trial trained in full, epochs spent until then, and total epochs."""

    epochs: list[int]
    volumes: list[float]
    spent: int


class Table(Protocol):
    """Final accuracies and costs of a space's architectures.

    ``baselines``: always trained; ``reference``: accuracy and cost of the hypervolume's reference point; ``floor``:
    accuracy at which curves start; ``noise``: standard deviation of an epoch's accuracy.
    """

    space: SearchSpace
    baselines: Mapping[str, Architecture]
    reference: tuple[float, float]
    floor: float
    noise: float

    def cost(self, architecture: Architecture) -> float: ...

    def final(self, architecture: Architecture) -> float:
        """The accuracy that training in full would give without noise."""
        ...

    def merit(self, architecture: Architecture) -> float:
        """The final accuracy, or the score from which it is computed, with a variance of about 1."""
        ...


class Made:
    """Nine blocks, each empty, with SE of one of two reductions, or with CBAM: 262,144 architectures."""

    floor, noise = 0.1, 0.02

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.space = parse_space(_SPACE.format(depth=20, se_reductions=[4, 16]))
        self.baselines = self.space.baselines()
        sample = sampled(self.space, seed)
        costs = [self.cost(architecture) for architecture in sample]
        self._costs = _moments(costs)
        self._scores = _moments(effects(seed, "score", architecture) for architecture in sample)
        self.reference = (float(np.quantile([self.final(a) for a in sample], 0.2)), max(costs))

    def cost(self, architecture: Architecture) -> float:
        """1 for the plain network; every placement adds its own positive amount."""
        return 1.0 + sum(abs(_normal(f"{self._seed} cost {name}")) for name in _placed(architecture))

    def final(self, architecture: Architecture) -> float:
        return 0.3 + 0.6 / (1 + math.exp(-1.22 * self.merit(architecture)))

    def merit(self, architecture: Architecture) -> float:
        score = _standard(effects(self._seed, "score", architecture), self._scores)
        return (score + 0.7 * _standard(self.cost(architecture), self._costs)) / 1.22


class Macro:
    """NAS-Bench-Macro's 6,561 architectures, means of three trainings. Its three choices are called empty, SE, CBAM."""

    floor, noise = 0.8, 0.004
    """Relative to the standard deviation of the accuracies, both are about the same as in `Made`."""

    def __init__(self, path: Path = MACRO) -> None:
        self.space = parse_space(_SPACE.format(depth=18, se_reductions=16))
        self.baselines = {n: a for n, a in self.space.baselines().items() if self.space.contains(a)}
        table = macro(path)
        self._finals, self._costs = table.accuracies.mean(axis=-1) / 100, table.costs
        self.reference = (table.reference[0] / 100, table.reference[1])
        self._moments = _moments(self._finals.ravel().tolist())

    def cost(self, architecture: Architecture) -> float:
        return float(self._costs[self._place(architecture)])

    def final(self, architecture: Architecture) -> float:
        return float(self._finals[self._place(architecture)])

    def merit(self, architecture: Architecture) -> float:
        return _standard(self.final(architecture), self._moments)

    def _place(self, architecture: Architecture) -> tuple[int, ...]:
        placed = {block: choice.option for block, slots in architecture.placements.items() for choice in slots.values()}
        blocks = (f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1))
        return tuple(("none", "se", "cbam").index(placed.get(block, "none")) for block in blocks)


class Problem:
    """Learning curves of a table's architectures; also the engine's cost model."""

    def __init__(self, table: Table, kind: str, seed: int) -> None:
        self.table = table
        self._kind = kind
        self._seed = seed
        self._sample = sampled(table.space, seed)
        self._speeds = _moments(effects(seed, "speed", architecture) for architecture in self._sample)

    def agreement(self) -> dict[int, float]:
        """Epoch -> rank correlation of its accuracies with the final ones."""
        finals = [self.table.final(architecture) for architecture in self._sample]
        return {
            rung: rank_correlation([self.curve(a, rung, 0) for a in self._sample], finals) for rung in (*RUNGS, EPOCHS)
        }

    def estimate(self, architecture: Architecture, measure: str) -> CostEstimate:
        assert measure == _COST
        cost = self.table.cost(architecture)
        return CostEstimate(cost, cost, cost, "", "analytic")

    def curve(self, architecture: Architecture, epoch: int, seed: int) -> float:
        """The accuracy after an epoch of one training."""
        slowness = 6 * math.exp(0.9 * self._delay(architecture))

        def risen(at: int) -> float:
            return 1 - math.exp(-((at / slowness) ** 0.6))

        final = self._shown(architecture, epoch)
        to_rise = max(final - self.table.floor, 0.0)
        noise = self.table.noise * self._normal("noise", f"{architecture.fingerprint} {epoch} {seed}")
        return min(max(final - to_rise * (1 - risen(epoch) / risen(EPOCHS)) + noise, 0.0), 1.0)

    def _shown(self, architecture: Architecture, epoch: int) -> float:
        """The final accuracy that the curve seems to rise to at an epoch."""
        final = self.table.final(architecture)
        if self._kind != "late":
            return final
        other = self._sample[int((self._normal("other", architecture.fingerprint) % 1) * len(self._sample))]
        told = max((epoch / EPOCHS - _HIDDEN) / (1 - _HIDDEN), 0.0)
        return self.table.final(other) + told * (final - self.table.final(other))

    def _delay(self, architecture: Architecture) -> float:
        """How slowly an architecture learns: about standard normal, or always 0."""
        if self._kind in ("alike", "late"):
            return 0.0
        if self._kind == "chance":
            return self._normal("delay", architecture.fingerprint)
        by_effects = _standard(effects(self._seed, "speed", architecture), self._speeds)
        return by_effects if self._kind == "effects" else 0.7 * (by_effects + self.table.merit(architecture))

    def volume(self, architectures: Sequence[Architecture]) -> float:
        accuracy, cost = self.table.reference
        points = [[-self.table.final(a), self.table.cost(a)] for a in architectures]
        return hypervolume(points, [-accuracy, cost])

    def _normal(self, kind: str, name: str) -> float:
        return _normal(f"{self._seed} {kind} {name}")


@cache
def _only_macro() -> Macro:
    """The table is the same for every seed, so it is read once."""
    return Macro()


TABLES: Mapping[str, Callable[[int], Table]] = {"made": Made, "macro": lambda _seed: _only_macro()}


def sampled(space: SearchSpace, seed: int) -> list[Architecture]:
    """Random architectures, from which scales and statistics of a problem are estimated."""
    rng = Random(seed)
    return [space.sample(rng) for _ in range(_SAMPLED)]


def effects(seed: int, kind: str, architecture: Architecture) -> float:
    """A sum of random main effects, and of effects of pairs at half the size."""
    placed = _placed(architecture)
    mains = sum(_normal(f"{seed} {kind} {name}") for name in placed)
    pairs = sum(_normal(f"{seed} {kind} {a} {b}") for a, b in combinations(placed, 2))
    return mains + 0.5 * pairs / math.sqrt(max(len(placed) - 1, 1))


@cache
def _normal(name: str) -> float:
    """A standard normal number, determined by a name."""
    return NormalDist().inv_cdf((int.from_bytes(sha256(name.encode()).digest()[:7], "big") + 0.5) / 2**56)


def _moments(values: Iterable[float]) -> tuple[float, float]:
    found = np.fromiter(values, float)
    return float(found.mean()), float(found.std())


def _standard(value: float, moments: tuple[float, float]) -> float:
    mean, deviation = moments
    return (value - mean) / deviation


def _placed(architecture: Architecture) -> list[str]:
    return [
        f"{block}={choice.option}{sorted(choice.params.items())}"
        for block, slots in architecture.placements.items()
        for choice in slots.values()
    ]


def search(problem: Problem, sampler: str, scheme: str, seed: int, trials: int) -> Found:
    """One search, to its end."""
    objectives = (Objective("top1", "maximize"), Objective(_COST, "minimize"))
    config = SearchConfig.model_validate(
        {"trials": trials, "sampler": sampler, "seed": seed, "stopping": scheme, "eta": ETA}
    )
    found = Found(epochs=[], volumes=[], spent=0)
    complete: list[Architecture] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        with Journal.create(run, [o.direction for o in objectives], [o.metric for o in objectives], {}) as journal:
            engine = Engine(
                journal,
                problem.table.space,
                config,
                objectives=objectives,
                epochs=EPOCHS,
                costs=problem,
                baselines=problem.table.baselines,
            )
            running: list[tuple[Job, int]] = []
            while not engine.done:
                while len(running) < WORKERS and (job := engine.next()) is not None:
                    running.append((job, job.start_epoch + 1))
                # All workers train one epoch at a time.
                for job, epoch in running:
                    top1 = problem.curve(job.architecture, epoch, job.seed)
                    engine.report(job, EpochRecord(epoch, {"top1": top1}, 0.1, 1.0))
                    found["spent"] += 1
                    if epoch == job.stop_epoch:
                        engine.finish(job, Outcome("reached"))
                    if epoch == EPOCHS:
                        complete.append(job.architecture)
                        found["epochs"].append(found["spent"])
                        found["volumes"].append(problem.volume(complete))
                running = [(job, epoch + 1) for job, epoch in running if epoch < job.stop_epoch]
    return found


def compared(
    table: str, kind: str, trials: int, seed: int, sampler: str, schemes: Sequence[str], kept: dict[str, Found]
) -> dict[str, Found]:
    """The results of no stopping and of every scheme on a problem. Results in `kept` are reused; new ones are added."""
    keys = {scheme: f"{sampler} | {scheme} | {table} | {kind} | {trials} | {seed}" for scheme in (_NONE, *schemes)}
    if any(key not in kept for key in keys.values()):
        problem = Problem(TABLES[table](seed), kind, seed)
        for scheme, key in keys.items():
            if key not in kept:
                kept[key] = search(problem, sampler, scheme, seed, trials)
    return {scheme: kept[key] for scheme, key in keys.items()}


def found_in(run: Run, trials: Sequence[TrialRecord], reference: Mapping[str, float]) -> Found:
    """The result of a run, from the accuracies, costs and times (of the hosts' clocks) in its journal."""
    launched = [trial for trial in trials if trial.plan is not None and not trial.origin.is_finalist]
    ends = sorted(record.ended or 0.0 for trial in launched for record in trial.epochs.values())
    complete = sorted(searched(trials), key=lambda trial: trial.epochs[trial.last_epoch].ended or 0.0)
    spent = [bisect_right(ends, trial.epochs[trial.last_epoch].ended or 0.0) for trial in complete]
    volumes = [point.hypervolume for point in progress(complete, run.objectives, reference)]
    return Found(epochs=spent, volumes=volumes, spent=len(ends))


def report_runs(folders: Sequence[Path]) -> list[str]:
    """A table of real runs, relative to the first; and the rank correlation of each epoch with the last."""
    opened = [open_run(folder) for folder in folders]
    if len({run.config.objectives for run, _ in opened}) > 1:
        raise SystemExit("the runs have different objectives; compare runs with the same objectives")
    reference = opened[0][0].reference
    found = [found_in(run, trials, reference) for run, trials in opened]
    first = found[0]
    lines = [
        "| stopping | trained | in full | epochs | best top-1 | hypervolume | the first had then |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    agreement = [""]
    for (run, trials), of_run in zip(opened, found, strict=True):
        spent = account(trials, run.config.trainer.epochs)
        epochs = f"{spent.epochs} ({of_run['spent'] / first['spent']:.0%})"
        volume, then = of_run["volumes"][-1], volume_at(first, of_run["spent"])
        shares = f"{volume / first['volumes'][-1]:.3f} | {then / first['volumes'][-1]:.3f}"
        complete = [
            [record.metrics[run.metric.name] for _, record in sorted(t.epochs.items())] for t in searched(trials)
        ]
        *early, last = zip(*complete, strict=True)
        stopping = run.config.search.stopping
        ranks = ", ".join(f"{rank_correlation(epoch, last):.2f}" for epoch in early)
        agreement.append(f"Rank correlation of each epoch with the last, {spent.complete} of {stopping}: {ranks}.")
        lines.append(f"| {stopping} | {spent.launched} | {spent.complete} | {epochs} | {max(last):.1%} | {shares} |")
    return lines + agreement


def volume_at(found: Found, epochs: float) -> float:
    """The hypervolume after `epochs` epochs were spent."""
    return max((v for e, v in zip(found["epochs"], found["volumes"], strict=True) if e <= epochs), default=0.0)


@dataclass(frozen=True)
class Shares:
    """Epochs and hypervolumes of a scheme on a problem, as shares [seeds] of those without stopping.

    ``then``: the hypervolume without stopping after the same number of epochs.
    """

    epochs: Vector
    volumes: Vector
    then: Vector

    @classmethod
    def of(cls, scheme: str, of_problem: Sequence[Mapping[str, Found]]) -> "Shares":
        full = [found[_NONE] for found in of_problem]
        spent = [found[scheme]["spent"] for found in of_problem]
        found_in_full = np.array([found["volumes"][-1] for found in full])
        return cls(
            epochs=np.array(spent) / np.array([found["spent"] for found in full]),
            volumes=np.array([found[scheme]["volumes"][-1] for found in of_problem]) / found_in_full,
            then=np.array([volume_at(f, at) for f, at in zip(full, spent, strict=True)]) / found_in_full,
        )


def stopped(of_problem: Sequence[Mapping[str, Found]]) -> dict[str, Shares]:
    """The shares of every scheme that stops trials."""
    return {scheme: Shares.of(scheme, of_problem) for scheme in of_problem[0] if scheme != _NONE}


def report(runs: Mapping[str, Sequence[Mapping[str, Found]]], sampler: str) -> list[str]:
    """A table of mean shares, one row per problem and scheme."""
    lines = [
        f"| proposals by `{sampler}`: table, slow are, trials | stopping | epochs | hypervolume: quartiles, mean "
        "| no stopping then |",
        "|---|---|---:|---:|---:|",
    ]
    for problem, of_problem in runs.items():
        for scheme, shares in stopped(of_problem).items():
            quartiles = " / ".join(f"{share:.3f}" for share in np.quantile(shares.volumes, [0.25, 0.5, 0.75]))
            volumes = f"{quartiles}, **{shares.volumes.mean():.3f}**"
            lines.append(
                f"| {problem} | {scheme} | {shares.epochs.mean():.0%} | {volumes} | {shares.then.mean():.3f} |"
            )
    return lines


def early_ranks_table(tables: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """A table of rank correlations of early epochs with the final accuracy, on the first problem of each kind."""
    agreements = {
        f"{table}, {kind}": Problem(TABLES[table](0), kind, 0).agreement() for table, kind in product(tables, kinds)
    }
    rungs = list(next(iter(agreements.values())))
    return [
        f"| rank correlation with the final accuracy, first problem | {' | '.join(f'epoch {r}' for r in rungs)} |",
        "|---|" + "---:|" * len(rungs),
        *(f"| {name} | {' | '.join(f'{ranks[r]:.2f}' for r in rungs)} |" for name, ranks in agreements.items()),
    ]


def picture(path: Path, runs: Mapping[str, Sequence[Mapping[str, Found]]]) -> None:
    """Plots hypervolume over epochs for every problem: a curve without stopping, a point for each scheme's end."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds that the table does not need

    rows = math.ceil(len(runs) / len(KINDS))
    columns = math.ceil(len(runs) / rows)
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows), dpi=110, layout="constrained")
    grid = np.linspace(0, 1, 61)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (problem, of_problem) in zip(panels.flat, runs.items(), strict=False):
        full = [found[_NONE] for found in of_problem]
        curves = [[volume_at(found, at * found["spent"]) / found["volumes"][-1] for at in grid] for found in full]
        axes.plot(grid, np.mean(curves, axis=0), c="#4a5568", lw=1.5, label=_NONE)
        for scheme, shares in stopped(of_problem).items():
            x, y = shares.epochs, shares.volumes
            axes.errorbar(x.mean(), y.mean(), y.std(), x.std(), fmt="o", ms=5, lw=1, label=scheme)
        axes.axhline(1.0, c="#9aa5b1", lw=0.8, ls="--")
        axes.set(title=problem, xlim=(0, 1.02), ylim=(0.4, 1.08))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("hypervolume")
    for axes in panels[-1]:
        axes.set_xlabel("epochs")
    figure.axes[-1].legend(frameon=False, loc="lower right", fontsize=7)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sampler", default="default")
    tables = [name for name in TABLES if name != "macro" or MACRO.is_file()]
    parser.add_argument("--tables", nargs="+", default=tables, choices=tables)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--trials", type=int, nargs="+", default=list(TRIALS), help="architectures per search")
    parser.add_argument(
        "--runs", type=Path, nargs="+", metavar="RUN", help="compare the runs in these folders; simulate nothing"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON; read, and written after every problem")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the text between the marks in this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="hypervolume over epochs")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.runs:
        print(*report_runs(arguments.runs), sep="\n")
        return
    keep: Path | None = arguments.keep
    kept = json.loads(keep.read_text()) if keep is not None and keep.is_file() else {}
    runs: dict[str, list[dict[str, Found]]] = {}
    for table, trials, kind in product(arguments.tables, arguments.trials, arguments.kinds):
        of_problem = runs.setdefault(f"{table}, {kind}, {trials}", [])
        for seed in range(arguments.seeds):
            of_problem.append(compared(table, kind, trials, seed, arguments.sampler, arguments.schemes, kept))
            if keep is not None:
                keep.write_text(json.dumps(kept))
    lines = [*report(runs, arguments.sampler), "", *early_ranks_table(arguments.tables, arguments.kinds)]
    print(*lines, sep="\n")
    if arguments.write is not None:
        write_between("\n".join(lines), "benchmarks/fidelity.py", arguments.write)
    if arguments.picture is not None:
        picture(arguments.picture, runs)


if __name__ == "__main__":
    main()
