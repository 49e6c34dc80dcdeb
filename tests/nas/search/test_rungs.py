"""Tests which trials are promoted, as properties of pure functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import is_front, ranking
from nas.search.rungs import choose_bracket, in_better_half, ladders, promotable, rung_epochs, tells

POINTS = st.dictionaries(
    st.integers(0, 50), st.tuples(st.integers(0, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=30
)
ETA = st.integers(2, 4)


@pytest.mark.parametrize(
    ("epochs", "least", "eta", "expected"),
    [
        (9, 1, 3, (1, 3, 9)),
        (27, 3, 3, (3, 9, 27)),
        (6, 1, 3, (1, 2, 6)),
        (10, 1, 2, (1, 2, 5, 10)),
        (1, 1, 3, (1,)),
        (2, 1, 3, (1, 2)),
    ],
)
def test_rungs_end_at_the_full_length(epochs: int, least: int, eta: int, expected: tuple[int, ...]) -> None:
    assert rung_epochs(epochs, least, eta) == expected


@given(st.integers(1, 300), st.integers(1, 20), ETA)
def test_rungs_ascend_from_the_least(epochs: int, least: int, eta: int) -> None:
    if least > epochs:
        with pytest.raises(ValueError, match=f"min_epochs is {least}.*{epochs}"):
            rung_epochs(epochs, least, eta)
        return
    rungs = rung_epochs(epochs, least, eta)
    assert rungs[-1] == epochs
    assert rungs[0] >= least
    assert list(rungs) == sorted(set(rungs))


def test_each_scheme_has_its_ladders() -> None:
    assert ladders("none", 9, 1, 3) == ((9,),)
    assert ladders("mo_asha", 9, 1, 3) == ((1, 3, 9),)
    assert ladders("median", 9, 1, 3) == ((1, 3, 9),)
    assert ladders("hyperband", 9, 1, 3) == ((1, 3, 9), (3, 9), (9,))


def test_long_trainings_have_two_rungs_below_their_end() -> None:
    assert ladders("mo_asha", 27, 1, 3) == ladders("median", 27, 1, 3) == ((3, 9, 27),)
    assert ladders("mo_asha", 32, 1, 2) == ((8, 16, 32),)
    assert [ladder[0] for ladder in ladders("hyperband", 27, 1, 3)] == [1, 3, 9, 27]


def test_brackets_spend_about_the_same() -> None:
    brackets = ladders("hyperband", 9, 1, 3)
    counts = [0, 0, 0]
    for _ in range(300):
        counts[choose_bracket(counts, brackets, 3)] += 1
    spent = [counts[0] * (1 + 2 / 3 + 6 / 9), counts[1] * (3 + 6 / 3), counts[2] * 9]
    assert max(spent) - min(spent) <= 9


@given(POINTS, ETA)
def test_the_best_1_of_eta_are_promoted(points: dict[int, tuple[float, float]], eta: int) -> None:
    numbers = sorted(points)
    best = ranking([points[number] for number in numbers])[: len(points) // eta]
    assert promotable(points, points.keys(), len(points) // eta) == [numbers[index] for index in best]


@given(POINTS, ETA, st.data())
def test_promoted_trials_are_not_promoted_again(
    points: dict[int, tuple[float, float]], eta: int, data: st.DataObject
) -> None:
    settled = data.draw(st.sets(st.sampled_from(sorted(points))))
    numbers = sorted(points)
    waiting = [numbers[index] for index in ranking([points[n] for n in numbers]) if numbers[index] not in settled]
    assert promotable(points, points.keys() - settled, eta) == waiting[:eta]


@given(POINTS, ETA, st.data())
def test_expected_gains_decide_before_the_points(
    points: dict[int, tuple[float, float]], eta: int, data: st.DataObject
) -> None:
    gains = data.draw(st.dictionaries(st.sampled_from(sorted(points)), st.integers(0, 9).map(float)))
    chosen = promotable(points, points.keys(), len(points) // eta, gains)
    assert len(chosen) == len(set(chosen)) == len(points) // eta
    hopeful = sorted((gain for gain in gains.values() if gain > 0), reverse=True)[: len(chosen)]
    assert [gains[number] for number in chosen[: len(hopeful)]] == hopeful
    others = [number for number in promotable(points, points.keys(), len(points)) if gains.get(number, 0) == 0]
    assert chosen[len(hopeful) :] == others[: len(chosen) - len(hopeful)]


@pytest.mark.parametrize(("count", "found"), [(10, 0.4), (20, 0.75), (60, 0.99)])
def test_a_rung_of_noise_is_found_and_one_that_tells_is_kept(count: int, found: float) -> None:
    rng = np.random.default_rng(0)
    ends = rng.normal(size=(400, count))
    noise = rng.normal(size=(400, count))
    assert np.mean([not tells(early, end) for early, end in zip(noise, ends, strict=True)]) > found
    told = [not tells(early, end) for early, end in zip(ends + 0.75 * noise, ends, strict=True)]  # correlation 0.8
    assert np.mean(told) < 0.02


def test_few_trials_or_equal_values_do_not_condemn_a_rung() -> None:
    assert tells([-end for end in range(7)], list(range(7)))
    assert tells([0.5] * 20, list(range(20)))


@given(POINTS, ETA)
def test_no_trial_is_promoted_before_one_that_dominates_it(points: dict[int, tuple[float, float]], eta: int) -> None:
    chosen = set(promotable(points, points.keys(), len(points) // eta))
    for number in chosen:
        for other in points.keys() - chosen:
            better = all(a <= b for a, b in zip(points[other], points[number], strict=True))
            assert not better or points[other] == points[number]


@given(POINTS)
def test_the_cheap_end_of_the_front_is_promoted(points: dict[int, tuple[float, float]]) -> None:
    """If the front has at most half of the trials, all of it is promoted, whatever its accuracies."""
    numbers = sorted(points)
    front = {n for n, member in zip(numbers, is_front([points[n] for n in numbers]), strict=True) if member}
    chosen = set(promotable(points, points.keys(), len(points) // 2))
    assert front <= chosen or chosen < front


@given(POINTS)
def test_the_better_half_is_at_least_half(points: dict[int, tuple[float, float]]) -> None:
    staying = sum(in_better_half(points, number) for number in points)
    assert staying == (len(points) if len(points) < 4 else -(-len(points) // 2))
