"""Tests how functions take turns when they are timed; nothing is timed here."""

from collections import Counter
from itertools import pairwise

import pytest

from nas.costs.timing import Run, alternate


@pytest.mark.parametrize("functions", [2, 3])
def test_a_function_also_follows_itself(functions: int) -> None:
    """In a strict alternation of two, the smaller would always run on the caches that the larger leaves."""
    order: list[int] = []

    def clock(run: Run, times: int) -> float:
        order.extend([int(str(run()))] * (times > 0))
        return 10.0

    rounds = 600
    runs: list[Run] = [lambda i=i: i for i in range(functions)]  # type: ignore[misc]
    times = alternate(runs, clock, seconds=0, min_rounds=rounds)
    assert times.shape == (rounds, functions)
    measured = order[2 * functions :]  # after the two warm-up calls of each
    for start in range(0, len(measured), functions):
        assert sorted(measured[start : start + functions]) == list(range(functions))
    follows = Counter(pairwise(measured))
    assert all(follows[one, one] > rounds / (2 * functions**2) for one in range(functions)), follows
