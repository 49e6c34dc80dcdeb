"""Every proposal and every epoch is counted once."""

from collections.abc import Mapping
from typing import Any

from nas.analysis import account
from nas.search import EpochRecord, TrialRecord


def trial(status: str, epochs: int = 0, **fields: object) -> TrialRecord:
    known: Mapping[str, Any] = {
        "number": 0,
        "ended": True,
        "origin": "sampler",
        "fingerprint": "f",
        "seed": 0,
        "bracket": 0,
        "stop_epoch": 9,
        "costs": {},
        "budget": {},
        "values": None,
        "duplicate_of": None,
        "reason": "",
        "params": {},
        "plan": {} if epochs else None,
    }
    records = {e: EpochRecord(e, 1.0, 1.0, 0.5, 0.1, 1.0) for e in range(1, epochs + 1)}
    return TrialRecord(**{**known, "status": status, "epochs": records, **fields})


def test_the_account_adds_up() -> None:
    trials = [
        trial("complete", 9, origin="hand:plain"),
        trial("complete", 9),
        trial("stopped", 1),
        trial("stopped", 3),
        trial("failed", 2),
        trial("active", 1),
        trial("rejected", 1),  # out of memory in training
        trial("rejected", budget={"stage": "memory"}),
        trial("rejected", budget={"stage": "memory"}),
        trial("duplicate", duplicate_of=1),
        trial("unlaunched", fingerprint=""),
        trial("complete", 9, origin="finalist:1"),
    ]
    found = account(trials, 9)
    assert found.proposals == 10
    assert (found.launched, found.complete, found.stopped, found.failed, found.duplicates) == (7, 2, 2, 1, 1)
    assert found.rejected == {"memory": 2, "training": 1}
    assert (found.epochs, found.full_epochs, found.finalist_epochs) == (26, 63, 9)


def test_nothing_adds_up_to_nothing() -> None:
    assert account([], 9).epochs == account([], 9).proposals == 0
