"""Tests which options still gain on the plain network when training ends."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.analysis import still_gaining
from nas.search import Objective, TrialRecord

TOP1 = Objective("top1", "maximize")
EPOCHS = 6


def run_of(
    trial: Callable[..., TrialRecord], gains: dict[str, float], count: int = 30, noise: float = 0.004
) -> list[TrialRecord]:
    """Trials with random options. All improve by 0.05 in the last two epochs, with an option by its gain more."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        options = [option for option in gains if rng.random() < 0.4]
        late = 0.05 + sum(gains[option] for option in options) + noise * rng.normal()
        curve = [0.3, 0.4, 0.5, 0.6, 0.6 + late / 2, 0.6 + late]
        placements = {f"block{place}": {"refine": {option: {}}} for place, option in enumerate(options)}
        found.append(trial("complete", curve, number=number, plan={"placements": placements}))
    return found


def test_an_option_that_still_gains_is_found(trial: Callable[..., TrialRecord]) -> None:
    (found,) = still_gaining(run_of(trial, {"se": 0.0, "aa": 0.02}), TOP1, EPOCHS)
    assert found.option == "aa"
    assert 0 < found.low < 0.02 < found.high < 0.03
    assert 5 < found.trials < 20


def test_of_options_that_do_not_gain_hardly_any_is_said(trial: Callable[..., TrialRecord]) -> None:
    assert still_gaining(run_of(trial, {"se": 0.0, "aa": 0.0, "aw": -0.02}), TOP1, EPOCHS) == []


def test_of_a_minimised_metric_a_fall_is_a_gain(trial: Callable[..., TrialRecord]) -> None:
    trials = run_of(trial, {"aa": -0.02})
    assert still_gaining(trials, TOP1, EPOCHS) == []
    (found,) = still_gaining(trials, Objective("top1", "minimize"), EPOCHS)
    assert found.gain == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_with_few_trials_nothing_is_said(trial: Callable[..., TrialRecord], count: int) -> None:
    assert still_gaining(run_of(trial, {"aa": 0.5}, count), TOP1, EPOCHS) == []
    assert still_gaining(run_of(trial, {"aa": 0.5}), TOP1, 1) == []
