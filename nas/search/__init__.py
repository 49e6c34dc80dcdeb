"""Decides what to train next: samplers, budget, duplicates, early stopping, repetitions. Keeps a crash-safe journal."""

from typing import TYPE_CHECKING

from search_spaces.lazy import lazily

if TYPE_CHECKING:
    from nas.search.config import SearchConfig
    from nas.search.default import Known
    from nas.search.engine import Engine, Summary
    from nas.search.journal import Journal, RunLockedError, is_journal, locked, read_study, settings_of
    from nas.search.lines import JournalError
    from nas.search.metrics import Metric, Objective
    from nas.search.records import (
        EpochRecord,
        Figure,
        Job,
        JobReport,
        Outcome,
        OutcomeKind,
        TrialRecord,
        read_trials,
    )
    from nas.search.samplers import make_sampler

__all__ = [
    "Engine",
    "EpochRecord",
    "Figure",
    "Job",
    "JobReport",
    "Journal",
    "JournalError",
    "Known",
    "Metric",
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

__getattr__, __dir__ = lazily(
    __name__,
    {
        "config": "SearchConfig",
        "default": "Known",
        "engine": "Engine Summary",
        "journal": "Journal RunLockedError is_journal locked read_study settings_of",
        "lines": "JournalError",
        "metrics": "Metric Objective",
        "records": "EpochRecord Figure Job JobReport Outcome OutcomeKind TrialRecord read_trials",
        "samplers": "make_sampler",
    },
)
