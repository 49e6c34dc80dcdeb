"""Counts how a run's proposals ended and where its epochs were spent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.search.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Account:
    """Proposals by their outcome, and epochs by their purpose.

    ``duplicates``: proposals with a known result; they cost nothing. ``rejected``: proposals over budget, by the stage
    that found it. ``epochs``: spent on launched architectures; ``full_epochs``: needed to train all of these in full.
    ``finalist_epochs``: spent on the finalists' repetitions; the other two counts exclude them.
    """

    proposals: int
    launched: int
    complete: int
    stopped: int
    failed: int
    duplicates: int
    rejected: Mapping[str, int]
    epochs: int
    full_epochs: int
    finalist_epochs: int


def account(trials: Sequence[TrialRecord], epochs: int) -> Account:
    """The account of a run's trials; `epochs` is the full length of a trial."""
    searched = [trial for trial in trials if not trial.origin.is_finalist]
    launched = [trial for trial in searched if trial.plan is not None]
    status = Counter(trial.status for trial in launched)
    return Account(
        proposals=sum(bool(trial.fingerprint) for trial in searched),
        launched=len(launched),
        complete=status["complete"],
        stopped=status["stopped"],
        failed=status["failed"],
        duplicates=sum(trial.status == "duplicate" for trial in searched),
        rejected=Counter(trial.rejected_by for trial in searched if trial.rejected_by is not None),
        epochs=sum(len(trial.epochs) for trial in launched),
        full_epochs=epochs * len(launched),
        finalist_epochs=sum(len(trial.epochs) for trial in trials if trial.origin.is_finalist),
    )
