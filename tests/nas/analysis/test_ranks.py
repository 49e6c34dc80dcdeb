import math
from collections.abc import Callable

import pytest

from nas.analysis import early_ranks
from nas.ranks import rank_correlation, ranks
from nas.search import TrialRecord


def test_equal_values_share_their_mean_rank() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0, 3.0]).tolist() == [3.0, 0.0, 3.0, 1.0, 3.0]


def test_only_the_order_counts() -> None:
    assert rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [0.1, 0.01, -5, -6]) == pytest.approx(-1)
    # Ranks 0 1 2 3 and 1 0 3 2 give 1 - 6 * 4 / (4 * 15).
    assert rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)


def test_a_constant_has_no_correlation() -> None:
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_lengths_differ() -> None:
    with pytest.raises(ValueError, match="3 values against 2"):
        rank_correlation([1, 2, 3], [1, 2])


def test_early_ranks_use_complete_trials_at_epochs_where_others_stopped(trial: Callable[..., TrialRecord]) -> None:
    complete = [trial("complete", [0.9 - 0.1 * n, 0.5, 0.3, 0.1 * n]) for n in range(5)]
    stopped = [trial("stopped", [0.9]), trial("stopped", [0.9, 0.9, 0.9])]
    again = trial("complete", [1.0, 1.0, 1.0, 1.0], origin="finalist:3")
    # At the third epoch all accuracies are equal, so there is no order.
    assert early_ranks([*complete, *stopped, again], "top1") == {1: pytest.approx(-1)}
    assert early_ranks(complete, "top1") == {}
    assert early_ranks([*complete[1:], *stopped], "top1") == {}
