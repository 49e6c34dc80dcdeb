"""Makes trials like those read from a journal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from nas.search import EpochRecord, TrialRecord
from nas.search.records import Origin


@pytest.fixture
def trial() -> Callable[..., TrialRecord]:
    """A trial with a status and the accuracy after each epoch."""

    def make(status: str, accuracies: Sequence[float] = (), **fields: object) -> TrialRecord:
        known: Mapping[str, Any] = {
            "number": 0,
            "ended": True,
            "origin": Origin.parse(str(fields.pop("origin", "sampler"))),
            "fingerprint": "f",
            "seed": 0,
            "bracket": 0,
            "stop_epoch": 9,
            "costs": {},
            "budget": None,
            "rejected_by": None,
            "values": None,
            "duplicate_of": None,
            "reason": "",
            "params": {},
            "plan": {} if accuracies else None,
        }
        records = {epoch: EpochRecord(epoch, {"top1": top1}, 0.1, 1.0) for epoch, top1 in enumerate(accuracies, 1)}
        return TrialRecord(**{**known, "status": status, "epochs": records, **fields})

    return make
