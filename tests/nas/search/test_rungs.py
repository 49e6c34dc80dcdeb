"""Tests which trials are promoted, as properties of pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.pareto import is_front, ranking
from nas.search.rungs import choose_bracket, in_better_half, ladders, promotable, rung_epochs

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
    assert promotable(points, set(), eta) == [numbers[index] for index in best]


@given(POINTS, ETA, st.data())
def test_promoted_trials_count_and_are_not_promoted_again(
    points: dict[int, tuple[float, float]], eta: int, data: st.DataObject
) -> None:
    settled = data.draw(st.sets(st.sampled_from(sorted(points))))
    numbers = sorted(points)
    waiting = [numbers[index] for index in ranking([points[n] for n in numbers]) if numbers[index] not in settled]
    assert promotable(points, settled, eta) == waiting[: max(len(points) // eta - len(settled), 0)]


@given(POINTS, ETA)
def test_no_trial_is_promoted_before_one_that_dominates_it(points: dict[int, tuple[float, float]], eta: int) -> None:
    chosen = set(promotable(points, set(), eta))
    for number in chosen:
        for other in points.keys() - chosen:
            better = all(a <= b for a, b in zip(points[other], points[number], strict=True))
            assert not better or points[other] == points[number]


@given(POINTS)
def test_the_cheap_end_of_the_front_is_promoted(points: dict[int, tuple[float, float]]) -> None:
    """If the front has at most half of the trials, all of it is promoted, whatever its accuracies."""
    numbers = sorted(points)
    front = {n for n, member in zip(numbers, is_front([points[n] for n in numbers]), strict=True) if member}
    chosen = set(promotable(points, set(), 2))
    assert front <= chosen or chosen < front


@given(POINTS)
def test_the_better_half_is_at_least_half(points: dict[int, tuple[float, float]]) -> None:
    staying = sum(in_better_half(points, number) for number in points)
    assert staying == (len(points) if len(points) < 4 else -(-len(points) // 2))
