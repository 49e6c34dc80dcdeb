"""What to train next: samplers, budget, duplicates, early stopping, finalists; and a journal that outlives crashes."""

from nas.search.config import SearchConfig
from nas.search.default import Known
from nas.search.engine import Engine, Summary
from nas.search.journal import Journal, RunLockedError, is_journal, locked, read_study, settings_of
from nas.search.lines import JournalError
from nas.search.records import (
    ACCURACY,
    EpochRecord,
    Figure,
    Job,
    JobReport,
    Objective,
    Outcome,
    OutcomeKind,
    TrialRecord,
    read_trials,
)
from nas.search.samplers import make_sampler

__all__ = [
    "ACCURACY",
    "Engine",
    "EpochRecord",
    "Figure",
    "Job",
    "JobReport",
    "Journal",
    "JournalError",
    "Known",
    "Objective",
    "Outcome",
    "OutcomeKind",
    "RunLockedError",
    "SearchConfig",
    "Summary",
    "TrialRecord",
    "is_journal",
    "locked",
    "make_sampler",
    "read_study",
    "read_trials",
    "settings_of",
]
