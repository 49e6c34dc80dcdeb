"""A reference table: many placements of a run's space, each trained in full with several seeds.

    python benchmarks/reference.py shapes --workers 2
    python benchmarks/reference.py fashion-mnist --placements 24 --seeds 2 --set data.train_size=4000
    python benchmarks/reference.py shapes --seeds 0

The table is a JSON file: `benchmarks/reference/RUN.json`, or `--table FILE`. It is written after every training. What
it holds is not trained again, so the same command continues an interrupted run, and `--seeds 0` only prints. All
placements are trained with the first seed, then all with the second one, and so on. A table with other settings is
refused.

The first placements are the baselines, also those over the budget (marked). A quarter of the others has a single option
in a single block, a quarter has the same options in all blocks, and the rest is sampled from the space. These are
within the budget. They are drawn with a fixed seed when the table is begun.

The first printed table has a row for each epoch, with 95 % bootstrap intervals over the placements:

own end     rank correlation with the last epoch of the same trainings, mean over the seeds
other seed  rank correlation with the last epoch of another seed, mean over the pairs of seeds
spread      standard deviation between seeds, in points of accuracy
signal      standard deviation between placements, without the part that the seeds cause, over the one between seeds
per minute  the square of the signal over the core-minutes up to this epoch, since n trainings have sqrt(n) times the
            signal of one

The second table has the placements by their mean accuracy after the last epoch. The third one has the effect of each
option in each place, as the answer of a run would state it (`nas.analysis.model`): against the empty slot, in points,
with 95 % intervals that hold together.
"""

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from averaging import Accuracies, by_epoch

from launch.rundir.config import RunConfig, load_run
from launch.session import cost_model
from nas.analysis.answer import gains_of, together
from nas.analysis.evidence import Reading, held_by, places_of, to_scale
from nas.analysis.model import Evidence, posterior
from nas.costs import Budget
from nas.costs.timing import thread_clock
from nas.search import Objective
from search_spaces import Architecture, SearchSpace, load_space
from search_spaces.grammar import Choice
from search_spaces.sites import EMPTY
from search_spaces.space import Group
from trainers import Training, load_data

_FOLDER = Path(__file__).parent / "reference"
_TOP1 = Objective("top1", "maximize")
_TRIES = 50
"""Samples for each wanted placement, before the space is taken to have no more."""


@dataclass(frozen=True)
class Placement:
    """One placement of a table, with its costs under the run's conditions."""

    kind: str
    """A baseline's name, or `single`, `uniform` or `mixed`."""
    fits: bool
    """Whether it is within the budget."""
    costs: Mapping[str, float]
    architecture: Architecture


@dataclass(frozen=True)
class Trained:
    """One training in full."""

    placement: int
    seed: int
    seconds: float
    """Processor time, evaluation included."""
    accuracy: tuple[float, ...]
    """The run's metric on the validation split after each epoch, rounded to 1e-4."""


@dataclass
class Table:
    """What a file holds."""

    settings: Mapping[str, Any]
    placements: list[Placement]
    trainings: list[Trained]

    def write(self, path: Path) -> None:
        """Replaces the file by this table, one line for each placement and each training."""
        rows = [
            {**vars(one), "architecture": {"placements": one.architecture.to_dict()["placements"]}}
            for one in self.placements
        ]
        parts = {"placements": rows, "trainings": [vars(one) for one in self.trainings]}
        body = "".join(
            f',\n"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in parts.items()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial")
        temporary.write_text(f'{{"settings": {json.dumps(self.settings)}{body}}}\n')
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path, space: SearchSpace) -> "Table":
        """The table in a file."""
        document = json.loads(path.read_text())
        whole = space.plain().to_dict()
        placements = [
            Placement(**{**row, "architecture": Architecture.from_dict({**whole, **row["architecture"]})})
            for row in document["placements"]
        ]
        trainings = [Trained(**{**row, "accuracy": tuple(row["accuracy"])}) for row in document["trainings"]]
        return cls(document["settings"], placements, trainings)

    def accuracies(self) -> tuple[list[int], list[int], Accuracies]:
        """Seeds, placements, and the accuracies of their trainings: of all seeds that all placements have, or of the
        first seed alone.
        """
        by_seed: dict[int, dict[int, Trained]] = {}
        for one in self.trainings:
            by_seed.setdefault(one.seed, {})[one.placement] = one
        seeds = [seed for seed, found in sorted(by_seed.items()) if len(found) == len(self.placements)]
        seeds = seeds or sorted(by_seed)[:1]
        placements = sorted(by_seed[seeds[0]])
        return seeds, placements, np.array([[by_seed[s][p].accuracy for p in placements] for s in seeds])


def settings_of(config: RunConfig, space: SearchSpace, placements: int) -> dict[str, Any]:
    """All that decides what a training gives and which placements are drawn."""
    where = {"root", "download", "in_memory", "workers"}
    return {
        "space": space.dump(),
        "data": config.data.model_dump(exclude=where),
        "trainer": config.trainer.model_dump(exclude={"seed"}),
        "budget": config.budget,
        "metric": config.metric.name,
        "placements": placements,
    }


def single(space: SearchSpace) -> list[Architecture]:
    """The placements with one option in one block; of an option's parameters only the first ones."""
    return [_placed(space, {group: option}) for group in space.groups for option in _options(group)]


def uniform(space: SearchSpace) -> list[Architecture]:
    """The placements with the same options in all blocks that offer them; first parameters, as `single`."""
    slots = list(dict.fromkeys(group.slot for group in space.groups))
    offered = [
        [None, *dict.fromkeys(option for group in space.groups if group.slot == slot for option in _options(group))]
        for slot in slots
    ]
    return [
        _placed(space, {group: options[slots.index(group.slot)] for group in space.groups})
        for options in product(*offered)
    ]


def _placed(space: SearchSpace, wanted: Mapping[Group, str | None]) -> Architecture:
    """The placement with the wanted options where they are offered; all other groups are empty."""
    return space.decided(lambda group: _of(group, wanted.get(group)))


def _options(group: Group) -> list[str]:
    """The options of a group that are not the empty one."""
    return [offer.option for offer in group.offers if offer.option != EMPTY[group.slot]]


def _of(group: Group, option: str | None) -> Choice:
    """The group's first alternative with the option; without it the empty one, else the group's first."""
    for wanted in (option, EMPTY[group.slot]):
        for choice in group.alternatives:
            if choice.option == wanted:
                return choice
    return group.alternatives[0]


def drawn(space: SearchSpace, count: int, fits: Callable[[Architecture], bool]) -> dict[Architecture, tuple[str, bool]]:
    """Architecture -> its kind and whether it is within the budget; the baselines first, at most `count` in all."""
    rng = random.Random(0)
    found = {architecture: (name, fits(architecture)) for name, architecture in space.baselines().items()}
    others = max(0, count - len(found))
    few = [rng.sample(family, len(family)) for family in (single(space), uniform(space))]
    samples = [space.sample(rng) for _ in range(_TRIES * others)]
    families = zip(("single", "uniform", "mixed"), [*few, samples], (others // 4, others // 4, others), strict=True)
    for kind, family, most in families:
        end = min(count, len(found) + most)
        for architecture in family:
            if len(found) >= end:
                break
            if architecture not in found and fits(architecture):
                found[architecture] = (kind, True)
    return found


def begin(config: RunConfig, space: SearchSpace, count: int) -> Table:
    """A table without trainings."""
    costs = cost_model(config)
    budget = Budget.parse(config.budget, plain=space.plain(), costs=costs)
    rows = drawn(space, count, lambda architecture: budget.check(architecture).feasible)
    placements = [
        Placement(
            kind,
            fits,
            {name: float(f"{costs.estimate(one, name).value:.4g}") for name in ("params", *config.measures)},
            one,
        )
        for one, (kind, fits) in rows.items()
    ]
    return Table(settings_of(config, space, count), placements, [])


def train(config: RunConfig, placement: int, architecture: Architecture, seed: int) -> Trained:
    """Trains one placement in full."""
    training = Training(architecture, _data(config.data), config.trainer, seed=seed)

    def whole() -> None:
        while training.epoch < training.epochs:
            training.run_epoch()

    seconds = thread_clock(whole, 1) / 1e3
    accuracy = tuple(round(epoch.val[config.metric.name], 4) for epoch in training.history)
    return Trained(placement, seed, round(seconds, 1), accuracy)


_data = cache(load_data)


def lacking(table: Table, seeds: int) -> list[tuple[int, int]]:
    """Seed and placement of the trainings that a table lacks, in the order in which they are trained."""
    have = {(one.seed, one.placement) for one in table.trainings}
    return [job for job in product(range(seeds), range(len(table.placements))) if job not in have]


def complete(table: Table, config: RunConfig, seeds: int, workers: int, path: Path) -> None:
    """Trains what the table lacks and writes it after every training."""
    wanted, before = lacking(table, seeds), len(table.trainings)
    alone = partial(torch.set_num_threads, 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=alone) as pool:
        jobs = [pool.submit(train, config, place, table.placements[place].architecture, seed) for seed, place in wanted]
        for done, job in enumerate(as_completed(jobs), before + 1):
            one = job.result()
            table.trainings.append(one)
            table.write(path)
            print(
                f"{done} of {before + len(wanted)}: seed {one.seed}, placement {one.placement} "
                f"({table.placements[one.placement].kind}): {one.accuracy[-1]:.2%}, {one.seconds:.0f} s",
                flush=True,
            )


def epochs_table(found: Accuracies, seconds: float) -> str:
    """The first printed table.

    Args:
        found: the accuracies.
        seconds: of a training, on average.
    """
    epochs = by_epoch(found)
    count = len(epochs)
    rows = {
        "own end": [str(one.own_end) for one in epochs],
        "other seed": [str(one.other_end) for one in epochs],
        "spread": [f"{100 * one.spread:.2f}" for one in epochs],
        "signal": [str(one.signal) for one in epochs],
        "per minute": [
            f"{60 * one.signal.value**2 * count / (seconds * epoch):.2f}" for epoch, one in enumerate(epochs, 1)
        ],
        "top-1": [f"{100 * top1:.1f}" for top1 in found.mean(axis=(0, 1)).tolist()],
    }
    lines = [
        "| figure | " + " | ".join(f"epoch {epoch}" for epoch in range(1, count + 1)) + " |",
        "|---" * (count + 1) + "|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]
    return "\n".join(lines)


def by_placement(table: Table) -> str:
    """The second printed table."""
    seeds, places, found = table.accuracies()
    ends = dict(zip(places, 100 * found[:, :, -1].T, strict=True))
    plain = ends[0].mean() if 0 in ends else float("nan")
    measures = list(table.placements[0].costs)
    head = ["placement", *(f"seed {seed}" for seed in seeds), "mean", "over plain", *measures]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for place in sorted(places, key=lambda place: -float(ends[place].mean())):
        one = table.placements[place]
        figures = [
            *(f"{end:.1f}" for end in ends[place]),
            f"{ends[place].mean():.1f}",
            f"{ends[place].mean() - plain:+.1f}",
        ]
        costs = [f"{one.costs[name]:,.5g}" if one.costs[name] < 1e5 else f"{one.costs[name]:,.0f}" for name in measures]
        lines.append("| " + " | ".join([named(one), *figures, *costs]) + " |")
    return "\n".join(lines)


def by_effect(table: Table, space: SearchSpace) -> str:
    """The third printed table."""
    held = [held_by(one.architecture.to_dict()) for one in table.placements]
    places, placed, options, groups = places_of(held, space)
    rows = {number: i for i, number in enumerate(sorted({one.placement for one in table.trainings}))}
    accuracies = np.array([one.accuracy[-1] for one in table.trainings])
    evidence = Evidence(
        placed=placed[list(rows)],
        options=options,
        groups=groups,
        network=np.array([rows[one.placement] for one in table.trainings]),
        seed=np.array([one.seed for one in table.trainings]),
        values=to_scale(accuracies[:, None], _TOP1),
    )
    reading = Reading(_TOP1, places, (), evidence, ())
    draws = posterior(evidence)
    gains = together(list(gains_of(reading, draws).T))
    counts = (evidence.placed[evidence.network] > 0).sum(axis=0)
    lines = ["| placement | gain | 95 % interval | trainings |", "|---|---:|---|---:|"]
    for place, gain, count in sorted(zip(places, gains, counts, strict=True), key=lambda row: -row[1].value):
        low, high = 100 * gain.low, 100 * gain.high
        lines.append(
            f"| {place.option} in {place.label} | {100 * gain.value:+.2f} | {low:+.2f} to {high:+.2f} | {count} |"
        )
    return "\n".join(lines)


def named(placement: Placement) -> str:
    """A placement in words: `baseline aa, over the budget`, or the options of each block."""
    if placement.kind not in ("single", "uniform", "mixed"):
        return f"baseline {placement.kind}" + ("" if placement.fits else ", over the budget")
    held = {
        block: " and ".join(choice.option for slot, choice in slots.items() if choice.option != EMPTY[slot])
        for block, slots in placement.architecture.placements.items()
    }
    return ", ".join(f"{options} in {block}" for block, options in held.items() if options) or "plain"


def summary(table: Table, space: SearchSpace) -> str:
    """The tables, and the best placement against the best baseline."""
    _, places, found = table.accuracies()
    seconds = statistics.fmean(one.seconds for one in table.trainings)
    means = dict(zip(places, 100 * found[:, :, -1].mean(axis=0), strict=True))
    baselines = [place for place in places if table.placements[place].kind not in ("single", "uniform", "mixed")]
    best = max(means, key=means.__getitem__)
    lines = [f"best: {named(table.placements[best])}: {means[best]:.1f} %"]
    if baselines:
        uniform = max(baselines, key=means.__getitem__)
        lines.append(f"best baseline: {named(table.placements[uniform])}: {means[uniform]:.1f} %")
    lines.append(f"core-seconds of a training: {seconds:.1f}")
    return "\n\n".join([epochs_table(found, seconds), by_placement(table), by_effect(table, space), "\n".join(lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run file, by name or path")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="keys of the run file")
    parser.add_argument("--placements", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--table", type=Path, metavar="FILE", help="default: benchmarks/reference/RUN.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_run(arguments.run, arguments.set)
    space = load_space(config.space)
    path = arguments.table or _FOLDER / f"{Path(arguments.run).stem}.json"
    table = Table.read(path, space) if path.is_file() else begin(config, space, arguments.placements)
    now = json.loads(json.dumps(settings_of(config, space, arguments.placements)))
    other = [key for key in now if json.loads(json.dumps(table.settings.get(key))) != now[key]]
    if other:
        sys.exit(f"{path} has other settings ({', '.join(other)}): restore them, or begin a table with --table")
    complete(table, config, arguments.seeds, arguments.workers, path)
    if table.trainings:
        print(summary(table, space))


if __name__ == "__main__":
    main()
