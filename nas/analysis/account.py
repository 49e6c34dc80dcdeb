"""Where a run's proposals and epochs went, and what was saved."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.search.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Account:
    """Proposals by what became of them, epochs by what they were spent on.

    ``duplicates`` were known and cost nothing; ``rejected`` by the stage that found them over budget. ``full_epochs``:
    what the launched architectures would have cost at full length; ``epochs``: what they did cost;
    ``finalist_epochs``: of the repetitions, in neither.
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
    """Adds up a run's trials; `epochs` is the proxy's full length."""
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
