"""Measures times that can be compared, in one process, on a machine that may be busy with other work.

The functions to compare run in alternating rounds, so that other work slows all of them. Every round has its own random
order, in which a function may also follow itself: if a network always ran after the same other one, the state of the
caches would change its time by up to a tenth. Two functions in strict alternation are such a case: the plain network
would always run on the caches that a large network leaves, and the ratio to it would be too small.
Two functions are compared by the median, over the rounds, of their ratio. A ratio of the fastest rounds would be
biased: a short run fits between two disturbances more often than a long one, so the longer one would seem even longer.
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
"""(function, number of runs) -> milliseconds of one run."""

_SAMPLE_MS = 2.0
"""A shorter function is repeated until a sample takes this long."""
_RESAMPLES = 200
_UNDISTURBED = 0.05
"""Quantile of the rounds. While other work runs, ratios of this quantile vary half as much between series of rounds as
those of the lower quartile (`benchmarks/costs.py --parts repeat`). The minimum is no better, and it may be an
outlier."""


def thread_clock(run: Run, times: int) -> float:
    """Milliseconds of this thread's processor time for one run, without that of other processes."""
    start = time.thread_time()
    for _ in range(times):
        run()
    return (time.thread_time() - start) * 1e3 / times


def host_clock(run: Run, times: int) -> float:
    """Milliseconds of wall-clock time for one run on a CPU."""
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
    """Times of several functions in alternating rounds. Each round has a random order, in which any may come next.

    Args:
        runs: the functions; each has two warm-up calls.
        clock: `thread_clock`, `host_clock` or `cuda_clock`.
        seconds: after this time no new round begins, once ``min_rounds`` are done.
        min_rounds: smallest number of rounds.
        max_rounds: largest number of rounds.

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
        rng.shuffle(order)
    return np.array(rounds)


def undisturbed(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The times without other work's influence, a low quantile: [..., rounds, runs] -> [..., runs]."""
    quantile: npt.NDArray[np.float64] = np.quantile(times, _UNDISTURBED, axis=-2)
    return quantile


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two times, with a 95 % bootstrap interval over the rounds."""

    value: float
    lower: float
    upper: float


def ratio(times: npt.NDArray[np.float64]) -> Ratio:
    """The ratio of the first time to the second, from times [rounds, 2]; its value is the median over the rounds."""
    ratios = times[:, 0] / times[:, 1]
    value = float(np.median(ratios))
    drawn = np.random.default_rng(0).integers(len(times), size=(_RESAMPLES, len(times)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return Ratio(value, min(value, float(low)), max(value, float(high)))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """In the block, one operation uses up to ``count`` CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
