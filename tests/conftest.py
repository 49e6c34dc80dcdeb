"""Settings for all tests.

An operation uses one thread: tensors are tiny, and a kernel's allocations depend on the number of threads.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in every process that a test starts

_MOST_S = 20.0
"""Processor time, which other processes do not affect. A case takes milliseconds, the first one seconds for imports."""


@pytest.fixture
def bounded() -> Callable[[object], AbstractContextManager[None]]:
    """Fails if one case of a fuzz test takes more than `_MOST_S` of this process's processor time."""

    @contextmanager
    def check(case: object) -> Iterator[None]:
        began = time.process_time()
        yield
        spent = time.process_time() - began
        assert spent < _MOST_S, f"{spent:.0f} s of processor time for {case!r:.300}"

    return check
