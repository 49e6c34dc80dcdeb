"""Times candidates in turn in one process and measures the peak memory of each; shared by the benchmarks."""

import gc
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from nas.costs import timing
from nas.costs.timing import cuda_clock, host_clock

Run = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Quartiles (25, 50, 75 %) in ms; ``ratio``: median over rounds of the time divided by the first candidate's."""

    ms: tuple[float, float, float]
    ratio: float

    def __str__(self) -> str:
        low, middle, high = (f"{ms:.1f}" if ms < 100 else f"{ms:.0f}" for ms in self.ms)
        return f"{middle} ({low} to {high})"


def conditions(device: str) -> str:
    """The device and the version of torch, for the head of a table."""
    where = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"a CPU ({platform.machine()}), {torch.get_num_threads()} threads"
    )
    return f"{where}, torch {torch.__version__}"


def alternate(runs: Mapping[str, Run], rounds: int, device: str) -> dict[str, Timing]:
    """Times all candidates in every round, each round in a new order; ratios are relative to the first candidate.

    A ratio compares two runs of the same round, because the speed of a shared machine varies over time.
    """
    clock = cuda_clock if device == "cuda" else host_clock
    rounds = max(2, rounds)  # a single time has no quartiles
    times = timing.alternate(list(runs.values()), clock, 0, rounds, rounds)
    quartiles = np.quantile(times, (0.25, 0.5, 0.75), axis=0).T.tolist()
    ratios = np.median(times / times[:, :1], axis=0).tolist()
    return {
        name: Timing((low, middle, high), ratio)
        for name, (low, middle, high), ratio in zip(runs, quartiles, ratios, strict=True)
    }


def peak_bytes(run: Run, device: str) -> int:
    """The largest number of bytes allocated at a time, beyond those allocated before the run."""
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
    """A figure, its goal, and whether the goal is missed."""
    if goal is None:
        return format(value, form)
    return f"{value:{form}} (goal {goal:{form}}{'' if value <= goal else ', missed'})"


def write(text: str, script: str, path: Path) -> None:
    """Replaces the text after the script's mark in a file; the text before the mark stays."""
    mark = f"<!-- {script} -->"
    before = path.read_text().partition(mark)[0] if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{mark}\n\n{text}")


def write_between(text: str, script: str, path: Path) -> None:
    """Replaces the text between the script's two marks in a file; all other text stays."""
    mark, end = f"<!-- {script} -->", f"<!-- end of {script} -->"
    before, _, rest = path.read_text().partition(mark)
    path.write_text(f"{before}{mark}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
