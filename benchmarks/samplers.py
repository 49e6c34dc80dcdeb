"""How much of the hypervolume each sampler finds, on placement problems with a table of all architectures.

    python benchmarks/samplers.py --seeds 20 --tables macro
    python benchmarks/samplers.py --seeds 5 --samplers default tpe --tables synthetic
    python benchmarks/samplers.py --keep runs.json --write docs/search.md --picture docs/samplers.png

Protocol (that of ../shared/benchmarks/README.md): two objectives, accuracy (maximised) and cost (minimised). An
evaluation returns the accuracy of a randomly drawn training run of an architecture, and its exact cost. The figure
after n evaluations is the hypervolume of the evaluated architectures, at their mean accuracies, as a share of the
table's.

``nasbench_macro`` is NAS-Bench-Macro (Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, 2021):
6,561 architectures, each trained three times. The synthetic tables are random sums of main effects, effects of pairs,
and in some tables of triples. Sizes and noise differ, so that a sampler tuned to one table gains nothing on the others.
Samplers see plain Optuna studies, without search space and cost model.

With --keep, the results of finished searches are stored in a file and not computed again, so that a long comparison can
run in pieces. --write and --picture show all stored results.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from _side_by_side import write_between
from numpy.typing import NDArray

from nas.search import make_sampler
from nas.search.pareto import hypervolume

MACRO = Path(__file__).resolve().parents[2] / "shared" / "benchmarks" / "nasbench_macro.json"
MARKS = (50, 100, 200)
REACHED = 0.95


Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """All architectures of a problem: `sizes` [d], accuracies [*sizes, runs], costs [*sizes], a reference point."""

    name: str
    sizes: tuple[int, ...]
    accuracies: Array
    costs: Array
    reference: tuple[float, float]

    def share(self, evaluated: Sequence[tuple[int, ...]]) -> float:
        """The hypervolume of these architectures, as a share of the table's."""
        at = tuple(np.array(evaluated).T)
        return self._volume(self.accuracies.mean(axis=-1)[at], self.costs[at]) / self.whole

    @cached_property
    def whole(self) -> float:
        return self._volume(self.accuracies.mean(axis=-1).ravel(), self.costs.ravel())

    def _volume(self, accuracies: Array, costs: Array) -> float:
        accuracy, cost = self.reference
        return hypervolume(np.stack([-accuracies, costs], axis=1), [-accuracy, cost])


def macro(path: Path) -> Table:
    """Reads NAS-Bench-Macro from its file."""
    rows = json.loads(path.read_text())["rows"]
    sizes = (3,) * 8
    accuracies, costs = np.empty((*sizes, 3)), np.empty(sizes)
    for key, row in rows.items():
        place = tuple(map(int, key))
        accuracies[place], costs[place] = row[:3], row[4]
    return Table("nasbench_macro", sizes, accuracies, costs, (80.0, float(costs.max())))


def synthetic(seed: int, sizes: tuple[int, ...], order: int, noise: float, *, saturating: bool) -> Table:
    """A table of random effects: main effects, and interactions of up to `order` axes; a few axes matter most.

    `noise` is the standard deviation of a training run divided by that of the accuracies. With `saturating`, accuracies
    saturate at 100 %, as in real tasks. The reference is the 20 % quantile of the accuracies, and the highest cost.
    """
    rng = np.random.default_rng(seed)
    d = len(sizes)
    weight = rng.gamma(1.0, 1.0, d)

    def effects(axes: tuple[int, ...]) -> Array:
        shape = [sizes[axis] if axis in axes else 1 for axis in range(d)]
        return rng.normal(size=shape) * np.sqrt(weight[list(axes)].prod())

    def standard(values: Array) -> Array:
        return np.asarray((values - values.mean()) / values.std())

    score = np.zeros(sizes)
    for size, share in zip(range(1, order + 1), (1.0, 0.6, 0.4), strict=False):
        total = np.zeros(sizes)
        for axes in itertools.combinations(range(d), size):
            if size < 3 or rng.random() < 0.3:
                total = total + effects(axes)
        score = score + share * standard(total)
    costs = np.ones(sizes)
    for axis in range(d):
        steps = np.sort(rng.gamma(1.0, 1.0, sizes[axis])) * rng.gamma(1.0, 1.0)
        if rng.random() < 0.5:
            rng.shuffle(steps)
        costs = costs + steps.reshape([-1 if other == axis else 1 for other in range(d)])
    # Accuracy must tend to grow with cost, or the front would be trivial.
    score = standard(standard(score) + 0.7 * standard(costs))
    mean = 100 / (1 + np.exp(-1.2 * score)) if saturating else 70 + 10 * score
    accuracies = mean[..., None] + noise * mean.std() * rng.normal(size=(*sizes, 3))
    shape = "x".join(map(str, sizes))
    name = f"{shape} order {order} noise {noise:g}{' saturating' if saturating else ''}"
    return Table(name, sizes, accuracies, costs, (float(np.quantile(mean, 0.2)), float(costs.max())))


def synthetic_tables() -> Iterator[Table]:
    """Eight problems of 729 to 16,384 architectures."""
    yield synthetic(11, (3,) * 8, 2, 0.05, saturating=True)
    yield synthetic(12, (4,) * 6, 2, 0.1, saturating=False)
    yield synthetic(13, (2,) * 12, 1, 0.1, saturating=True)
    yield synthetic(14, (5,) * 5, 3, 0.05, saturating=True)
    yield synthetic(15, (6, 2, 6, 2, 6, 2, 4), 2, 0.05, saturating=False)
    yield synthetic(16, (4,) * 7, 1, 0.3, saturating=True)
    yield synthetic(17, (3,) * 6, 3, 0.2, saturating=False)
    yield synthetic(18, (3, 3, 2, 3, 3, 2, 3, 3, 2), 2, 0.1, saturating=True)


def search(table: Table, sampler: str, seed: int, evaluations: int) -> tuple[list[float], float]:
    """One search: the share after each evaluation, and the mean seconds per ask."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(sampler, seed))
    rng = np.random.default_rng(1_000 + seed)
    evaluated: list[tuple[int, ...]] = []
    shares: list[float] = []
    spent = 0.0
    for _ in range(evaluations):
        began = time.perf_counter()
        trial = study.ask()
        place = tuple(trial.suggest_categorical(f"x{i}", range(size)) for i, size in enumerate(table.sizes))
        spent += time.perf_counter() - began
        run = rng.integers(table.accuracies.shape[-1])
        study.tell(trial, [float(table.accuracies[(*place, run)]), float(table.costs[place])])
        evaluated.append(place)
        shares.append(table.share(evaluated))
    return shares, spent / evaluations


@dataclass(frozen=True)
class Searched:
    """The searches of one sampler on one table: shares [seeds, evaluations], and seconds per ask."""

    table: str
    sampler: str
    shares: Array
    ask: float

    def at(self, mark: int) -> float:
        return float(self.shares[:, mark - 1].mean())

    def to_reach(self, share: float) -> float:
        """Median number of evaluations to reach a share; infinite if half of the searches do not reach it."""
        found = [np.flatnonzero(row >= share) for row in self.shares]
        return float(np.median([row[0] + 1 if len(row) else np.inf for row in found]))


def searched(
    table: Table, sampler: str, seeds: int, evaluations: int, kept: dict[str, tuple[list[float], float]]
) -> Searched:
    """All searches of a sampler on a table. Results in `kept` are reused; new ones are added to it."""
    names = [f"{table.name} | {sampler} | {evaluations} | {seed}" for seed in range(seeds)]
    for seed, name in enumerate(names):
        if name not in kept:
            kept[name] = search(table, sampler, seed, evaluations)
    runs = [kept[name] for name in names]
    return Searched(table.name, sampler, np.array([run[0] for run in runs]), float(np.mean([run[1] for run in runs])))


def row(found: Searched, marks: Sequence[int]) -> list[str]:
    """Table, sampler, seeds, the share at each mark, evaluations to reach `REACHED`, milliseconds per ask."""
    reach = found.to_reach(REACHED)
    return [
        found.table,
        found.sampler,
        str(len(found.shares)),
        *(f"{found.at(mark):.3f}" for mark in marks),
        f"{reach:.0f}" if np.isfinite(reach) else f"> {found.shares.shape[1]}",
        f"{1e3 * found.ask:.1f}",
    ]


def picture(path: Path, found: Sequence[Searched]) -> None:
    """Plots the share over evaluations on the first table: mean and interquartile range of the seeds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds that the table does not need

    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for one in found:
        if one.table == found[0].table:
            x = np.arange(1, one.shares.shape[1] + 1)
            low, high = np.quantile(one.shares, [0.25, 0.75], axis=0)
            ours = one.sampler == "default"
            (line,) = axes.plot(x, one.shares.mean(axis=0), lw=2.4 if ours else 1.3, label=one.sampler, zorder=3 + ours)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, lw=0)
    axes.axhline(REACHED, c="#9aa5b1", lw=0.8, ls="--")
    axes.set(xlabel="evaluations", ylabel="share of the whole hypervolume", ylim=(0.75, 1.0), title=found[0].table)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--samplers",
        nargs="+",
        default=["default", "tpe", "nsga2", "regularized_evolution", "random"],
        help="gp:3 runs gp, which is slow, with three seeds",
    )
    parser.add_argument("--tables", choices=("macro", "synthetic", "all"), default="all")
    parser.add_argument("--evaluations", type=int, default=MARKS[-1])
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON; read, and written after every sampler")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the text between the marks in this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="share over evaluations on the first table")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tables: list[Table] = []
    if arguments.tables != "synthetic":
        tables += [macro(MACRO)] if MACRO.is_file() else []
    if arguments.tables != "macro":
        tables += synthetic_tables()
    keep: Path | None = arguments.keep
    kept = json.loads(keep.read_text()) if keep is not None and keep.is_file() else {}
    marks = [mark for mark in MARKS if mark <= arguments.evaluations]
    head = ["table", "sampler", "seeds", *(f"at {mark}" for mark in marks), f"to {REACHED}", "ask, ms"]
    lines = ["| " + " | ".join(head) + " |", "|---|---" + "|---:" * (len(head) - 2) + "|"]
    print(*lines, sep="\n", flush=True)
    found: list[Searched] = []
    for table in tables:
        for named in arguments.samplers:
            sampler, _, seeds = named.partition(":")
            found.append(searched(table, sampler, int(seeds or arguments.seeds), arguments.evaluations, kept))
            if keep is not None:
                keep.write_text(json.dumps(kept))
            lines.append("| " + " | ".join(row(found[-1], marks)) + " |")
            print(lines[-1], flush=True)
    if arguments.write is not None:
        write_between("\n".join(lines), "benchmarks/samplers.py", arguments.write)
    if arguments.picture is not None:
        picture(arguments.picture, found)


if __name__ == "__main__":
    main()
