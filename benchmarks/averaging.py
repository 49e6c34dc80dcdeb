"""Does the average of the weights say earlier which network is better? And what does it cost?

    python benchmarks/averaging.py shapes --keep shapes.json
    python benchmarks/averaging.py fashion-mnist --set trainer.epochs=9 data.train_size=2000 --keep fashion.json
    python benchmarks/averaging.py shapes --cost

Trains architectures of a run's space, with several seeds each, and evaluates after every epoch the trained weights and
their averages of several time constants. All come from the same trainings, because an average does not change what is
trained. `--keep` names a JSON file: it is written after every training, and what it holds is not trained again.

One table per figure, one row per network, one column per epoch:

own end     rank correlation of the epoch's accuracies with the last epoch's of the same trainings, mean over the seeds
other seed  rank correlation with the last epoch's accuracies of another seed, mean over the pairs of seeds
spread      standard deviation between seeds, in points of accuracy
signal      standard deviation between architectures, without the part that the seeds cause, over the one between seeds
top-1       mean accuracy

`--cost` times epochs of the plain network with and without an average, in turn, in processor time.
"""

import argparse
import json
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from _side_by_side import write_between

from launch.rundir.config import RunConfig, load_run
from nas.analysis.agreement import Agreement, agreement
from nas.costs.timing import alternate, thread_clock
from search_spaces import Architecture, SearchSpace, load_space
from trainers import Dataset, TrainerConfig, Training, ema, load_data

Curves: TypeAlias = dict[str, list[float]]
"""Top-1 after each epoch, by network: `trained`, or the average's time constant in epochs."""

Accuracies: TypeAlias = npt.NDArray[np.float64]
"""[seeds, architectures, epochs]"""

_TRAINED = "trained"
_ROUNDS = 7
_LONG = 1000
"""Length of the schedule of trainings that are timed; more than they run."""


def chosen(space: SearchSpace, count: int, without: Collection[str]) -> list[Architecture]:
    """The plain network and random other ones that use no option in `without`; `count` in all."""
    rng = random.Random(0)
    found = {space.plain(): None}
    while len(found) < count:
        one = space.sample(rng)
        used = {choice.option for slots in one.placements.values() for choice in slots.values()}
        if used.isdisjoint(without):
            found.setdefault(one)
    return list(found)


def curves(
    architecture: Architecture, data: Dataset, config: TrainerConfig, seed: int, constants: list[float]
) -> Curves:
    """Trains once and evaluates the trained weights and every average."""
    training = Training(architecture, data, config.model_copy(update={"ema_epochs": 0.0}), seed=seed)
    averages = {constant: ema.begin(training.model) for constant in constants}

    def update(done: int, steps: int) -> None:
        step = training.epoch * steps + done - 1
        for constant, average in averages.items():
            ema.update(average, training.model, ema.decay(step, constant * steps))

    found: Curves = {name: [] for name in (_TRAINED, *map(str, constants))}
    while training.epoch < training.epochs:
        found[_TRAINED].append(training.run_epoch(update).val["top1"])
        for constant, average in averages.items():
            training.renew(average)
            found[str(constant)].append(training.evaluate("val", average).metrics["top1"])
    return found


def trained(
    config: RunConfig, architectures: Sequence[Architecture], seeds: int, constants: list[float], keep: Path | None
) -> dict[str, Accuracies]:
    """The accuracies of all trainings by network; what `keep` holds is not trained again."""
    kept: dict[str, Curves] = json.loads(keep.read_text()) if keep is not None and keep.is_file() else {}
    data = load_data(config.data)
    settings = [str(len(data.train)), str(len(data.val)), config.trainer.model_dump_json(), str(constants)]
    keys = {
        (seed, architecture): " | ".join([architecture.fingerprint[:16], str(seed), *settings])
        for architecture in architectures
        for seed in range(seeds)
    }
    for done, ((seed, architecture), key) in enumerate(keys.items(), 1):
        if key in kept:
            continue
        kept[key] = curves(architecture, data, config.trainer, seed, constants)
        ends = ", ".join(f"{name} {100 * curve[-1]:.1f}" for name, curve in kept[key].items())
        print(f"{done} of {len(keys)}: seed {seed}, {architecture.fingerprint[:8]}: {ends}", flush=True)
        if keep is not None:
            keep.write_text(json.dumps(kept))
    return {
        name: np.array([[kept[keys[seed, one]][name] for one in architectures] for seed in range(seeds)])
        for name in (_TRAINED, *map(str, constants))
    }


def figures(found: Accuracies) -> Mapping[str, list[float]]:
    """Each figure for each epoch."""
    epochs = by_epoch(found)
    return {
        "own end": [epoch.own_end.value for epoch in epochs],
        "other seed": [epoch.other_end.value for epoch in epochs],
        "spread": [100 * epoch.spread for epoch in epochs],
        "signal": [epoch.signal.value for epoch in epochs],
        "top-1": (100 * found.mean(axis=(0, 1))).tolist(),
    }


def by_epoch(found: Accuracies) -> list[Agreement]:
    """What each epoch says about the end."""
    return [agreement(found[:, :, epoch], found[:, :, -1]) for epoch in range(found.shape[2])]


def table(by_network: Mapping[str, Accuracies]) -> str:
    """All figures, one row per figure and network."""
    by_figure = {network: figures(found) for network, found in by_network.items()}
    epochs = next(iter(by_network.values())).shape[-1]
    lines = [
        f"| figure | network | {' | '.join(f'epoch {epoch}' for epoch in range(1, epochs + 1))} |",
        "|---|---|" + "---:|" * epochs,
    ]
    for figure in next(iter(by_figure.values())):
        form = ".1f" if figure in ("spread", "top-1") else ".2f"
        for network, values in by_figure.items():
            name = network if network == _TRAINED else f"average, {network} epochs"
            lines.append(f"| {figure} | {name} | {' | '.join(format(value, form) for value in values[figure])} |")
    return "\n".join(lines)


def cost(config: RunConfig, architecture: Architecture, constants: list[float]) -> str:
    """Processor time of an epoch with an average, relative to one without; both include the evaluation."""
    data = load_data(config.data)
    trainings = [
        Training(architecture, data, config.trainer.model_copy(update={"ema_epochs": constant}), epochs=_LONG)
        for constant in (0.0, constants[0])
    ]
    times = alternate([training.run_epoch for training in trainings], thread_clock, 0, _ROUNDS, _ROUNDS) / 1e3
    without, average = np.median(times, axis=0)
    extra = np.quantile(times[:, 1] / times[:, 0] - 1, (0.25, 0.5, 0.75))
    low, middle, high = (f"{share:+.1%}" for share in extra)
    return f"an epoch takes {without:.2f} s without an average and {average:.2f} s with one: {middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="shapes", help="a run file, by name or path")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="keys of the run file")
    parser.add_argument("--architectures", type=int, default=10)
    parser.add_argument("--without", nargs="+", default=[], metavar="OPTION", help="leave out architectures with these")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--constants", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0], help="in epochs")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON; read, and written after every training")
    parser.add_argument("--cost", action="store_true", help="time epochs instead")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the text between the marks in this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_run(arguments.run, arguments.set)
    space = load_space(config.space)
    if arguments.cost:
        print(cost(config, space.plain(), arguments.constants))
        return
    networks = chosen(space, arguments.architectures, arguments.without)
    text = table(trained(config, networks, arguments.seeds, arguments.constants, arguments.keep))
    print(text)
    if arguments.write is not None:
        write_between(text, "benchmarks/averaging.py", arguments.write)


if __name__ == "__main__":
    main()
