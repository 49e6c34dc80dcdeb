"""What holds for all tests.

One thread an operation: tensors here are tiny, and what a kernel allocates depends on how many threads it has.
"""

import os
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in every process that a test starts

SESSIONS = ({"crashes", "launchers", "ranks"}, {"cluster", "hosts"})
"""Files in tests/launch that start Ray again and again, so that both have about the same to wait for."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:  # noqa: ANN401  # xdist's, unannotated
    """Several processes (`-n 3`) share the tests, two of them those that start Ray: more sessions starve each other."""
    from xdist.scheduler import LoadScopeScheduling

    of_file = {f"tests/launch/test_{name}.py": str(number) for number, names in enumerate(SESSIONS) for name in names}

    class TwoSessions(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return of_file.get(nodeid.split("::", maxsplit=1)[0], nodeid)

    return TwoSessions(config, log)
