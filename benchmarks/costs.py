"""How accurate the costs are before training: memory, speed of the static check, predicted latency, budgets.

    python benchmarks/costs.py [--parts memory speed repeat peer latency budget] [--networks 10] [--write docs/costs.md]

The figures depend on this machine and its load. The latency part measures the same networks twice, because predictions
cannot agree with measurements better than two measurements agree with each other.
"""

import argparse
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from _side_by_side import write

from nas import build_model
from nas.costs import Budget, Calibration, Conditions, CostModel, Measure, calibrate
from nas.costs.measure import time_together
from nas.ranks import rank_correlation
from search_spaces import Architecture, SearchSpace, load_space

Array = npt.NDArray[np.float64]
Rows = Sequence[Sequence[str]]

_BATCHES = {"cifar-resnet": 32, "wide-resnet": 2, "mnasnet": 4}
_HELD_OUT_SEED = 20_000
_GROUP = 6


def samples(space: SearchSpace, count: int, seed: int = _HELD_OUT_SEED) -> list[Architecture]:
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def table(title: str, head: Sequence[str], rows: Rows) -> str:
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def memory(networks: int) -> str:
    rows = []
    for preset, batch in _BATCHES.items():
        space = load_space(preset)
        costs = CostModel(Conditions(batch_size=batch, train_batch_size=batch))
        measures: tuple[Measure, ...] = ("peak_memory_train", "peak_memory_infer")
        for measure in measures:
            errors, over = [], 0
            for architecture in samples(space, networks):
                estimate = costs.estimate(architecture, measure)
                measured = CostModel(costs.conditions).measure(architecture, measure).value
                errors.append(estimate.value / measured - 1)
                over += measured > estimate.upper
            worst = max(errors, key=abs)
            rows.append([preset, measure, str(networks), f"{np.mean(np.abs(errors)):.4%}", f"{worst:+.4%}", str(over)])
            print(*rows[-1], flush=True)
    head = ["preset", "measure", "networks", "mean error", "worst", "upper bound exceeded"]
    return table("Analytic memory against the CPU allocator's peak", head, rows)


def speed(networks: int) -> str:
    rows = []
    for preset, batch in (("cifar-resnet", 32), ("resnet50-imagenet", 4)):
        space = load_space(preset)
        costs = CostModel(Conditions(batch_size=batch, train_batch_size=batch))
        check = Budget({"params": 1e12, "macs": 1e15, "peak_memory_train": 1e15}, costs).check
        for architecture in samples(space, 6, seed=0):  # the first check of every operation in a process is slower
            check(architecture)
        new, known = [], []
        for architecture in samples(space, networks):
            new.append(_milliseconds(check, architecture))
            known.append(_milliseconds(check, architecture))
        rows.append(
            [preset, str(networks), f"{np.median(new):.0f} ms", f"{max(new):.0f} ms", f"{np.median(known):.2f} ms"]
        )
        print(*rows[-1], flush=True)
    head = ["preset", "networks", "new, median", "new, slowest", "asked again"]
    return table("Static check: parameters, MACs, training memory", head, rows)


def _milliseconds(run: Callable[[Architecture], object], architecture: Architecture) -> float:
    start = time.perf_counter()
    run(architecture)
    return (time.perf_counter() - start) * 1e3


def _conditions() -> Conditions:
    return Conditions(batch_size=16, train_batch_size=16)


def _calibrated() -> tuple[SearchSpace, Calibration, float]:
    space, start = load_space("shapes"), time.perf_counter()
    calibration = calibrate(space, _conditions(), measures=["latency_ms"])
    return space, calibration, time.perf_counter() - start


def _measured(space: SearchSpace, networks: Sequence[Architecture]) -> Array:
    """Measured latencies divided by the plain skeleton's."""
    ratios: list[float] = []
    for group in _groups(networks):
        together = [Architecture(space.skeleton), *group]
        times = time_together(together, _conditions(), "infer", seconds=12, min_rounds=9, max_rounds=60)
        ratios.extend(np.median(times[:, 1:] / times[:, :1], axis=0))
    return np.array(ratios)


def _groups(networks: Sequence[Architecture]) -> Iterator[Sequence[Architecture]]:
    for start in range(0, len(networks), _GROUP):
        yield networks[start : start + _GROUP]


def repeat(networks: int) -> str:
    """Which quantile of the rounds to use: how much ratios to the plain skeleton vary between repeated series."""
    space = load_space("shapes")
    together = [Architecture(space.skeleton), *samples(space, min(networks, _GROUP))]
    series = [
        time_together(together, _conditions(), "infer", seconds=60, min_rounds=50, max_rounds=50) for _ in range(6)
    ]
    rows = []
    for name, quantile in (("fastest", 0.0), ("5 %", 0.05), ("10 %", 0.1), ("lower quartile", 0.25), ("median", 0.5)):
        times = np.quantile(np.array(series), quantile, axis=1)  # [series, networks]
        ratios = times[:, 1:] / times[:, :1]
        rows.append([name, f"{np.mean(ratios.std(axis=0) / ratios.mean(axis=0)):.1%}"])
        print(*rows[-1], flush=True)
    return table("Quantiles of 50 rounds", ["quantile", "standard deviation between series"], rows)


def peer(networks: int) -> str:
    """Latency relative to the plain network's: by a simple loop without our code, as measured, and as predicted."""
    space, conditions = load_space("shapes"), Conditions()
    baselines = {name: found for name, found in space.baselines().items() if name != "plain"}
    found = {"plain": space.plain(), **baselines}
    ratios = _plain_loop(list(found.values()), conditions.batch_size, rounds=20 * networks)
    costs, predicted = CostModel(conditions), calibrate(space, conditions, measures=["latency_ms"])
    base = costs.measure(space.plain(), "latency_ms").value
    rows = []
    for i, (name, architecture) in enumerate(found.items()):
        low, middle, high = np.quantile(ratios[:, i], (0.25, 0.5, 0.75))
        measured = costs.measure(architecture, "latency_ms").value / base
        told = predicted.predict(architecture, "latency_ms")
        over = "-" if told is None else f"{told.value / predicted.tables['latency_ms'].plain_ms:.3f}"
        rows.append([name, f"{middle:.3f} ({low:.3f} to {high:.3f})", f"{measured:.3f}", over])
        print(*rows[-1], flush=True)
    head = ["placement", "a plain alternating loop (quartiles)", "measured", "predicted"]
    return table("Latency over the plain network's (preset shapes, 32 images, one thread)", head, rows)


def _plain_loop(networks: Sequence[Architecture], batch: int, rounds: int) -> Array:
    """Times [rounds, networks] relative to the first network's.

    Every round runs each network once, in a random order. Times are the thread's processor time.
    """
    size, rng = networks[0].skeleton.image_size, random.Random(0)
    models = [build_model(found).eval().to(memory_format=torch.channels_last) for found in networks]
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    times = np.empty((rounds, len(models)))
    with torch.inference_mode():
        for row in range(-2, rounds):
            for i in rng.sample(range(len(models)), len(models)):
                start = time.thread_time()
                models[i](images)
                times[row, i] = time.thread_time() - start
    return times / times[:, :1]


def latency(networks: int) -> str:
    space, calibration, seconds = _calibrated()
    unseen = samples(space, networks)
    plain_ms = calibration.tables["latency_ms"].plain_ms
    measured, again = (_measured(space, unseen) * plain_ms for _ in range(2))
    found = [calibration.predict(architecture, "latency_ms") for architecture in unseen]
    estimates = [estimate for estimate in found if estimate is not None]
    values = np.array([estimate.value for estimate in estimates])
    inside = [e.lower <= m <= e.upper for e, m in zip(estimates, measured, strict=True)]
    half = [e.upper / e.value - 1 for e in estimates if e.upper > e.value]
    figures = {
        "networks not used in calibration": str(networks),
        "calibration": f"{seconds:.0f} s",
        "range of measured latencies": f"{measured.max() / measured.min():.1f}x",
        "mean error of predictions (MAPE)": f"{np.mean(np.abs(values / measured - 1)):.1%}",
        "mean difference of two measurements": f"{np.mean(np.abs(again / measured - 1)):.1%}",
        "rank correlation (Spearman), predicted": f"{rank_correlation(values.tolist(), measured.tolist()):.3f}",
        "rank correlation (Spearman), measured twice": f"{rank_correlation(again.tolist(), measured.tolist()):.3f}",
        "intervals that hold the measurement, nominal 95 %": f"{np.mean(inside):.0%}",
        "half width of intervals, median": f"{np.median(half):.0%}",
    }
    for name, figure in figures.items():
        print(name, figure, flush=True)
    return table("Latency predicted from a calibration (preset shapes)", ["figure", "value"], list(figures.items()))


def budget(networks: int) -> str:
    space, calibration, _ = _calibrated()
    costs = CostModel(_conditions())
    costs.calibration = calibration
    proposed = samples(space, 4 * networks)
    predicted = [costs.estimate(architecture, "latency_ms").value for architecture in proposed]
    limit = float(np.median(predicted))  # half of the space is over it
    tight = Budget({"params": 1e9, "latency_ms": limit}, costs)
    verdicts = [tight.check(architecture) for architecture in proposed]
    measured = sum(verdict.estimates["latency_ms"].source == "measured" for verdict in verdicts)
    accepted = [a for a, verdict in zip(proposed, verdicts, strict=True) if verdict.feasible]
    truth = _measured(space, accepted) * calibration.tables["latency_ms"].plain_ms
    figures = {
        "proposed": str(len(proposed)),
        "accepted": str(len(accepted)),
        "rejected by prediction": str(sum(not v.feasible and v.stage == "predicted" for v in verdicts)),
        "rejected by measurement": str(sum(not v.feasible and v.stage == "measured" for v in verdicts)),
        "had to be measured": f"{measured / len(proposed):.0%}",
        "accepted, yet over the limit when measured again": str(int(np.sum(truth > limit))),
        "furthest over the limit of those accepted": f"{truth.max() / limit - 1:+.1%}",
    }
    for name, figure in figures.items():
        print(name, figure, flush=True)
    return table(
        "A latency budget that half of the space exceeds (preset shapes)", ["figure", "value"], list(figures.items())
    )


PARTS: dict[str, Callable[[int], str]] = {
    "memory": memory,
    "speed": speed,
    "repeat": repeat,
    "peer": peer,
    "latency": latency,
    "budget": budget,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--networks", type=int, default=10, help="networks of each preset; latency takes three times as many"
    )
    parser.add_argument("--write", type=Path, help="replace the text after the mark in this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sections = [PARTS[part](args.networks * (3 if part == "latency" else 1)) for part in args.parts]
    load = f"Load of the machine (1 minute) at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    text = "\n".join([*sections, load, ""])
    print("\n" + text)
    if args.write is not None:
        write(text, "benchmarks/costs.py", args.write)


if __name__ == "__main__":
    main()
