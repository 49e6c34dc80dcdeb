"""Records are checked when they are created and when they are read; reading returns what was written."""

import json
import math
from typing import Any

import pytest

from nas.search import EpochRecord, Job, JobReport, Outcome
from search_spaces import SearchSpace

RECORD = EpochRecord(3, {"top1": 0.5, "loss": 1.25}, 0.1, 2.0, 17, "host", 1e9)
OLD: dict[str, Any] = {"epoch": 1, "train_loss": 1.0, "val_loss": 2.0, "val_top1": 0.5, "lr": 0.1, "seconds": 1.0}


def through_json(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(data, allow_nan=False))
    return found


def test_an_epoch_is_read_as_it_was_written() -> None:
    assert EpochRecord.from_dict(through_json(RECORD.to_dict())) == RECORD


def test_a_figure_that_is_not_finite_is_null_in_the_journal() -> None:
    record = EpochRecord(1, {"top1": 0.5, "loss": math.inf}, 0.1, 1.0)
    read = EpochRecord.from_dict(through_json(record.to_dict()))
    assert read.metrics["top1"] == 0.5
    assert math.isnan(read.metrics["loss"])


def test_epochs_of_older_journals_are_read() -> None:
    record = EpochRecord.from_dict(OLD)
    assert record.metrics == {"train_loss": 1.0, "loss": 2.0, "top1": 0.5}
    assert (record.epoch, record.lr, record.seconds, record.node) == (1, 0.1, 1.0, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"epoch": 0}, "epoch"),
        ({"epoch": "1"}, "epoch"),
        ({"epoch": True}, "epoch"),
        ({"val_top1": "0.5"}, "metrics.top1"),
        ({"lr": math.nan}, "lr"),
        ({"seconds": -1.0}, "seconds"),
        ({"ended": math.inf}, "ended"),
        ({"node": 3}, "node"),
        ({"metrics": []}, "metrics"),
        ({"metrics": {"\x1b]0;owned": 1.0}}, "metrics"),
        ({"more": 1}, "more"),
    ],
)
def test_an_epoch_that_no_driver_wrote_is_refused_and_its_field_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        EpochRecord.from_dict({**OLD, **change})


def test_a_job_travels_as_json(space: SearchSpace) -> None:
    job = Job(number=7, architecture=space.plain(), start_epoch=0, stop_epoch=2, epochs=9, seed=3)
    assert Job.from_dict(through_json(job.to_dict())) == job
    for wrong in ({"number": -1}, {"stop_epoch": 0}, {"seed": 1.5}, {"architecture": {}}, {"more": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong)) if "architecture" not in wrong else "schema|skeleton"):
            Job.from_dict({**job.to_dict(), **wrong})


@pytest.mark.parametrize(
    "report",
    [
        JobReport(RECORD),
        JobReport(RECORD, Outcome("reached")),
        JobReport(outcome=Outcome("out_of_memory", "too large", "a traceback", 12)),
    ],
)
def test_a_workers_report_travels_as_json(report: JobReport) -> None:
    assert JobReport.from_dict(through_json(report.to_dict())) == report


@pytest.mark.parametrize(
    "data", [{"outcome": {"kind": "won"}}, {"outcome": "reached"}, {"record": {"epoch": 1}}, {"word": 1}, {"record": 3}]
)
def test_a_report_of_another_form_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever pydantic says of it
        JobReport.from_dict(data)
