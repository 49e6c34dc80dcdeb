"""Every proposal and every epoch is counted once."""

from collections.abc import Callable

from nas.analysis import account
from nas.search import TrialRecord


def test_the_account_adds_up(trial: Callable[..., TrialRecord]) -> None:
    trials = [
        trial("complete", 9 * [0.5], origin="hand:plain"),
        trial("complete", 9 * [0.5]),
        trial("stopped", 1 * [0.5]),
        trial("stopped", 3 * [0.5]),
        trial("failed", 2 * [0.5]),
        trial("active", 1 * [0.5]),
        trial("rejected", 1 * [0.5], rejected_by="training"),  # out of memory in training
        trial("rejected", rejected_by="static"),
        trial("rejected", rejected_by="static"),
        trial("duplicate", duplicate_of=1),
        trial("unlaunched", fingerprint=""),
        trial("complete", 9 * [0.5], origin="finalist:1"),
    ]
    found = account(trials, 9)
    assert found.proposals == 10
    assert (found.launched, found.complete, found.stopped, found.failed, found.duplicates) == (7, 2, 2, 1, 1)
    assert found.rejected == {"static": 2, "training": 1}
    assert (found.epochs, found.full_epochs, found.finalist_epochs) == (26, 63, 9)


def test_the_account_of_no_trials() -> None:
    assert account([], 9).epochs == account([], 9).proposals == 0
