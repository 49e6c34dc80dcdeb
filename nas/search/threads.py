"""One thread for small matrices.

Those of a proposal are so small that threads wait for one another longer than they work, and far longer on cores where
trials train meanwhile. Nor does the order of a sum, and so a proposal, depend on how many cores a machine has.
"""

from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")

_ONE_AT_A_TIME = RLock()
"""How many threads a library has is said for the whole process: two that change it and change it back must not meet."""


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, during which BLAS and OpenMP have one thread."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _ONE_AT_A_TIME, _libraries().limit(limits=1):
            return function(*args, **kwargs)

    return limited


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded by the first call: to look for them each time would take milliseconds.

    What comes later, SciPy's for `gp`, has nothing to do that is worth a thread.
    """
    return ThreadpoolController()
