"""What the CPU allocator was asked for while code ran."""

from collections.abc import Callable
from typing import Any

from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig


def allocator_peak(run: Callable[[], object]) -> int:
    """Most bytes that the CPU allocator had given out while ``run`` ran, beyond what it had before.

    The allocator's own events, of every thread. Recorded by the legacy profiler: the current one records the same,
    takes ten times as long and writes to stderr wherever there is no GPU.
    """
    _enable_profiler_legacy(ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()))
    try:
        run()
    finally:
        threads = _disable_profiler_legacy()
    current = peak = 0
    for events in threads:
        for event in events:
            kind: Any = event.kind()  # declared as a number, but it is a word
            if kind == "memory_alloc":
                current += event.cpu_memory_usage()
                peak = max(peak, current)
    return peak
