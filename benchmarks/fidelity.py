"""What early stopping finds, and the epochs that it takes for it, against training everyone in full.

    python benchmarks/fidelity.py --seeds 20
    python benchmarks/fidelity.py --sampler random --schemes mo_asha --keep runs.json
    python benchmarks/fidelity.py --runs runs/none runs/mo_asha      # of networks that were trained, instead

Protocol: the engine itself searches, with the default sampler, four workers and the hand placements in full; only
training is made up. Without stopping it trains 60 architectures for 27 epochs. With it, it searches for as many as
`--trials` says, to the end. Figures are the epochs spent, and the hypervolume of all that was trained in full, everyone
at its true final accuracy, both as shares of what no stopping spent and found; and what no stopping had found after as
many epochs.

A problem is a kind and a seed. Nine blocks hold nothing, SE with two reductions, or CBAM: 262,144 architectures. Final
accuracies come from main effects and pairs, and dearer networks tend to be better. A curve rises as a stretched
exponential to its final value; how fast depends on the architecture, so that early ranks mislead; every epoch has
noise. How far ranks agree is printed with the figures. Kinds differ in who learns slowly:

effects  as main effects and pairs of its own say
chance   whoever it hits: nothing is to be learnt of it
best     in part whoever is good in the end, in part as effects say
alike    nobody: all learn at the same speed, and early ranks are the last ones but for noise
"""

import argparse
import json
import math
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import TypedDict

import numpy as np
import optuna
from _side_by_side import write_between

from launch.run import Run, open_run
from nas.analysis import account, progress, searched
from nas.analysis.ranks import rank_correlation
from nas.costs import CostEstimate
from nas.search import ACCURACY, Engine, EpochRecord, Job, Journal, Objective, Outcome, SearchConfig, TrialRecord
from nas.search.pareto import hypervolume
from nas.search.records import FINALIST
from search_spaces import Architecture, parse_space

SCHEMES = ("mo_asha", "hyperband", "median")
EPOCHS, ETA, WORKERS = 27, 3, 4
FULL_TRIALS = 60
TRIALS = (60, 80)
RUNGS = (1, 3, 9)
KINDS = ("effects", "chance", "best", "alike")

_COST = "params"
_NOISE = 0.02
_SAMPLED = 1_000
_SPACE = """
schema: 1
name: curves
skeleton: {family: resnet, depth: 20, width: 16, image_size: 32, num_classes: 10}
placements:
  "*": {refine: [none, {se: {reduction: [4, 16]}}, {cbam: {reduction: 16}}]}
"""


class Found(TypedDict):
    """A search: hypervolume after each trial that was trained in full, the epochs spent until then, and in all."""

    epochs: list[int]
    volumes: list[float]
    spent: int


class Problem:
    """Made-up accuracies and costs of a space's architectures; a cost model for the engine."""

    def __init__(self, seed: int, kind: str = "effects") -> None:
        self._seed = seed
        self._kind = kind
        self.space = parse_space(_SPACE)
        rng = Random(seed)
        sample = [self.space.sample(rng) for _ in range(_SAMPLED)]
        costs = np.array([self.cost(architecture) for architecture in sample])
        self._costs = (float(costs.mean()), float(costs.std()))
        scores = np.array([self._effects("score", architecture) for architecture in sample])
        self._scores = (float(scores.mean()), float(scores.std()))
        speeds = np.array([self._effects("speed", architecture) for architecture in sample])
        self._speeds = (float(speeds.mean()), float(speeds.std()))
        finals = [self.final(architecture) for architecture in sample]
        self.reference = (float(np.quantile(finals, 0.2)), float(costs.max()))
        self.agreement = {
            rung: rank_correlation([self.curve(a, rung, 0) for a in sample], finals) for rung in (*RUNGS, EPOCHS)
        }

    def estimate(self, architecture: Architecture, measure: str) -> CostEstimate:
        assert measure == _COST
        cost = self.cost(architecture)
        return CostEstimate(cost, cost, cost, "", "analytic")

    def cost(self, architecture: Architecture) -> float:
        """1 for the plain network; every placement adds a positive share of its own."""
        return 1.0 + sum(abs(self._normal("cost", name)) for name in _placed(architecture))

    def final(self, architecture: Architecture) -> float:
        """The accuracy that training in full would give without noise."""
        return 0.3 + 0.6 / (1 + math.exp(-self._merit(architecture)))

    def curve(self, architecture: Architecture, epoch: int, seed: int) -> float:
        """The accuracy after an epoch of one training."""
        slowness = 6 * math.exp(0.9 * self._delay(architecture))

        def risen(at: int) -> float:
            return 1 - math.exp(-((at / slowness) ** 0.6))

        noise = _NOISE * self._normal("noise", f"{architecture.fingerprint} {epoch} {seed}")
        return min(max(0.1 + (self.final(architecture) - 0.1) * risen(epoch) / risen(EPOCHS) + noise, 0.0), 1.0)

    def _merit(self, architecture: Architecture) -> float:
        score = _standard(self._effects("score", architecture), self._scores)
        return score + 0.7 * _standard(self.cost(architecture), self._costs)

    def _delay(self, architecture: Architecture) -> float:
        """About standard normal, or 0: how slowly an architecture learns."""
        if self._kind == "alike":
            return 0.0
        if self._kind == "chance":
            return self._normal("delay", architecture.fingerprint)
        by_effects = _standard(self._effects("speed", architecture), self._speeds)
        return by_effects if self._kind == "effects" else 0.7 * (by_effects + self._merit(architecture) / 1.22)

    def volume(self, architectures: Sequence[Architecture]) -> float:
        accuracy, cost = self.reference
        return hypervolume([[-self.final(a), self.cost(a)] for a in architectures], [-accuracy, cost])

    def _effects(self, kind: str, architecture: Architecture) -> float:
        """Main effects, and pairs at half their size."""
        placed = _placed(architecture)
        mains = sum(self._normal(kind, name) for name in placed)
        pairs = sum(self._normal(kind, f"{a} {b}") for a, b in combinations(placed, 2))
        return mains + 0.5 * pairs / math.sqrt(max(len(placed) - 1, 1))

    def _normal(self, kind: str, name: str) -> float:
        return _normal(f"{self._seed} {kind} {name}")


@cache
def _normal(name: str) -> float:
    """A standard normal number that belongs to a name."""
    return NormalDist().inv_cdf((int.from_bytes(sha256(name.encode()).digest()[:7], "big") + 0.5) / 2**56)


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
    objectives = (Objective(ACCURACY, "maximize"), Objective(_COST, "minimize"))
    config = SearchConfig.model_validate(
        {"trials": trials, "sampler": sampler, "seed": seed, "stopping": scheme, "eta": ETA, "finalist_seeds": 0}
    )
    found = Found(epochs=[], volumes=[], spent=0)
    complete: list[Architecture] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        with Journal.create(run, [o.direction for o in objectives], [o.metric for o in objectives], {}) as journal:
            engine = Engine(journal, problem.space, config, objectives=objectives, epochs=EPOCHS, costs=problem)
            running: list[tuple[Job, int]] = []
            while not engine.done:
                while len(running) < WORKERS and (job := engine.next()) is not None:
                    running.append((job, job.start_epoch + 1))
                # An epoch of every worker at a time.
                for job, epoch in running:
                    top1 = problem.curve(job.architecture, epoch, job.seed)
                    engine.report(job, EpochRecord(epoch, 1.0, 1.0, top1, 0.1, 1.0))
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
    kind: str, seed: int, sampler: str, schemes: Sequence[str], counts: Sequence[int], kept: dict[str, Found]
) -> dict[str, Found]:
    """What every scheme found on a problem, by `row`; what is not in `kept` is searched for and added."""
    asked = {"none": ("none", FULL_TRIALS)} | {_row(scheme, n): (scheme, n) for scheme in schemes for n in counts}
    problem = Problem(seed, kind) if any(_key(kind, seed, sampler, row) not in kept for row in asked) else None
    for row, (scheme, trials) in asked.items():
        if problem is not None and _key(kind, seed, sampler, row) not in kept:
            kept[_key(kind, seed, sampler, row)] = search(problem, sampler, scheme, seed, trials)
    return {row: kept[_key(kind, seed, sampler, row)] for row in asked}


def found_in(run: Run, trials: Sequence[TrialRecord], reference: Mapping[str, float]) -> Found:
    """What a run found, accuracies and costs as its journal has them; by the hosts' clocks."""
    launched = [trial for trial in trials if trial.plan is not None and not trial.origin.startswith(FINALIST)]
    ends = sorted(record.ended or 0.0 for trial in launched for record in trial.epochs.values())
    complete = sorted(searched(trials), key=lambda trial: trial.epochs[trial.last_epoch].ended or 0.0)
    spent = [bisect_right(ends, trial.epochs[trial.last_epoch].ended or 0.0) for trial in complete]
    volumes = [point.hypervolume for point in progress(complete, run.objectives, reference)]
    return Found(epochs=spent, volumes=volumes, spent=len(ends))


def report_runs(folders: Sequence[Path]) -> list[str]:
    """A table of runs that trained networks, as shares of the first; and how well each epoch told the last."""
    opened = [open_run(folder) for folder in folders]
    if len({run.config.objectives for run, _ in opened}) > 1:
        raise SystemExit("the runs have different objectives; compare runs that were asked the same")
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
        complete = [[record.val_top1 for _, record in sorted(t.epochs.items())] for t in searched(trials)]
        *early, last = zip(*complete, strict=True)
        stopping = run.config.search.stopping
        ranks = ", ".join(f"{rank_correlation(epoch, last):.2f}" for epoch in early)
        agreement.append(f"Rank correlation of each epoch with the last, {spent.complete} of {stopping}: {ranks}.")
        lines.append(f"| {stopping} | {spent.launched} | {spent.complete} | {epochs} | {max(last):.1%} | {shares} |")
    return lines + agreement


def _row(scheme: str, trials: int) -> str:
    return f"{scheme}, {trials} trials"


def _key(kind: str, seed: int, sampler: str, row: str) -> str:
    return f"{sampler} | {row} | {kind} | {seed}"


def volume_at(found: Found, epochs: float) -> float:
    """The hypervolume when so many epochs were spent."""
    return max((v for e, v in zip(found["epochs"], found["volumes"], strict=True) if e <= epochs), default=0.0)


def report(runs: Mapping[str, Sequence[Mapping[str, Found]]], sampler: str) -> list[str]:
    """A table: for every kind and all, a row a scheme; means of shares."""
    lines = [
        f"| proposals by `{sampler}`, slow are | stopping | epochs | hypervolume: quartiles, mean | no stopping then |",
        "|---|---|---:|---:|---:|",
    ]
    for kind, of_kind in runs.items():
        for row in of_kind[0]:
            if row == "none":
                continue
            whole = np.array([found["none"]["volumes"][-1] for found in of_kind])
            epochs = np.array([found[row]["spent"] / found["none"]["spent"] for found in of_kind])
            volumes = np.array([found[row]["volumes"][-1] for found in of_kind]) / whole
            then = np.array([volume_at(found["none"], found[row]["spent"]) for found in of_kind]) / whole
            quartiles = " / ".join(f"{share:.3f}" for share in np.quantile(volumes, [0.25, 0.5, 0.75]))
            figures = f"{epochs.mean():.0%} | {quartiles}, **{volumes.mean():.3f}** | {then.mean():.3f}"
            lines.append(f"| {kind} | {row} | {figures} |")
    return lines


def picture(path: Path, runs: Mapping[str, Sequence[Mapping[str, Found]]]) -> None:
    """Hypervolume over epochs for every kind: no stopping as a curve, the others where they end."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds that the table does not need

    figure = Figure(figsize=(2.6 * len(runs), 3.2), dpi=110, layout="constrained")
    grid = np.linspace(0, 1, 61)
    for axes, (kind, of_kind) in zip(
        np.ravel(figure.subplots(1, len(runs), sharey=True, squeeze=False)), runs.items(), strict=True
    ):
        curves = [
            [volume_at(found["none"], at * found["none"]["spent"]) / found["none"]["volumes"][-1] for at in grid]
            for found in of_kind
        ]
        axes.plot(grid, np.mean(curves, axis=0), c="#4a5568", lw=1.5, label="none, 60 trials")
        for row in of_kind[0]:
            if row != "none":
                ends = np.array(
                    [
                        (
                            found[row]["spent"] / found["none"]["spent"],
                            found[row]["volumes"][-1] / found["none"]["volumes"][-1],
                        )
                        for found in of_kind
                    ]
                )
                (x, y), (dx, dy) = ends.mean(axis=0), ends.std(axis=0)
                axes.errorbar(x, y, dy, dx, fmt="o", ms=5, lw=1, label=row)
        axes.axhline(1.0, c="#9aa5b1", lw=0.8, ls="--")
        axes.set(xlabel="epochs", title=kind, xlim=(0, 1.02), ylim=(0.4, 1.08))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("hypervolume")
    figure.axes[-1].legend(frameon=False, loc="lower right", fontsize=7)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sampler", default="default")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--trials", type=int, nargs="+", default=list(TRIALS), help="of the schemes that stop early")
    parser.add_argument("--runs", type=Path, nargs="+", metavar="RUN", help="compare runs' folders; nothing is made up")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON; read, and written after every problem")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks in this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="hypervolume over epochs")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.runs:
        print(*report_runs(arguments.runs), sep="\n")
        return
    keep: Path | None = arguments.keep
    kept = json.loads(keep.read_text()) if keep is not None and keep.is_file() else {}
    runs: dict[str, list[dict[str, Found]]] = {kind: [] for kind in arguments.kinds}
    for kind, of_kind in runs.items():
        for seed in range(arguments.seeds):
            of_kind.append(compared(kind, seed, arguments.sampler, arguments.schemes, arguments.trials, kept))
            if keep is not None:
                keep.write_text(json.dumps(kept))
    lines = [*report(runs, arguments.sampler), ""]
    for kind in arguments.kinds:
        agreement = Problem(0, kind).agreement
        ranks = ", ".join(f"{figure:.2f} at epoch {rung}" for rung, figure in agreement.items())
        lines.append(f"Rank correlation with the final accuracy, first problem of {kind}: {ranks}.")
    print(*lines, sep="\n")
    if arguments.write is not None:
        write_between("\n".join(lines), "benchmarks/fidelity.py", arguments.write)
    if arguments.picture is not None:
        picture(arguments.picture, runs)


if __name__ == "__main__":
    main()
