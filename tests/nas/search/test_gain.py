"""Tests which waiting trial continues when nothing is left to propose."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from nas.search.gain import most_promising
from nas.search.history import StudyHistory

EPOCH, EPOCHS = 3, 9


def history_of(waiting: dict[int, float]) -> StudyHistory:
    """Ten complete trials, whose accuracy grows with the cost and by 0.3 after epoch 3, and trials waiting at epoch 3.

    ``waiting``: cost -> accuracy at epoch 3.
    """
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_metric_names(["val_top1", "cost"])
    parameters = {"cost": CategoricalDistribution(list(range(20)))}
    for cost in range(0, 20, 2):
        early = 0.3 + 0.01 * cost
        study.add_trial(
            create_trial(
                params={"cost": cost},
                distributions=parameters,
                values=[early + 0.3, float(cost)],
                intermediate_values={EPOCH: early},
            )
        )
    for cost, early in waiting.items():
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={"cost": cost},
                distributions=parameters,
                intermediate_values={EPOCH: early},
                user_attrs={"costs": {"cost": {"value": float(cost)}}},
            )
        )
    history = StudyHistory(study, None)
    history.update(study.get_trials(deepcopy=False))
    return history


def chosen(waiting: dict[int, float], spare: int) -> int | None:
    """The cost of the chosen trial among `waiting` (see `history_of`), `spare` epochs below the share to spend."""
    numbers = dict(zip(range(10, 10 + len(waiting)), waiting, strict=True))
    left = dict.fromkeys(numbers, EPOCHS - EPOCH)
    number = most_promising(history_of(waiting), left, frozenset(range(10)), spent=400 - spare, of_all=1_000)
    return None if number is None else numbers[number]


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_only_a_trial_with_a_large_expected_gain_continues() -> None:
    assert chosen({5: 0.35, 9: 0.49, 13: 0.2}, spare=0) == 9
    assert chosen({5: 0.1, 13: 0.2}, spare=400) is None


def test_below_forty_percent_of_the_epochs_a_small_gain_suffices() -> None:
    little = {9: 0.393}
    assert chosen(little, spare=0) is None
    assert chosen(little, spare=EPOCHS - EPOCH - 1) is None
    assert chosen(little, spare=EPOCHS - EPOCH) == 9
