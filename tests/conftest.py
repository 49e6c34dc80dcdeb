"""What holds for all tests.

One thread an operation: tensors here are tiny, and what a kernel allocates depends on how many threads it has.
"""

import os
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in every process that a test starts

ON_RAY = {f"tests/launch/test_{name}.py" for name in ("cluster", "crashes", "hosts", "launchers", "ranks")}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:  # noqa: ANN401  # xdist's, unannotated
    """Several processes (`-n 2`) share the tests, but one has all that start Ray: two sessions starve each other."""
    from xdist.scheduler import LoadScopeScheduling

    class OneAtATime(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "on Ray" if nodeid.split("::", maxsplit=1)[0] in ON_RAY else nodeid

    return OneAtATime(config, log)
