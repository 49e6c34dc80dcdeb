"""Candidates timed in turn in one process, and the peak of what each allocates: shared by the benchmarks here."""

import gc
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

Run = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Quartiles (25, 50, 75 %) of ms, and the median over rounds of the time over the first candidate's."""

    ms: tuple[float, float, float]
    ratio: float

    def __str__(self) -> str:
        low, middle, high = (f"{ms:.1f}" if ms < 100 else f"{ms:.0f}" for ms in self.ms)
        return f"{middle} ({low} to {high})"


def conditions(device: str) -> str:
    """What the figures were taken under, for the head of a table."""
    where = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"a CPU ({platform.machine()}), {torch.get_num_threads()} threads"
    )
    return f"{where}, torch {torch.__version__}"


def milliseconds(run: Run, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def alternate(runs: Mapping[str, Run], rounds: int, device: str) -> dict[str, Timing]:
    """Time all candidates in every round, in a new order each; the first one is the peer that ratios are taken to.

    A ratio is that of two runs of one round: on a shared machine phases of different speed fall on all alike. Each
    candidate runs once beforehand, untimed: kernels are chosen and buffers made then.
    """
    names = list(runs)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(0)
    for _ in range(max(2, rounds)):  # one has no quartiles
        for name in order.sample(names, len(names)):
            times[name].append(milliseconds(runs[name], device))
    timings = {}
    for name, mine in times.items():
        low, middle, high = statistics.quantiles(mine, n=4, method="inclusive")
        ratio = statistics.median(a / b for a, b in zip(mine, times[names[0]], strict=True))
        timings[name] = Timing((low, middle, high), ratio)
    return timings


def peak_bytes(run: Run, device: str) -> int:
    """The most that was allocated at a time beyond what was there before."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def against(value: float, goal: float | None, form: str = ".2f") -> str:
    """A figure with its goal and whether it is met."""
    if goal is None:
        return format(value, form)
    return f"{value:{form}} (goal {goal:{form}}{'' if value <= goal else ', missed'})"


def write(text: str, script: str, path: Path) -> None:
    """Replace what stands behind the script's mark in a file; what stands before it is written by hand."""
    mark = f"<!-- {script} -->"
    before = path.read_text().partition(mark)[0] if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{mark}\n\n{text}")


def write_between(text: str, script: str, path: Path) -> None:
    """Replace what stands in a file between the script's two marks; what stands around them is written by hand."""
    mark, end = f"<!-- {script} -->", f"<!-- end of {script} -->"
    before, _, rest = path.read_text().partition(mark)
    path.write_text(f"{before}{mark}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
