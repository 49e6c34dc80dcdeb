"""Effects of several runs side by side, from draws that are made here."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from nas.analysis import Answer, beside, takes_beside
from nas.analysis.answer import Place, PlaceEffect, together
from nas.analysis.intervals import Interval

SPREAD = 0.01
NOTHING = Interval(0.0, 0.0, 0.0)


def place(block: str, label: str = "", option: str = "se") -> Place:
    return Place(label or block, (block,), "refine", option)


def answer(gains: Sequence[float], places: Sequence[Place] = (), seed: int = 0, spread: float = SPREAD) -> Answer:
    """Effects with these means, drawn with the same random numbers for equal seeds, as the models of runs do."""
    draws = gains + spread * np.random.default_rng(seed).normal(size=(600, len(gains)))
    places = places or [place(f"layer1.{i}") for i in range(len(gains))]
    effects = [PlaceEffect(one, gain, 9, {}, None) for one, gain in zip(places, together(list(draws.T)), strict=True)]
    empty = dict.fromkeys(("over_baseline", "baseline", "rival", "more"))
    return Answer(
        trainings=9,
        networks=9,
        effects=tuple(effects),
        options={},
        pairs=(),
        standings=(),
        take=0,
        baseline_best=0.0,
        noise=NOTHING,
        unexplained=NOTHING,
        gains=draws,
        merits=draws[:, 0],
        **empty,
    )


def test_equal_random_numbers_do_not_tie_two_runs_together() -> None:
    one = answer([0.0])
    (row,) = beside({0: one, 1: one})
    (gap,) = row.gaps
    width = gap.difference.high - gap.difference.low
    assert width == pytest.approx(math.sqrt(2) * 2 * 1.96 * SPREAD, rel=0.15)
    (take,) = takes_beside({0: one, 1: one})
    assert take.difference.high - take.difference.low == pytest.approx(width, rel=0.05)


def test_the_intervals_of_all_differences_hold_together() -> None:
    count = 20
    alone = beside({0: answer([0.0]), 1: answer([0.0], seed=1)})[0].gaps[0].difference
    rows = beside({0: answer([0.0] * count), 1: answer([0.0] * count, seed=1)})
    widths = [row.gaps[0].difference.high - row.gaps[0].difference.low for row in rows]
    # The two-sided 95 % quantile of the largest of 20 normal draws is 3.02 standard deviations, that of one is 1.96.
    assert np.mean(widths) / (alone.high - alone.low) == pytest.approx(3.02 / 1.96, rel=0.08)


@pytest.mark.parametrize(
    ("gains", "agreement", "told"),
    [
        ((0.2, 0.21), "agree", (0, 1)),
        ((-0.2, -0.21), "agree", (0, 1)),
        ((0.2, 0.4), "sizes differ", (0, 1)),
        ((0.2, -0.2), "differ", (0, 1)),
        ((0.2, 0.0), "differ", (0,)),
        ((0.03, 0.01), "some can tell", (0,)),
        ((0.0, 0.01), "none can tell", ()),
        ((0.2, 0.2, 0.0), "differ", (0, 1)),
        ((0.03, 0.03, 0.01), "some can tell", (0, 1)),
    ],
)
def test_how_runs_agree_on_an_effect(gains: Sequence[float], agreement: str, told: tuple[int, ...]) -> None:
    answers = {run: answer([gain], seed=run) for run, gain in enumerate(gains)}
    (row,) = beside(answers)
    assert (row.agreement, row.told) == (agreement, told)
    assert len(row.gaps) == len(gains) * (len(gains) - 1) // 2
    for gap in row.gaps:
        assert gap.difference.value == pytest.approx(gains[gap.first] - gains[gap.second], abs=0.002)


def test_a_place_is_the_same_where_blocks_slot_and_option_are() -> None:
    first = answer([0.1, 0.1], [place("layer1.0"), place("layer2.0")])
    second = answer([0.1, 0.1, 0.1], [place("layer2.0", "layer2"), place("layer3.0"), place("layer1.0", option="cbam")])
    rows = {(row.place.blocks[0], row.place.option): row for row in beside({0: first, 2: second})}
    assert {key: tuple(row.effects) for key, row in rows.items()} == {
        ("layer1.0", "se"): (0,),
        ("layer2.0", "se"): (0, 2),
        ("layer3.0", "se"): (2,),
        ("layer1.0", "cbam"): (2,),
    }
    assert {row.agreement for key, row in rows.items() if key != ("layer2.0", "se")} == {"alone"}
    assert rows["layer1.0", "se"].gaps == ()
    assert rows["layer1.0", "se"].widest is None


def test_the_widest_gap_is_furthest_from_zero_in_its_own_width() -> None:
    answers = {0: answer([0.0]), 1: answer([0.1], seed=1), 2: answer([0.5], seed=2, spread=0.5)}
    (row,) = beside(answers)
    widest = row.widest
    assert widest is not None
    assert (widest.first, widest.second) == (0, 1)
