"""Runs functions on small matrices with one thread.

The matrices of a proposal are so small that threads would mostly wait for one another, above all while trials train on
the same cores. With one thread, the order of sums, and so a proposal, does not depend on the number of cores.
"""

from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")

_ONE_AT_A_TIME = RLock()
"""The number of threads is set for the whole process, so only one caller at a time may change and restore it."""


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: during the function, BLAS and OpenMP use one thread."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _ONE_AT_A_TIME, _libraries().limit(limits=1):
            return function(*args, **kwargs)

    return limited


@cache
def _libraries() -> ThreadpoolController:
    """The libraries that are loaded at the first call; a search in every call would take milliseconds.

    A library that is loaded later (SciPy's, for `gp`) keeps its threads, but has little to do.
    """
    return ThreadpoolController()
