"""Settings for all tests.

An operation uses one thread: tensors are tiny, and a kernel's allocations depend on the number of threads.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

# Here and in every process that a test starts.
os.environ |= {
    "OMP_NUM_THREADS": "1",  # read when torch is imported
    "RAY_worker_niceness": "0",  # Ray's own 15 makes its workers wait for minutes while another process runs tests
}

# Modules make a million objects that stay. Collecting more rarely, and never among those, saves a tenth of the time.
gc.set_threshold(50_000, 10, 10)


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else libraries report at the end that their objects are still there


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


@pytest.fixture
def few_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of a run draws little, for tests that are not about its figures."""
    monkeypatch.setattr("nas.analysis.model._SWEEPS", 60)
    monkeypatch.setattr("nas.analysis.model._KEPT", 30)
    monkeypatch.setattr("nas.analysis.model._FIRST", 5)
    monkeypatch.setattr("nas.analysis.decide._SWEEPS", 60)
    monkeypatch.setattr("nas.analysis.decide._KEPT", 30)
