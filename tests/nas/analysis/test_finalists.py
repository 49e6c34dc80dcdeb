"""Checks the statistics of finalists against closed forms and known inputs."""

import math
import random
from collections.abc import Mapping, Sequence

import pytest

from nas.analysis import Finalist, finalists, select
from nas.search import EpochRecord, Objective, TrialRecord
from nas.search.records import Origin

OBJECTIVES = (Objective("top1", "maximize"), Objective("params", "minimize"))


def trial(number: int, values: Sequence[float], origin: str = "sampler") -> TrialRecord:
    return TrialRecord(
        number=number,
        status="complete",
        ended=True,
        origin=Origin.parse(origin),
        fingerprint=str(number),
        seed=0,
        bracket=0,
        stop_epoch=1,
        epochs={1: EpochRecord(1, {"top1": values[0]}, 0.1, 1.0)},
        costs={},
        budget=None,
        rejected_by=None,
        values=tuple(values),
        duplicate_of=None,
        reason="",
        params={},
        plan={},
    )


def run_of(searched: Mapping[int, tuple[float, float]], repeated: Mapping[int, Sequence[float]]) -> list[TrialRecord]:
    """The trials of a search with results `searched`, and repetitions with these accuracies."""
    trials = [trial(number, values) for number, values in searched.items()]
    for number, accuracies in repeated.items():
        cost = searched[number][1]
        trials += [trial(len(trials) + i, (a, cost), f"finalist:{number}") for i, a in enumerate(accuracies)]
    return trials


def found(
    searched: Mapping[int, tuple[float, float]],
    repeated: Mapping[int, Sequence[float]],
    objectives: Sequence[Objective] = OBJECTIVES,
) -> list[Finalist]:
    return finalists(run_of(searched, repeated), objectives)


def test_best_and_knee_are_chosen_by_repetitions() -> None:
    searched = {0: (0.99, 2.0), 1: (0.80, 2.2), 2: (0.95, 9.0), 3: (0.50, 1.0), 4: (0.90, 1.1)}
    once = run_of(searched, {})
    assert [select(once, OBJECTIVES, which).number for which in ("best", "knee")] == [0, 4]
    again = run_of(searched, {0: [0.51, 0.53], 1: [0.92, 0.94], 2: [0.95, 0.97], 3: [0.50, 0.52]})
    assert [select(again, OBJECTIVES, which).number for which in ("best", "knee")] == [2, 1]


def test_only_repetitions_count_not_the_searched_value() -> None:
    first, second = found({0: (0.99, 2.0), 1: (0.8, 1.0)}, {0: [0.79, 0.81], 1: [0.84, 0.86]})
    assert (first.trial.number, first.mean, first.values) == (1, pytest.approx(0.85), (0.84, 0.86))
    assert second.mean == pytest.approx(0.80)


def test_with_one_repetition_each_the_search_counts_too() -> None:
    first, second = found({0: (0.90, 2.0), 1: (0.80, 1.0)}, {0: [0.92], 1: [0.81]})
    assert first.values == (0.90, 0.92)
    assert second.mean == pytest.approx(0.805)


def test_the_interval_is_that_of_students_t() -> None:
    # One finalist: mean +- t(0.975, n - 1) s / sqrt(n), where t is 2.776 for 4 degrees of freedom.
    values = [0.70, 0.71, 0.72, 0.73, 0.74]
    (only,) = found({0: (0.75, 1.0)}, {0: values})
    s = math.sqrt(sum((v - 0.72) ** 2 for v in values) / 4)
    assert only.mean == pytest.approx(0.72)
    assert only.high - only.mean == pytest.approx(2.776 * s / math.sqrt(5), rel=0.05)
    assert only.mean - only.low == pytest.approx(2.776 * s / math.sqrt(5), rel=0.05)
    assert only.on_front == 1
    assert only.groups == (0,)


def test_intervals_stay_between_0_and_1() -> None:
    for finalist in found({0: (0.99, 2.0), 1: (0.95, 1.0)}, {0: [0.02, 0.99], 1: [0.95, 0.97]}):
        assert (finalist.low, finalist.high) == (0.0, 1.0)


def test_front_probability_of_two_finalists_at_the_same_cost() -> None:
    # The difference of the means is 1.34 standard errors with 8 degrees of freedom: P(t < 1.34) = 0.89.
    a, b = [0.50, 0.52, 0.54, 0.56, 0.58], [v - 0.0268 for v in (0.50, 0.52, 0.54, 0.56, 0.58)]
    first, second = found({0: (0.5, 1.0), 1: (0.5, 1.0)}, {0: a, 1: b})
    assert first.on_front == pytest.approx(0.89, abs=0.02)
    assert second.on_front == pytest.approx(1 - first.on_front, abs=1e-3)
    assert first.groups == second.groups == (0,)


def test_the_cheapest_is_on_the_front_whatever_its_accuracy() -> None:
    rows = found({0: (0.9, 2.0), 1: (0.5, 1.0)}, {0: [0.90, 0.91], 1: [0.50, 0.51]})
    assert [row.on_front for row in rows] == [1.0, 1.0]


def test_groups_overlap_where_neighbours_are_close_and_ends_are_not() -> None:
    searched = dict.fromkeys(range(3), (0.5, 1.0))
    # Standard deviation 0.01: neighbours differ by one standard error of a difference, the ends by many.
    spread = [-0.01, -0.005, 0.0, 0.005, 0.01]
    rows = found(searched, {n: [0.5 + 0.012 * n + s for s in spread] for n in range(3)})
    assert [row.trial.number for row in rows] == [2, 1, 0]
    assert [row.groups for row in rows] == [(0,), (0, 1), (1,)]


def test_equal_networks_are_rarely_separated() -> None:
    """The family-wise error of groups is 5 %, however many finalists there are: here 8 with three seeds."""
    rng = random.Random(0)
    apart = 0
    for _ in range(60):
        repeated = {n: [rng.gauss(0.7, 0.01) for _ in range(3)] for n in range(8)}
        apart += any(row.groups != (0,) for row in found(dict.fromkeys(range(8), (0.7, 1.0)), repeated))
    # Above 9 of 60 with a probability of 0.1 % if the error is 5 % (binomial).
    assert apart <= 9


def test_equal_accuracies_cause_no_division_by_zero() -> None:
    rows = found({0: (0.9, 2.0), 1: (0.8, 1.0)}, {0: [0.9, 0.9], 1: [0.8, 0.8]})
    assert [row.groups for row in rows] == [(0,), (1,)]


def test_no_finalists_without_repetitions_or_accuracy() -> None:
    assert found({0: (0.9, 2.0)}, {}) == []
    assert found({0: (0.9, 2.0)}, {0: [0.9, 0.8]}, (Objective("params", "minimize"),)) == []
