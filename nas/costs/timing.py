"""Times that can be compared: taken in turns, in one process, on a machine that may be busy with other work.

What is compared runs in alternating rounds, so that whatever slows the machine slows all of it. Every round has its own
order: always behind the same other one, a network takes up to a tenth more or less, by what that leaves in the caches.
Two are compared by the median over the rounds of their ratio. The ratio of each one's fastest rounds would be biased:
a short run more often falls between two disturbances than a long one, so the longer seems longer still.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Run = Callable[[], object]
Clock = Callable[[Run, int], float]
"""(what to run, how often) -> milliseconds of one run."""

_SAMPLE_MS = 2.0
"""Shorter runs are repeated until a sample takes that long."""
_RESAMPLES = 200
_UNDISTURBED = 0.05
"""Of the rounds. Beside other work, ratios of this quantile vary half as much from one series of rounds to the next as
those of the lower quartile (`benchmarks/costs.py --parts repeat`); the fastest alone is no better, and a stray one
would be all there is."""


def thread_clock(run: Run, times: int) -> float:
    """Milliseconds of this thread's processor time for one run: what other processes take does not count."""
    start = time.thread_time()
    for _ in range(times):
        run()
    return (time.thread_time() - start) * 1e3 / times


def host_clock(run: Run, times: int) -> float:
    """Milliseconds of one run on a CPU, by the clock on the wall."""
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) * 1e3 / times


def cuda_clock(run: Run, times: int) -> float:
    """Milliseconds of one run between two CUDA events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(times):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / times


def alternate(
    runs: Sequence[Run], clock: Clock, seconds: float, min_rounds: int, max_rounds: int = 1000
) -> npt.NDArray[np.float64]:
    """Times of every run in alternating rounds, each in an order drawn for it, nobody right behind itself.

    Args:
        runs: what to time; each is called twice before anything counts.
        clock: `host_clock` or `cuda_clock`.
        seconds: begin no further round after that long, once ``min_rounds`` are done.
        min_rounds: rounds at least.
        max_rounds: rounds at most.

    Returns:
        [rounds, runs], milliseconds.
    """
    repeats = []
    for run in runs:
        clock(run, 1)
        repeats.append(max(1, round(_SAMPLE_MS / max(clock(run, 1), 1e-3))))
    order = list(range(len(runs)))
    rng = random.Random(0)
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(rounds) < min_rounds or (time.perf_counter() < end and len(rounds) < max_rounds):
        taken = {i: clock(runs[i], repeats[i]) for i in order}
        rounds.append([taken[i] for i in range(len(runs))])
        last = order[-1]
        rng.shuffle(order)
        if order[0] == last:
            order.reverse()
    return np.array(rounds)


def undisturbed(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What runs take where nothing else slows them: [..., rounds, runs] -> [..., runs]."""
    quantile: npt.NDArray[np.float64] = np.quantile(times, _UNDISTURBED, axis=-2)
    return quantile


@dataclass(frozen=True, slots=True)
class Ratio:
    """How often longer one takes than another, with a 95 % bootstrap interval over the rounds."""

    value: float
    lower: float
    upper: float


def ratio(times: npt.NDArray[np.float64]) -> Ratio:
    """Of the first run to the second: [rounds, 2] -> the median over the rounds."""
    ratios = times[:, 0] / times[:, 1]
    value = float(np.median(ratios))
    drawn = np.random.default_rng(0).integers(len(times), size=(_RESAMPLES, len(times)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return Ratio(value, min(value, float(low)), max(value, float(high)))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let one operation use that many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
