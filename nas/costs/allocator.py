"""Measures the memory that code allocates on the CPU."""

from collections.abc import Callable
from typing import Any

from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig


def allocator_peak(run: Callable[[], object]) -> int:
    """Peak of the bytes allocated on the CPU while ``run`` runs, beyond those allocated before.

    Uses the allocator's events of all threads, recorded by the legacy profiler. The current profiler records the same
    events, but takes ten times as long and writes to stderr where there is no GPU.
    """
    _enable_profiler_legacy(ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()))
    try:
        run()
    finally:
        threads = _disable_profiler_legacy()
    current = peak = 0
    for events in threads:
        for event in events:
            kind: Any = event.kind()  # declared as an integer, but it is a string
            if kind == "memory_alloc":
                current += event.cpu_memory_usage()
                peak = max(peak, current)
    return peak
